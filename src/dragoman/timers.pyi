import asyncio
from collections.abc import Callable

class Timed:
    """Something that may be due."""

class Wheel:
    """The timers of one loop. Not thread-safe, like its loop."""

    armed: int
    closed: bool
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def close(self) -> None:
        """Stop driving the wheel; nothing more fires."""

def call_at_us(wheel: Wheel, due_us: int, callback: Callable[[], object]) -> Timed:
    """Arm a callback; returns the ``Timed`` to pass to ``cancel``. For cold paths and tests."""

def cancel(timed: Timed) -> None:
    """Disarm what ``call_at_us`` returned."""

def move(wheel: Wheel, timed: Timed, due_us: int) -> None:
    """Arm ``timed`` anew for another time, whether it is armed now or not."""

def clock_us(wheel: Wheel) -> int:
    """The wheel's time in microseconds."""
