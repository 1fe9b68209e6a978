"""Ctrl-C and SIGTERM as a flag that every wait looks at.

Called by all that waits in ``harness`` and in ``race``. The invariant: a signal never breaks into
the middle of a step (between a process's start and its being noted, say); it ends the next wait
with Interrupted. Clean-up waits by other means, bounded, so that a second Ctrl-C cannot leave a
process behind.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from dragoman.errors import DragomanError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(DragomanError):
    """The user or the system asked the race to end."""


class Interruption:
    """Context manager that holds the signals' handlers and offers waits that a signal ends.

    Outside the main thread it installs nothing and only ``request`` sets it.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.request(f"interrupted by {signal.Signals(number).name}")

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self._event.is_set()

    def request(self, reason: str) -> None:
        """Ask the race to end at its next wait; ``reason`` becomes the error's line."""
        if not self._event.is_set():
            self._reason = reason
            self._event.set()

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self._event.is_set():
            raise Interrupted(self._reason)

    def sleep(self, seconds: float) -> None:
        """Sleep, unless a signal comes: then raise Interrupted at once."""
        self.check()
        self._event.wait(seconds)
        self.check()

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, poll_s: float = 0.01) -> bool:
        """Ask ``ready`` every ``poll_s`` for at most ``timeout_s``; whether it became true."""
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() >= deadline_s:
                return False
            self.sleep(poll_s)
        return True
