"""Monotonic time and deadlines, replaceable in tests.

Nothing in dragoman asks the wall clock when something is due: a clock moved by a day expires
nothing. Compiled code reads the same clock (``CLOCK_MONOTONIC``) through ``dragoman.timers``.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What code that needs the time asks for."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, never going back."""
        ...


class SystemClock:
    """The machine's ``CLOCK_MONOTONIC``."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, never going back."""
        return time.monotonic()


class ManualClock:
    """A clock that tests move by hand."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def monotonic(self) -> float:
        """The time it was last moved to, in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds`` (not negative)."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back: {seconds}")
        self._now_s += seconds


SYSTEM_CLOCK = SystemClock()
