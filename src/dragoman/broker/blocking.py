"""``BlockingStore``: any asynchronous store, for threads.

``broker.open_store`` makes one. The store lives on a loop of its own in a thread of its own (a
daemon); the calls of all threads meet there, so that they share requests. The invariant: every call
ends, at the latest when the store is closed; the thread ends with ``close``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from dragoman.errors import UsageError
from dragoman.queue.consumer import Consumer
from dragoman.queue.interface import AsyncReadable, Counts

T = TypeVar("T")
Name = str | bytes
NAMES_AT_ONCE = 4096


class BlockingStore:
    """A store with the methods of ``QueueStore``, over an asynchronous one that ``opening`` makes.

    Thread-safe. Ctrl-C interrupts a call; a put may have been made all the same. Not for
    coroutines, whose loop it would block, and not for a child after a fork: open another there.
    """

    def __init__(self, opening: Callable[[], Awaitable[AsyncReadable]]) -> None:
        self._process = os.getpid()
        self._loop = uvloop.new_event_loop()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="dragoman-broker", daemon=True)
        self._thread.start()
        try:
            self._store = self._wait(_opened(opening))
        except BaseException:
            self._stop()
            raise

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _stop(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed or os.getpid() != self._process:
            work.close()
            raise UsageError(
                "the store is closed" if self._closed else "the store was opened before the fork"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise UsageError("the store is closed") from None
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
        return self._wait(self._store.get_many(list(requests)))

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
        """Wait for what is under way, close the store, end the thread. Closing twice is once."""
        if os.getpid() != self._process:
            return
        with self._closing:
            if self._closed:
                return
            try:
                self._wait(self._close())
            finally:
                self._stop()

    async def _close(self) -> None:
        await self._store.close()
        # Calls of other threads that the store has not ended.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


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
