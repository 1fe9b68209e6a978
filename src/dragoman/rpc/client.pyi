import asyncio
from collections.abc import Callable

from dragoman.rpc.address import Address
from dragoman.rpc.calls import Account
from dragoman.rpc.client_base import Body as Body
from dragoman.rpc.options import ClientOptions
from dragoman.rpc.statistics import ClientStatistics

DEFAULT: int

class Client(Account):
    """A connection to a server. Get one from ``rpc.connect``; not thread-safe, like its loop."""

    address: Address
    closed: bool
    reason: str | None
    connections: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: ClientOptions,
        create_future: Callable[[], object] | None = None,
    ) -> None: ...
    async def start(self, timeout_ms: int) -> None:
        """Connect; used by ``rpc.connect``."""

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close the connection, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail with LinkLostError."""

    def _told(self) -> str: ...
    def statistics(self) -> ClientStatistics:
        """The client's counters now, as a frozen ClientStatistics."""
