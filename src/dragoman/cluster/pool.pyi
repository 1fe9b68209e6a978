import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import TypeVar

from dragoman.cluster.member import Listed
from dragoman.cluster.service import Service
from dragoman.cluster.statistics import PoolStatistics
from dragoman.errors import DragomanError

T = TypeVar("T")
Body = bytes | bytearray | memoryview

class Pool:
    """All servers of one service. Get one from ``cluster.connect``; not thread-safe, like its
    loop."""

    name: str
    known: bool
    closed: bool
    replies: int
    failures: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        *,
        timeout_ms: float | None = None,
        create_future: Callable[[], object] | None = None,
    ) -> None: ...
    def call(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> asyncio.Future[bytes]:
        """Call ``method`` with ``body`` on one of the servers; returns a future of the reply.

        The future fails with a DragomanError; ``retry_safe`` tells whether the call certainly never
        ran. Cancelling the future withdraws the call. ``timeout_ms`` bounds the whole call, with
        waiting and retries (None: no bound); calls with the same ``order_key`` go to one server
        while it lives, and are handled in the order made. Raises UsageError for arguments that
        cannot be sent, and nothing else.
        """

    def call_soon(
        self,
        method: str,
        body: Body,
        callback: Callable[[bytes | None, DragomanError | None], object],
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """``call`` without a future: ``callback(reply, error)`` is called once, one of the two is
        None."""

    def call_many(
        self,
        method: str,
        bodies: Iterable[Body],
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> asyncio.Future[list[bytes]]:
        """Call ``method`` once for each of ``bodies``; returns one future of the list of replies,
        in the order of ``bodies``. It fails with BatchError if any call failed."""

    def notify(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Have ``method`` run with ``body`` on one of the servers, without a reply."""

    def map(
        self,
        method: str,
        bodies: Iterable[Body] | AsyncIterable[Body],
        *,
        in_flight: int = 100,
        timeout_ms: float | None = ...,
    ) -> AsyncGenerator[bytes]:
        """Iterate over the replies to ``bodies``, in their order, with at most ``in_flight`` calls
        under way."""

    def service(
        self,
        declared: Callable[..., T],
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = ...,
        metadata: Mapping[str, str] | None = ...,
    ) -> T:
        """An object with the methods of the service that the class ``declared`` declares (see
        ``rpc.service``), to be awaited: each call goes to a server of its own choice. The options
        are those of its calls; ``rpc.with_options`` changes them. Raises UsageError if ``declared``
        declares no service."""

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
    async def __aenter__(self) -> Pool: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def statistics(self) -> PoolStatistics:
        """The pool's counters now, as a frozen PoolStatistics."""
