"""``BlockingStore``: any asynchronous store, for threads.

``broker.open_store`` makes one. The store lives on a loop of its own in a thread of its own (a
daemon); the calls of all threads meet there, so that they share requests. The invariant: every call
ends, at the latest when the store is closed; the thread ends with ``close``.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from dragoman.broker.owned import CLOSED, FORKED
from dragoman.broker.workers import BlockingWorkers
from dragoman.errors import DragomanError, UsageError
from dragoman.queue.api.arguments import listed
from dragoman.queue.api.consumer import Consumer
from dragoman.queue.api.interface import AsyncReadable, Counts, KeyOf
from dragoman.queue.work.settings import (
    LEASE_MS,
    WINDOW,
)

T = TypeVar("T")
Name = str | bytes
NAMES_AT_ONCE = 4096
log = logging.getLogger(__name__)

_OPEN: weakref.WeakSet[BlockingStore] = weakref.WeakSet()


def _at_exit() -> None:
    # Later the threads of the loops stand still: whoever closes or puts then would hang.
    for store in list(_OPEN):
        if os.getpid() != store._process:
            continue
        try:
            store.close()
        except DragomanError as error:
            log.error("%r: closing at the process's end: %s", store, error)


atexit.register(_at_exit)


class BlockingStore:
    """A store with the methods of ``QueueStore``, over an asynchronous one that ``opening`` makes.

    Thread-safe. Ctrl-C interrupts a call; a put may have been made all the same. Not for
    coroutines, whose loop it would block, and not for a child after a fork: open another there.
    """

    def __init__(self, opening: Callable[[], Awaitable[AsyncReadable]]) -> None:
        self._process = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._closing = threading.Lock()
        # Held while a call is given to the loop: none comes after ``_closed``.
        self._calling = threading.Lock()
        self._closed = False
        # It does not keep the store: one that is dropped is closed.
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="dragoman-broker", daemon=True
        )
        self._thread.start()
        try:
            self._store = self._wait(_opened(opening))
        except BaseException:
            self._stop()
            raise
        _OPEN.add(self)

    def _stop(self) -> None:
        with self._calling:
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        _OPEN.discard(self)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            # Before any lock: of a lock's state nothing is known after a fork.
            if os.getpid() != self._process:
                raise UsageError(FORKED)
            if threading.get_ident() == self._thread.ident:
                raise UsageError(
                    "the store was called on its own thread, which would wait for itself"
                )
            with self._calling:
                if self._closed:
                    raise UsageError(CLOSED)
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UsageError(CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def put(self, queue: Name, message: bytes) -> int:
        """See ``MessageStore.put``."""
        return self._wait(self._store.put(queue, message))

    def put_many(self, queues: Any, messages: Any = None) -> list[int]:
        """See ``MessageStore.put_many``."""
        return self._wait(self._store.put_many(queues, messages))

    def get(self, queue: Name, offset: int, count: int = 1) -> list[bytes]:
        """See ``MessageStore.get``."""
        return self._wait(self._store.get(queue, offset, count))

    def get_many(self, requests: Iterable[tuple[Name, int, int]]) -> list[list[bytes]]:
        """See ``MessageStore.get_many``."""
        return self._wait(self._store.get_many(listed(requests, "get_many takes requests")))

    def length(self, queue: Name) -> int:
        """See ``MessageStore.length``."""
        return self._wait(self._store.length(queue))

    def first_offset(self, queue: Name) -> int:
        """See ``MessageStore.first_offset``."""
        return self._wait(self._store.first_offset(queue))

    def wait_for(self, queue: Name, offset: int, timeout_ms: float | None = None) -> int:
        """See ``MessageStore.wait_for``."""
        return self._wait(self._store.wait_for(queue, offset, timeout_ms))

    def queues(self) -> Iterator[bytes]:
        """See ``MessageStore.queues``."""
        names = self._store.queues()
        while True:
            page = self._wait(_page(names))
            yield from page
            if len(page) < NAMES_AT_ONCE:
                return

    def __contains__(self, queue: Name) -> bool:
        return self._wait(self._store.contains(queue))

    def consumer(self, queue: Name, group: Name) -> Consumer:
        """See ``MessageStore.consumer``."""
        return Consumer(self, queue, group)

    def workers(
        self,
        queue: Name,
        group: Name,
        *,
        lease_ms: int = LEASE_MS,
        attempts_max: int | None = None,
        dead_letter: Name | None = None,
        ordered_by: KeyOf | str | None = None,
        window: int = WINDOW,
    ) -> BlockingWorkers:
        """See ``QueueStore.workers``."""
        return BlockingWorkers(
            self._wait,
            lambda: self._store.workers(
                queue,
                group,
                lease_ms=lease_ms,
                attempts_max=attempts_max,
                dead_letter=dead_letter,
                ordered_by=ordered_by,
                window=window,
            ),
        )

    def _begin(self, queue: Name, group: Name) -> tuple[Any, int]:
        return self._wait(self._store._begin(queue, group))

    def _read_on(
        self, queue: Name, life: Any, position: int, count: int
    ) -> tuple[Any, list[bytes]]:
        return self._wait(self._store._read_on(queue, life, position, count))

    def _commit_as(self, queue: Name, group: Name, position: int, life: Any) -> None:
        self._wait(self._store._commit_as(queue, group, position, life))

    def commit(self, queue: Name, group: Name, position: int) -> None:
        """See ``MessageStore.commit``."""
        self._wait(self._store.commit(queue, group, position))

    def committed(self, queue: Name, group: Name) -> int:
        """See ``MessageStore.committed``."""
        return self._wait(self._store.committed(queue, group))

    def groups(self, queue: Name) -> dict[bytes, int]:
        """See ``MessageStore.groups``."""
        return self._wait(self._store.groups(queue))

    def trim(self, queue: Name, before: int) -> None:
        """See ``MessageStore.trim``."""
        self._wait(self._store.trim(queue, before))

    def delete(self, queue: Name) -> bool:
        """See ``MessageStore.delete``."""
        return self._wait(self._store.delete(queue))

    def sync(self) -> None:
        """See ``MessageStore.sync``."""
        self._wait(self._store.sync())

    def statistics(self) -> Counts:
        """See ``MessageStore.statistics``."""
        return self._wait(self._store.statistics())

    def close(self) -> None:
        """Wait for what is under way, close the store, end the thread. Closing twice is once.

        Calls of other threads that are under way end first, or with UsageError; later ones raise
        it. In a process that was forked from the one that opened the store it does nothing.
        """
        if os.getpid() != self._process:
            return
        if threading.get_ident() == self._thread.ident:
            # A ``__del__`` that is run where it happens to be run: nobody can wait for it here.
            self._loop.create_task(self._close_here())
            return
        with self._closing:
            if self._closed:
                return
            try:
                self._wait(self._store.close())
            finally:
                self._stop()

    async def _close_here(self) -> None:
        with self._calling:
            self._closed = True
        try:
            await self._store.close()
        finally:
            _OPEN.discard(self)
            self._loop.stop()

    def __del__(self) -> None:
        store = getattr(self, "_store", None)
        if (
            store is None
            or self._closed
            or os.getpid() != self._process
            or sys.is_finalizing()
            or self._loop.is_closed()
        ):
            return
        # Wherever this is run: nobody waits for it.
        self._closed = True
        asyncio.run_coroutine_threadsafe(_close_dropped(store), self._loop)
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)

    def __repr__(self) -> str:
        store = self._store if hasattr(self, "_store") else "opening"
        return f"<BlockingStore of {store!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_end_all())
    finally:
        loop.close()


async def _close_dropped(store: AsyncReadable) -> None:
    try:
        await store.close()
    except DragomanError as error:
        log.error("%r: closing what was dropped: %s", store, error)
    finally:
        asyncio.get_running_loop().stop()


async def _end_all() -> None:
    # Calls that the store has not ended; whoever waits for one learns that the store is closed.
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _opened(opening: Callable[[], Awaitable[AsyncReadable]]) -> AsyncReadable:
    return await opening()


async def _page(names: AsyncIterator[bytes]) -> list[bytes]:
    page: list[bytes] = []
    while len(page) < NAMES_AT_ONCE:
        try:
            page.append(await anext(names))
        except StopAsyncIteration:
            break
    return page
