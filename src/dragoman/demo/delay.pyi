import asyncio

class Owner:
    """Whom a DelayLine hands back what was put in."""

class DelayLine:
    """A queue whose entries come back to their owners ``delay_ns`` after they were put in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_ns: int) -> None: ...
    def fire(self) -> None:
        """Called by the loop when the head is due."""

    def __len__(self) -> int: ...
    def close(self) -> None:
        """Stop the timer and forget what still waits."""
