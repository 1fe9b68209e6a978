"""Log lines of exceptions that nobody expected: the type, and where it came from.

Its text is left out, for it may quote what was at hand: a caller's argument, a provider's result, a
service's own data. Whoever needs the text meets it where the exception goes, as the error of that
call. Used wherever a fault is logged instead of being raised on.
"""

from __future__ import annotations

import logging
import traceback

FRAMES_SHOWN = 6


def place_of(error: BaseException) -> str:
    """``KeyError (b.py:7 in inner < a.py:3 in outer)``: the type, and the innermost place first."""
    frames = traceback.extract_tb(error.__traceback__, limit=-FRAMES_SHOWN)
    places = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}" for frame in frames
    ]
    name = type(error).__name__
    return f"{name} ({' < '.join(reversed(places))})" if places else name


def log_fault(logger: logging.Logger, error: BaseException, message: str, *args: object) -> None:
    """Log an error with ``message``, and the type and place of ``error``."""
    logger.error(message + ": %s", *args, place_of(error))
