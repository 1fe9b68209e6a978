import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dragoman.cluster.member import Listed
from dragoman.cluster.service import Service
from dragoman.cluster.statistics import PoolStatistics
from dragoman.rpc.client_base import ClientBase

class Pool(ClientBase):
    """All servers of one service. Get one from ``cluster.connect``; not thread-safe, like its
    loop."""

    name: str
    known: bool
    closed: bool
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        *,
        timeout_ms: float | None = None,
        create_future: Callable[[], object] | None = None,
    ) -> None: ...
    def unread(self, why: Callable[[], str]) -> None:
        """Have ``why()`` say why the registry has not told who serves, until it has."""

    def update(self, endpoints: Sequence[Listed]) -> None:
        """The servers there are from now on."""

    def ready(self) -> tuple[int, int]:
        """How many servers are connected, and how many are still being connected to."""

    def reasons(self) -> dict[str, str]:
        """Why servers are not connected: the address and the reason of each."""

    def on_close(self, closing: Callable[[], Awaitable[object]]) -> None:
        """Have ``closing()`` awaited first of all when the pool is closed."""

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close all connections, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail."""

    def _told(self) -> str: ...
    def statistics(self) -> PoolStatistics:
        """The pool's counters now, as a frozen PoolStatistics."""
