"""The synchronous client: blocking calls from any thread over one connection.

``connect_sync`` makes one. A ``Client`` lives on a loop of its own in a thread of its own (a
daemon, see ``rpc.loop_thread``).

Invariants: every call ends once, at the latest when the client is closed; the thread ends with
``close``, with the last reference to the client, or with the interpreter.
"""

from __future__ import annotations

import concurrent.futures
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dragoman.errors import UsageError
from dragoman.forking import foreign
from dragoman.rpc.address import Address
from dragoman.rpc.client import DEFAULT, Client
from dragoman.rpc.inbox import Waiter
from dragoman.rpc.loop_thread import CallFuture, LoopThread
from dragoman.rpc.opening import CONNECT_TIMEOUT_MS
from dragoman.rpc.options import MIB, ClientOptions
from dragoman.rpc.statistics import ClientStatistics
from dragoman.rpc.stub import UNSET, sync_stub
from dragoman.rpc.turn import turn_of

if TYPE_CHECKING:
    from dragoman.rpc.client import Body

T = TypeVar("T")
_default: Any = DEFAULT


def connect_sync(
    address: str | Address,
    *,
    timeout_ms: int | None = None,
    on_full: Literal["fail", "wait"] = "wait",
    calls_max: int = 100_000,
    bytes_max: int = 256 * MIB,
    waiting_max: int = 100_000,
    waiting_bytes_max: int = 256 * MIB,
    buffers_bytes_max: int = 256 * MIB,
    body_bytes_max: int = 64 * MIB,
    heartbeat_ms: int = 5000,
    reconnect: bool = True,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> SyncClient:
    """Connect to the server at ``address`` for blocking calls from any thread; close the client
    when done with it, or use it in ``with``.

    The options are those of ``connect``, and so are the errors raised.
    """
    options = ClientOptions(
        address=address if isinstance(address, Address) else Address.parse(address),
        timeout_ms=timeout_ms,
        on_full=on_full,
        calls_max=calls_max,
        bytes_max=bytes_max,
        waiting_max=waiting_max,
        waiting_bytes_max=waiting_bytes_max,
        buffers_bytes_max=buffers_bytes_max,
        body_bytes_max=body_bytes_max,
        heartbeat_ms=heartbeat_ms,
        reconnect=reconnect,
        tls=tls,
        server_hostname=server_hostname,
    )
    return SyncClient(options, connect_timeout_ms)


class SyncClient:
    """A connection to a server for blocking calls; get one from ``rpc.connect_sync``. Thread-safe.

    After a fork it belongs to the parent: in the child every call raises UsageError, and the child
    connects anew.
    """

    def __init__(self, options: ClientOptions, connect_timeout_ms: int) -> None:
        self.address = options.address
        self._core = LoopThread(
            str(options.address), lambda loop, create: Client(loop, options, create)
        )
        self._core.start(connect_timeout_ms)
        self._inbox = self._core.inbox
        # With the last reference, or with the interpreter.
        weakref.finalize(self, self._core.stop, 0)

    def call(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
    ) -> bytes:
        """Call ``method`` with ``body`` and wait for the reply.

        The errors and options are those of ``Client.call``. What interrupts the waiting, as Ctrl-C
        does, withdraws the call.
        """
        return self._inbox.call(method, body, timeout_ms, order_key)

    def call_many(
        self,
        method: str,
        bodies: Iterable[Body],
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
    ) -> list[bytes]:
        """Call ``method`` once for each of ``bodies``; the replies, in the order of ``bodies``.
        Raises BatchError if any call failed."""
        return self._inbox.call_many(method, list(bodies), timeout_ms, order_key)

    def call_future(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
    ) -> concurrent.futures.Future[bytes]:
        """Begin a call; returns a future for threads. Cancelling it withdraws the call. Its
        callbacks run on the client's thread, and must not wait for calls there."""
        future = CallFuture()
        self._inbox.submit(future, method, body, timeout_ms, order_key)
        return future

    def notify(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
    ) -> None:
        """Have ``method`` run with ``body``, without a reply (see ``Client.notify``)."""
        self._inbox.notify(method, body, timeout_ms, order_key)

    def map(
        self,
        method: str,
        bodies: Iterable[Body],
        *,
        in_flight: int = 100,
        timeout_ms: float | None = _default,
    ) -> Iterator[bytes]:
        """Iterate over the replies to ``bodies``, in their order, with at most ``in_flight`` calls
        under way: bodies are taken only as replies are taken here. A call that fails raises its
        error in its place; ending the iteration withdraws what is under way."""
        if type(in_flight) is not int or in_flight < 1:
            raise UsageError(f"in_flight: expected a number from 1, not {in_flight!r}")
        return self._replies(method, bodies, in_flight, timeout_ms)

    def _replies(
        self, method: str, bodies: Iterable[Body], in_flight: int, timeout_ms: Any
    ) -> Iterator[bytes]:
        under_way: deque[Waiter] = deque()
        try:
            for body in bodies:
                if len(under_way) == in_flight:
                    yield under_way.popleft().wait()
                under_way.append(self._inbox.start(method, body, timeout_ms, None))
            while under_way:
                yield under_way.popleft().wait()
        finally:
            for waiter in under_way:
                waiter.cancel()

    def service(
        self,
        declared: Callable[..., T],
        *,
        timeout_ms: float | None = UNSET,
        order_key: bytes | str | None = UNSET,
    ) -> T:
        """An object with the methods of the service that the class ``declared`` declares, which
        wait for their results (see ``rpc.service``). For type checkers declare a ``Protocol`` with
        plain methods. The options are those of its calls; ``rpc.with_options`` changes them."""
        stub: T = sync_stub(self, declared, timeout_ms, order_key)
        return stub

    def statistics(self) -> ClientStatistics:
        """The client's counters now."""
        if turn_of(self._core.loop).foreign:
            raise foreign(f"the client of {self.address}")
        return self._core.client.statistics()

    @property
    def closed(self) -> bool:
        """Whether the client has been closed, or has lost its only connection."""
        return self._core.closed or self._core.client.closed

    def close(self, *, drain_ms: int = 5000) -> None:
        """Close the connection, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail with LinkLost, and so do
        calls made later. The client's thread ends."""
        self._core.stop(drain_ms)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error of the caller's own nobody waits for what is under way.
        self.close(drain_ms=5000 if kind is None else 0)
