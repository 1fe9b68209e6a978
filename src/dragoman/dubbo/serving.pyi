import asyncio
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from dragoman.dubbo.declaration import Declaration
from dragoman.dubbo.request import RequestInfo, ServerStatistics

class BoundService:
    """An object whose methods are served; ``declaration`` says how."""

    interface: str
    version: str
    group: str
    methods: list[str]
    def __init__(
        self,
        declaration: Declaration,
        instance: Any,
        *,
        threads: bool,
        version: str | None = None,
        group: str | None = None,
    ) -> None: ...

class Provider:
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
        clients_max: int = 100000,
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

def generalized(value: Any) -> Any:
    """A value as generic callers get it: beans as maps with their class under ``class``."""

def throwable_of(error: BaseException, generic: bool = False) -> Any:
    """The Java exception that an exception of Python travels as, a Bean."""
