import asyncio

from dragoman.errors import UsageError
from dragoman.timers import Timed, Wheel

READ_BYTES: int

class Gathering(Timed):
    """Something that gathers writes during a tick."""

class Tick:
    """The state shared by everything on one loop. Get it with ``tick_of(loop)``."""

    closing: set[asyncio.Transport]
    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    foreign: bool
    read_view: memoryview
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def check(self, what: str) -> None:
        """Raise UsageError where ``what``, which lives on the loop, must not be used."""

    def misplaced(self, what: str) -> UsageError:
        """The error of whoever uses ``what``, which lives on the loop, where it must not."""

def tick_of(loop: asyncio.AbstractEventLoop) -> Tick:
    """The one ``Tick`` of ``loop``."""
