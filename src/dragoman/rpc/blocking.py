"""Every style of calling, blocking and from any thread: what ``rpc.SyncClient`` and
``cluster.SyncPool`` have in common.

The calls go into the ``Inbox`` of a ``LoopThread``, and from there to the client or the pool.

Invariant: a call that is given up here, by an exception or the end of an iteration, is withdrawn.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.rpc.arguments import check_map, listed
from dragoman.rpc.client import DEFAULT
from dragoman.rpc.inbox import Waiter
from dragoman.rpc.loop_thread import CallFuture, K, OnLoopThread
from dragoman.rpc.stub import UNSET, sync_stub

if TYPE_CHECKING:
    from dragoman.rpc.client import Body

T = TypeVar("T")
_default: Any = DEFAULT


class BlockingCalls(OnLoopThread[K]):
    """The calls; thread-safe."""

    def call(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """Call ``method`` with ``body`` and wait for the reply.

        The errors and options are those of the asynchronous ``call``. What interrupts the waiting,
        as Ctrl-C does, withdraws the call.
        """
        return self._inbox.call(method, body, timeout_ms, order_key, metadata)

    def call_many(
        self,
        method: str,
        bodies: Iterable[Body],
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[bytes]:
        """Call ``method`` once for each of ``bodies``; the replies, in the order of ``bodies``.
        Raises BatchError if any call failed."""
        return self._inbox.call_many(method, listed(bodies), timeout_ms, order_key, metadata)

    def call_future(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> concurrent.futures.Future[bytes]:
        """Begin a call; returns a future for threads. Cancelling it withdraws the call. Its
        callbacks run on the client's thread, and must not wait for calls there."""
        future = CallFuture()
        self._inbox.submit(future, method, body, timeout_ms, order_key, metadata)
        return future

    def notify(
        self,
        method: str,
        body: Body = b"",
        *,
        timeout_ms: float | None = _default,
        order_key: bytes | str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Have ``method`` run with ``body``, without a reply (see the asynchronous one)."""
        self._inbox.notify(method, body, timeout_ms, order_key, metadata)

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
        check_map(bodies, in_flight, asynchronous=False)
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
        metadata: Mapping[str, str] | None = UNSET,
    ) -> T:
        """An object with the methods of the service that the class ``declared`` declares, which
        wait for their results (see ``rpc.service``). For type checkers declare a ``Protocol`` with
        plain methods. The options are those of its calls; ``rpc.with_options`` changes them."""
        stub: T = sync_stub(self, declared, timeout_ms, order_key, metadata)
        return stub
