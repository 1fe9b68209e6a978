from asyncio import AbstractEventLoop, Protocol

class InvokePool:
    """The demo consumer's connections to the agent, and the requests that wait for one."""

    requests: int
    right: int
    wrong: int
    failed: int
    def __init__(
        self, host: str, port: int, *, connections_max: int = 4096, timeout_s: float = 30.0
    ) -> None: ...
    def start(self, loop: AbstractEventLoop) -> None:
        """Begin to watch for requests that take too long."""

    def close(self) -> None:
        """Close every connection at once."""

    async def wait_closed(self) -> None:
        """Wait until every connection is gone, after ``close``."""

    def accept(self) -> Protocol:
        """The protocol for a new connection of a client."""

    def statistics(self) -> dict[str, int]:
        """The counters and the connections there are."""
