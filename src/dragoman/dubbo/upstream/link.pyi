import asyncio
from collections.abc import Callable

from dragoman.budget import Budget
from dragoman.dubbo.upstream.connection import KeptLink, ProviderState
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff

Made = Callable[[], asyncio.BaseProtocol]
MakeLink = Callable[[Address, Made, Callable[[str], None], Backoff], KeptLink]

class DubboLink(ProviderState):
    """A provider; ``connections`` are those that are up, ``on_change()`` hears of changes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        on_change: Callable[[], object],
        count: int = 1,
        heartbeat_s: float = 60.0,
        make_link: MakeLink | None = None,
        budget: Budget | None = None,
    ) -> None: ...
    def start(self) -> None:
        """Begin connecting."""
    def leave(self) -> None:
        """Close all connections, and connect no more until ``start``: the provider has said that it
        is about to stop. Calls under way are lost."""
    async def close(self) -> None:
        """Stop reconnecting and close."""
    @property
    def stopping(self) -> bool:
        """Whether the provider has said that it is about to stop, on all its connections."""
    @property
    def idle(self) -> bool:
        """Whether no call is under way on any connection."""
    @property
    def silent(self) -> bool:
        """Whether it has fallen silent, on every connection that is up."""

    @property
    def usable(self) -> bool:
        """Whether some connection is up and its provider takes requests."""
