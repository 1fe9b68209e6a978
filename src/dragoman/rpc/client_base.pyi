import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar

from dragoman.errors import DragomanError
from dragoman.rpc.client_session import SessionOwner

T = TypeVar("T")
Body = bytes | bytearray | memoryview

class ClientBase(SessionOwner):
    """What a client and a pool have in common: every style of calling."""

    loop: asyncio.AbstractEventLoop
    replies: int
    failures: int
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
        ran. Cancelling the future withdraws the call. ``timeout_ms`` bounds the whole call, with
        waiting and retries, and travels to the server (None: no bound); calls with the same
        ``order_key`` are handled in the order made, those of a pool on one server while it lives.
        Raises UsageError for arguments that cannot be sent, and nothing else.
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
        ``rpc.service``), to be awaited; a pool sends each call to a server of its own choice. The
        options are those of its calls; ``rpc.with_options`` changes them. Raises UsageError if
        ``declared`` declares no service."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
