"""Log lines that repeat are counted, not written.

``observe.logs`` puts a ``RepeatFilter`` before its handler. A *kind* of line is where it comes
from and its message before the arguments are filled in, so that ten thousand peers that do the same
wrong thing are one kind; ``extra={"kind": ...}`` tells kinds apart within one message.

The invariant: of each kind at most ``LINES_MAX`` lines and one that counts the rest leave in a
window of ``WINDOW_S``, whatever peers do; the kinds held are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

LINES_MAX: Final = 10
WINDOW_S: Final = 10.0
KINDS_MAX: Final = 1024


class _Kind:
    __slots__ = ("last", "suppressed", "written")

    def __init__(self) -> None:
        self.written = 0
        self.suppressed = 0
        self.last: logging.LogRecord | None = None


class RepeatFilter(logging.Filter):
    """Lets the first ``LINES_MAX`` lines of each kind through and counts the rest.

    ``emit`` writes a record past this filter: the line that counts. ``now`` is the monotonic time
    in seconds.
    """

    def __init__(
        self,
        emit: Callable[[logging.LogRecord], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._emit = emit
        self._now = now
        self._kinds: dict[tuple[str, int, object, object], _Kind] = {}
        self._window_ends = now() + WINDOW_S
        self._timer_set = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is written."""
        if self._now() >= self._window_ends:
            self.end_window()
        key = (record.name, record.levelno, record.msg, getattr(record, "kind", None))
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                self.end_window()
            kind = self._kinds[key] = _Kind()
        if kind.written < LINES_MAX:
            kind.written += 1
            return True
        kind.suppressed += 1
        kind.last = record
        if not self._timer_set:
            # In a thread without a loop the count is written with the next line after the window.
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                loop.call_later(max(0.0, self._window_ends - self._now()), self.end_window)
                self._timer_set = True
        return False

    def end_window(self) -> None:
        """Write how many lines of each kind were left out, and begin to count anew."""
        self._timer_set = False
        kinds, self._kinds = self._kinds, {}
        self._window_ends = self._now() + WINDOW_S
        for kind in kinds.values():
            if kind.last is not None:
                last = kind.last
                last.msg = f"{kind.suppressed} more lines like this one: {last.getMessage()}"
                last.args = None
                self._emit(last)
