import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from dragoman.errors import DragomanError
from dragoman.rpc.address import Address
from dragoman.rpc.calls import Account
from dragoman.rpc.options import ClientOptions
from dragoman.rpc.statistics import ClientStatistics

T = TypeVar("T")

DEFAULT: int
Body = bytes | bytearray | memoryview

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
    def call(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> asyncio.Future[bytes]:
        """Call ``method`` with ``body``; returns a future of the reply.

        The future fails with a DragomanError; ``retry_safe`` tells whether the call certainly never
        ran. Cancelling the future withdraws the call. ``timeout_ms`` bounds the whole call and
        travels to the server (None: no bound); calls with the same ``order_key`` are handled in the
        order made. Raises UsageError for arguments that cannot be sent, and nothing else.
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
        in the order of ``bodies``. It fails with BatchError if any call failed, or with the error
        itself if nothing was sent."""

    def notify(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = ...,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Have ``method`` run with ``body``, without a reply."""

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
        ``rpc.service``), to be awaited. The options are those of its calls; ``rpc.with_options``
        changes them. Raises UsageError if ``declared`` declares no service."""

    async def start(self, timeout_ms: int) -> None:
        """Connect; used by ``rpc.connect``."""

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close the connection, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail with LinkLostError."""

    def _told(self) -> str: ...
    async def __aenter__(self) -> Client: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def statistics(self) -> ClientStatistics:
        """The client's counters now, as a frozen ClientStatistics."""
