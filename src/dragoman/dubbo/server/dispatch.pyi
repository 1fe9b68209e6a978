import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor

from dragoman.budget import Budget
from dragoman.dubbo.server.binding import BoundService
from dragoman.dubbo.types.info import RequestInfo, ServerStatistics

class Dispatcher:
    """What a server's connections share: the services, the pool and the counters."""

    limit: int
    draining: bool
    in_progress: int
    requests: int
    open_connections: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        services: Iterable[BoundService],
        *,
        limit: int,
        executor: Executor | None = None,
        payload_bytes_max: int = 8388608,
        idle_s: float = 180.0,
        budget: Budget | None = None,
        clients_max: int = 100000,
        values_max: int = 200000,
    ) -> None: ...
    def connection(self) -> asyncio.Protocol:
        """A protocol for one more connection."""

    def announce_stop(self) -> None:
        """Tell every connection that this provider is about to stop (the event ``R``)."""

    def close(self, *, at_once: bool = False) -> None:
        """Close every connection, once what has been written is sent, or at once; calls at work go
        on, but nobody hears of them."""

    def set_limit(self, limit: int) -> None:
        """From now on have at most ``limit`` calls in progress."""

    def statistics(self) -> ServerStatistics:
        """The counters now."""

def current_request() -> RequestInfo:
    """What a method may know of the request that it answers.

    Works in the method itself and in whatever it awaits or starts. Raises UsageError elsewhere.
    """
