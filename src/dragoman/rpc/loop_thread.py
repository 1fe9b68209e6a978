"""A loop in a thread of its own, for blocking callers: what synchronous clients share.

``rpc.sync`` and ``dubbo.client.sync`` put a client onto such a loop. The calls of all threads
gather in its ``Inbox``, so that many threads share one write, and that deadlines, limits, credits,
order and reconnection are those of the client.

Invariants: every call ends once, at the latest when the client is closed; the thread ends with
``stop``, or with the interpreter.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import BuiltinFunctionType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import uvloop

from dragoman.errors import DragomanError, LinkLostError, UsageError
from dragoman.forking import foreign
from dragoman.observe.faults import log_fault
from dragoman.options import milliseconds
from dragoman.rpc.inbox import Inbox
from dragoman.rpc.tick import tick_of
from dragoman.unclosed import warn

log = logging.getLogger("dragoman.rpc")

# What closes in the background may take so long.
FINISH_S = 1.0


class Kept(Protocol):
    """The client that a ``LoopThread`` keeps. It has what ``Inbox`` calls too."""

    async def start(self, timeout_ms: int) -> None:
        """Connect."""

    async def close(self, *, drain_ms: int) -> None:
        """Let what is under way end, and close."""


class CallFuture(concurrent.futures.Future[Any]):
    """The future of a call. It can be cancelled until it has ended; what comes later is dropped."""

    def cancel(self) -> bool:
        """See ``concurrent.futures.Future``; the server is told within about 20 ms."""
        if not super().cancel():
            return False
        with contextlib.suppress(concurrent.futures.InvalidStateError, RuntimeError):
            self.set_running_or_notify_cancel()
        return True

    def set_result(self, result: Any) -> None:
        """Used by the client."""
        with self._callbacks():
            super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """Used by the client."""
        with self._callbacks():
            super().set_exception(exception)

    @contextlib.contextmanager
    def _callbacks(self) -> Iterator[None]:
        # Nothing that a callback raises may end the thread, nor the calls of others.
        try:
            yield
        except concurrent.futures.InvalidStateError:
            pass
        except BaseException as error:
            log_fault(log, error, "a callback of a call's future raised")


def check_threads() -> None:
    """Raise UsageError where threads are none: greenlets in their place (gevent, eventlet) would
    never run beside a loop."""
    if not isinstance(threading._start_new_thread, BuiltinFunctionType):  # type: ignore[attr-defined]
        raise UsageError(
            "a blocking client needs a thread, and threading is patched to start none, as by "
            "gevent's monkey.patch_all(): patch without threads, patch_all(thread=False), or use "
            "the asynchronous client (connect) on a loop in a process of its own"
        )


K = TypeVar("K", bound=Kept)
T = TypeVar("T")


class LoopThread(Generic[K]):
    """The loop, its thread and the client on it; what the thread holds instead of the object that
    its user has, so that this can be let go.

    ``make(loop, inbox.create_future)`` gives the client; ``endpoint`` is what it is connected to,
    ``what`` what it is, for messages. ``refusal()`` is the error of calls after it was closed.
    """

    def __init__(
        self,
        endpoint: str,
        make: Callable[[asyncio.AbstractEventLoop, Callable[[], Any]], K],
        *,
        what: str | None = None,
        refusal: Callable[[], DragomanError] | None = None,
    ) -> None:
        check_threads()
        self.endpoint = endpoint
        self.what = what or f"the client of {endpoint}"
        self._refusal = refusal or self._lost
        self.loop = uvloop.new_event_loop()
        self.inbox = Inbox(self.loop)
        self.client = make(self.loop, self.inbox.create_future)
        self.closed = False
        self._forked = False
        self._stopping = threading.Lock()
        # Held while work is given to the loop: none comes after ``closed``.
        self._giving = threading.Lock()
        self._works: set[concurrent.futures.Future[Any]] = set()
        self._thread = threading.Thread(
            target=self._run, name=f"dragoman-rpc {self.endpoint}", daemon=True
        )
        _threads.add(self)

    def start(self, timeout_ms: int) -> None:
        """Start the thread and connect; ends the thread if that fails."""
        if sys.is_finalizing():
            raise UsageError("a client cannot be made while the interpreter ends")
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._connect(timeout_ms), self.loop).result()
        except BaseException:
            self.stop(0)
            raise

    async def _connect(self, timeout_ms: int) -> None:
        # What the inbox calls may be there only once it has started.
        await self.client.start(timeout_ms)
        self.inbox.bind(self.client)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()
            self.inbox.end()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have ``work`` done on the loop, and wait for it. Raises UsageError when the client is
        closed, also by another thread meanwhile."""
        try:
            # Before any lock: of a lock's state nothing is known after a fork.
            if self._forked:
                raise foreign(self.what)
            if threading.current_thread() is self._thread:
                raise UsageError("a callback on the client's own thread cannot wait for a call")
            with self._giving:
                if self.closed:
                    raise UsageError("the client is closed")
                future = asyncio.run_coroutine_threadsafe(work, self.loop)
                self._works.add(future)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UsageError("the client is closed") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._works.discard(future)

    def stop(self, drain_ms: int) -> None:
        """Close the client and end the thread; whoever calls this too waits for it."""
        if self._forked:
            return
        if threading.current_thread() is self._thread:
            # In a callback there: the thread cannot wait for itself.
            if not self.closed:
                self._refuse()
                self._ending = self.loop.create_task(self._close_and_stop(drain_ms))
            return
        with self._stopping:
            if not self.closed:
                self._refuse()
                self.loop.call_soon_threadsafe(self._begin_to_stop, drain_ms)
            self._thread.join()

    def _refuse(self) -> None:
        with self._giving:
            self.closed = True
        self.inbox.close(self._refusal)

    def _lost(self) -> DragomanError:
        return LinkLostError(f"{self.what} is closed", endpoint=self.endpoint, retry_safe=True)

    def _begin_to_stop(self, drain_ms: int) -> None:
        self._ending = self.loop.create_task(self._close_and_stop(drain_ms))

    async def _close_and_stop(self, drain_ms: int) -> None:
        try:
            await self.client.close(drain_ms=drain_ms)
            for future in list(self._works):
                future.cancel()
            await self._finish_tasks()
            await self._finish_writing()
        finally:
            self.loop.stop()

    async def _finish_tasks(self) -> None:
        """Wait for what closes in the background, before the loop ends."""
        until_s = self.loop.time() + FINISH_S
        while self.loop.time() < until_s:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if not others:
                return
            await asyncio.wait(others, timeout=until_s - self.loop.time())

    async def _finish_writing(self) -> None:
        """Let what was written leave, or give it up, before the loop ends."""
        until_s = self.loop.time() + FINISH_S
        closing = tick_of(self.loop).closing
        while closing and self.loop.time() < until_s:
            await asyncio.sleep(0.005)
        for transport in list(closing):
            transport.abort()
        # It is told of its end in the next iteration.
        await asyncio.sleep(0)

    def forked(self) -> None:
        """This is a child of the process that the thread is in."""
        self._forked = self.closed = True
        self.inbox.close(lambda: foreign(self.what))


class OnLoopThread(Generic[K]):
    """A synchronous client: what its user has. The thread ends with ``close``, with the last
    reference to this, or with the interpreter."""

    _core: LoopThread[K]

    def _start(self, core: LoopThread[K], timeout_ms: int) -> None:
        """Connect, and belong to this object from then on."""
        core.start(timeout_ms)
        self._core = core
        self._inbox = core.inbox
        weakref.finalize(self, core.stop, 0)

    def __del__(self) -> None:
        core = self.__dict__.get("_core")
        if core is not None and not core.closed:
            warn(self)

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._core.closed

    def close(self, *, drain_ms: int = 5000) -> None:
        """Close all connections, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail, and so do calls made later.
        The client's thread ends."""
        milliseconds("drain_ms", drain_ms)
        self._core.stop(drain_ms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error of the caller's own nobody waits for what is under way.
        self.close(drain_ms=5000 if kind is None else 0)


_threads: weakref.WeakSet[LoopThread[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for thread in list(_threads):
        thread.forked()


os.register_at_fork(after_in_child=_after_fork)
