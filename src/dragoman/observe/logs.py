"""Logging: one line an event to stderr, whatever the message or the traceback holds.

Set up once by the command line (and by each worker process); the rest of dragoman only asks
``logging.getLogger("dragoman.<part>")``. The invariant: no line holds a line break or a control
character, nor a password that stands in a URL, nor an exception's text (``observe.faults``);
lines that repeat are counted (``observe.repeats``).
"""

from __future__ import annotations

import logging
import re
import sys
import time
from contextlib import nullcontext
from typing import Final, TextIO

from dragoman.errors import UsageError
from dragoman.observe.faults import place_of
from dragoman.observe.repeats import RepeatFilter

LEVELS: Final = ("debug", "info", "warning", "error")

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+:[^\s/]*@")
_SECRET_FIELD = re.compile(
    r"(?i)\b(password|passwd|token|secret|authorization)(\s*[=:]\s*)(bearer\s+)?\S+"
)


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z info consumer[1] registry: message``."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        part = record.name.removeprefix("dragoman.")
        message = redact(record.getMessage())
        if record.name == "asyncio":
            # The lines that follow show objects, tasks with their exceptions among them.
            message = message.partition("\n")[0]
        if record.exc_info and record.exc_info[1] is not None:
            # Libraries and the loop itself: what they caught may quote anybody's values.
            message += "; " + place_of(record.exc_info[1])
        message = _CONTROL.sub(lambda match: repr(match.group())[1:-1], message)
        level = record.levelname.lower()
        return f"{now}.{int(record.msecs):03d}Z {level} {self._program} {part}: {message}"


def redact(text: str) -> str:
    """``text`` without the credentials of URLs and the values of fields that are called secrets."""
    text = _CREDENTIALS.sub("***@", text)
    return _SECRET_FIELD.sub(r"\1\2***", text)


def set_up_logging(level: str, program: str, stream: TextIO | None = None) -> None:
    """Send everything of ``level`` and above to ``stream`` (stderr), as ``program``.

    Called again it replaces what it set up before. Raises UsageError for an unknown level.
    """
    if level not in LEVELS:
        raise UsageError(f"log level {level!r}: expected one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(program))

    def write(record: logging.LogRecord) -> None:
        with handler.lock or nullcontext():
            handler.emit(record)

    handler.addFilter(RepeatFilter(write))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What libraries log a request or a connection is not for an operator.
    for noisy in ("aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
