import asyncio
from collections.abc import Callable

from dragoman.budget import Budget
from dragoman.cluster.dialing import DialedLink
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.link import Link

Made = Callable[[], asyncio.BaseProtocol]
KeptLink = Link | DialedLink
MakeLink = Callable[[Address, Made, Callable[[str], None], Backoff], KeptLink]

GREETED: str

class Greeter:
    """Has the first word on a link's connections."""

class DubboConnection(asyncio.Protocol):
    """One connection to a provider."""

    inflight: int
    closed: bool
    readonly_event: bool
    silent: bool
    def close(self) -> None:
        """Close the connection; calls on it are lost."""

class DubboLink:
    """A provider; ``connections`` are those that are up, ``on_change()`` hears of changes."""

    host: str
    port: int
    budget: Budget
    connections: list[DubboConnection]
    greeted: list[DubboConnection]
    greeter: Greeter | None
    links: list[KeptLink]
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
        make_link: Callable[[Address, Made, Callable[[str], None], Backoff], KeptLink]
        | None = None,
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
