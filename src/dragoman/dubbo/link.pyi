import asyncio
from collections.abc import Callable

from dragoman.rpc.link import Link

class DubboConnection(asyncio.Protocol):
    """One connection to a provider."""

    inflight: int
    closed: bool
    readonly_event: bool
    def close(self) -> None:
        """Close the connection; calls on it are lost."""

class DubboLink:
    """A provider; ``connections`` are those that are up, ``on_change()`` hears of changes."""

    host: str
    port: int
    connections: list[DubboConnection]
    links: list[Link]
    reason: str | None
    unknown_replies: int
    protocol_errors: int
    losses: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        on_change: Callable[[], object],
        count: int = 1,
        heartbeat_s: float = 60.0,
    ) -> None: ...
    def start(self) -> None:
        """Begin connecting."""
    async def close(self) -> None:
        """Stop reconnecting and close."""
    @property
    def usable(self) -> bool:
        """Whether some connection is up and its provider takes requests."""
