"""``AsyncQueueStore``: a store for asyncio that never blocks the loop.

Calls run in a few threads. Puts and gets that come in the same turn of the loop travel together,
as one ``put_many`` or ``get_many``, so many callers cost little more than one. The invariant: what
is put is stored in the order in which it was put, since one put_many of the store runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, TypeVar

from dragoman.errors import DragomanError, UsageError
from dragoman.queue.api.arguments import listed, range_of, wait_ms_of
from dragoman.queue.api.consumer import AsyncConsumer
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.api.report import Statistics
from dragoman.queue.api.store import WAIT_S, QueueStore
from dragoman.queue.work.leases import Message
from dragoman.queue.work.settings import (
    LEASE_MS,
    WINDOW,
    timeout_of,
)
from dragoman.queue.work.workers import LOOK_S, Workers

T = TypeVar("T")
TOGETHER_MAX = 4096
_Put = tuple[Any, list[bytes] | None, int]
_Get = tuple[str | bytes, int, int]


class AsyncQueueStore:
    """The same store, its methods as coroutines. Belongs to the loop that it is first used on.

    ``store`` stays the caller's to use from threads; ``close`` closes it.
    """

    def __init__(self, store: QueueStore, *, threads: int = 4) -> None:
        if not isinstance(store, QueueStore):
            raise UsageError(f"expected a QueueStore, not {type(store).__name__}")
        if type(threads) is not int or not 1 <= threads <= 1024:
            raise UsageError(f"threads is a whole number from 1 to 1024, not {threads!r:.100}")
        self.store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = ThreadPoolExecutor(threads, "dragoman-queue-async")
        self._puts: list[tuple[_Put, asyncio.Future[list[int]]]] = []
        self._gets: list[tuple[_Get, asyncio.Future[list[bytes]]]] = []
        self._putting: asyncio.Task[None] | None = None
        self._getting: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    async def put(self, queue: str | bytes, message: bytes) -> int:
        """See ``QueueStore.put``."""
        return (await self._put([queue], [message], 1))[0]

    async def put_many(self, queues: Any, messages: Iterable[bytes] | None = None) -> list[int]:
        """See ``QueueStore.put_many``."""
        if messages is None:
            pairs = listed(queues, "put_many takes pairs of queue and message")
            return await self._put(pairs, None, len(pairs))
        bodies = listed(messages, "put_many takes a list of messages")
        if not isinstance(queues, str | bytes):
            queues = listed(queues, "put_many takes a queue or a list of them")
        return await self._put(queues, bodies, len(bodies))

    async def _put(self, queues: Any, messages: list[bytes] | None, count: int) -> list[int]:
        loop = self._check()
        future: asyncio.Future[list[int]] = loop.create_future()
        self._puts.append(((queues, messages, count), future))
        if self._putting is None:
            self._putting = loop.create_task(self._put_all())
        return await future

    async def _put_all(self) -> None:
        try:
            while self._puts:
                count = taken = 0
                for (_, _, each), _ in self._puts:
                    if taken and count + each > TOGETHER_MAX:
                        break
                    taken += 1
                    count += each
                waiting, self._puts = self._puts[:taken], self._puts[taken:]
                await self._settle(waiting, self._put_together)
        finally:
            self._putting = None

    def _put_together(self, puts: list[_Put]) -> list[list[int]]:
        # On a thread: what several callers put, as one.
        if len(puts) == 1:
            queues, messages, _ = puts[0]
            return [self.store.put_many(queues, messages)]
        names: list[Any] = []
        bodies: list[Any] = []
        for queues, messages, count in puts:
            if messages is None:
                for pair in queues:
                    try:
                        name, body = pair
                    except (TypeError, ValueError):
                        raise UsageError("put_many takes pairs of queue and message") from None
                    names.append(name)
                    bodies.append(body)
            else:
                names += [queues] * count if isinstance(queues, str | bytes) else queues
                bodies += messages
        offsets = self.store.put_many(names, bodies)
        ends = list(accumulate(count for _, _, count in puts))
        return [offsets[end - count : end] for end, (_, _, count) in zip(ends, puts, strict=True)]

    async def get(self, queue: str | bytes, offset: int, count: int = 1) -> list[bytes]:
        """See ``QueueStore.get``."""
        loop = self._check()
        future: asyncio.Future[list[bytes]] = loop.create_future()
        if not self._gets:
            loop.call_soon(self._get_all)
        self._gets.append(((queue, offset, count), future))
        return await future

    def _get_all(self) -> None:
        taken, self._gets = self._gets, []
        task = asyncio.get_running_loop().create_task(self._settle(taken, self.store.get_many))
        self._getting.add(task)
        task.add_done_callback(self._getting.discard)

    async def _settle(
        self,
        taken: list[tuple[Any, asyncio.Future[T]]],
        call: Callable[[list[Any]], list[T]],
    ) -> None:
        # One call for all; if it is refused, each on its own, so that one cannot fail another.
        try:
            results = await self._run(call, [request for request, _ in taken])
        except DragomanError as error:
            if len(taken) == 1 or (not error.retry_safe and call == self._put_together):
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)
                return
            for one in taken:
                await self._settle([one], call)
            return
        except BaseException as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(taken, results, strict=True):
            if not future.done():
                future.set_result(result)

    async def get_many(self, requests: Iterable[_Get]) -> list[list[bytes]]:
        """See ``QueueStore.get_many``."""
        return await self._run(self.store.get_many, requests)

    async def commit(self, queue: str | bytes, group: str | bytes, position: int) -> None:
        """See ``QueueStore.commit``."""
        await self._run(self.store.commit, queue, group, position)

    async def trim(self, queue: str | bytes, before: int) -> None:
        """See ``QueueStore.trim``."""
        await self._run(self.store.trim, queue, before)

    async def delete(self, queue: str | bytes) -> bool:
        """See ``QueueStore.delete``."""
        return await self._run(self.store.delete, queue)

    async def sync(self) -> None:
        """See ``QueueStore.sync``."""
        await self._run(self.store.sync)

    async def length(self, queue: str | bytes) -> int:
        """See ``QueueStore.length``."""
        return self.store.length(queue)

    async def first_offset(self, queue: str | bytes) -> int:
        """See ``QueueStore.first_offset``."""
        return self.store.first_offset(queue)

    async def wait_for(
        self, queue: str | bytes, offset: int, timeout_ms: float | None = None
    ) -> int:
        """See ``QueueStore.wait_for``."""
        loop = asyncio.get_running_loop()
        _, offset, _ = range_of((queue, offset, 0))
        timeout_ms = wait_ms_of(timeout_ms)
        until_s = None if timeout_ms is None else loop.time() + timeout_ms / 1000
        pause_s, pause_max_s = WAIT_S
        while (length := self.store.length(queue)) <= offset:
            if until_s is not None:
                pause_s = min(pause_s, until_s - loop.time())
                if pause_s <= 0:
                    break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, pause_max_s)
        return length

    async def queues(self) -> AsyncIterator[bytes]:
        """See ``QueueStore.queues``."""
        for number, name in enumerate(self.store.queues(), 1):
            yield name
            if number % TOGETHER_MAX == 0:
                await asyncio.sleep(0)

    async def contains(self, queue: str | bytes) -> bool:
        """Whether there is such a queue."""
        return queue in self.store

    async def consumer(self, queue: str | bytes, group: str | bytes) -> AsyncConsumer:
        """See ``QueueStore.consumer``."""
        return await AsyncConsumer.open(self, queue, group)

    async def _begin(self, queue: str | bytes, group: str | bytes) -> tuple[int, int]:
        return self.store._begin(queue, group)

    async def _read_on(
        self, queue: str | bytes, life: int, position: int, count: int
    ) -> tuple[int, list[bytes]]:
        life = life if life and position else self.store._id(queue)
        try:
            messages = await self.get(queue, position, count)
        except UsageError:
            self.store._check_life(queue, life, position)
            raise
        self.store._check_life(queue, life, position)
        return life, messages

    async def _commit_as(
        self, queue: str | bytes, group: str | bytes, position: int, life: int
    ) -> None:
        await self._run(self.store._commit_as, queue, group, position, life)

    async def workers(
        self,
        queue: str | bytes,
        group: str | bytes,
        *,
        lease_ms: int = LEASE_MS,
        attempts_max: int | None = None,
        dead_letter: str | bytes | None = None,
        ordered_by: KeyOf | str | None = None,
        window: int = WINDOW,
    ) -> AsyncWorkers:
        """See ``QueueStore.workers``."""
        self._check()
        workers = self.store.workers(
            queue,
            group,
            lease_ms=lease_ms,
            attempts_max=attempts_max,
            dead_letter=dead_letter,
            ordered_by=ordered_by,
            window=window,
        )
        return AsyncWorkers(self, workers)

    async def committed(self, queue: str | bytes, group: str | bytes) -> int:
        """See ``QueueStore.committed``."""
        return self.store.committed(queue, group)

    async def groups(self, queue: str | bytes) -> dict[bytes, int]:
        """See ``QueueStore.groups``."""
        return self.store.groups(queue)

    async def statistics(self) -> Statistics:
        """See ``QueueStore.statistics``."""
        return self.store.statistics()

    async def close(self) -> None:
        """Wait for what is under way, then close the store. Closing twice is once.

        It goes on when the task that waits for it is cancelled; closing again waits for its end.
        In a process that was forked from the one that opened the store it does nothing.
        """
        if self.store._forked:
            return
        loop = self._own_loop()
        if self._closing is None:
            self._closing = loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        while self._putting is not None or self._getting or self._gets:
            tasks = [task for task in (self._putting, *self._getting) if task is not None]
            if tasks:
                await asyncio.wait(tasks)
            else:
                await asyncio.sleep(0)
        try:
            try:
                closing = asyncio.get_running_loop().run_in_executor(self._pool, self.store.close)
            except RuntimeError:
                # At the process's end no thread is to be had any more.
                self.store.close()
            else:
                await closing
        finally:
            self._pool.shutdown()

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await self._check().run_in_executor(self._pool, call, *arguments)

    def _check(self) -> asyncio.AbstractEventLoop:
        # The threads of the pool are this process's, or there are none.
        self.store._check()
        loop = self._own_loop()
        if self._closing is not None:
            raise UsageError("the store is closed")
        return loop

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise UsageError(
                    "the store belongs to the loop that it was first used on: make an"
                    " AsyncQueueStore for each loop, or use its store from threads"
                )
            self._loop = loop
        return loop

    def __repr__(self) -> str:
        return f"<AsyncQueueStore of {self.store!r}>"

    async def __aenter__(self) -> AsyncQueueStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncWorkers:
    """``Workers`` for asyncio; ``await store.workers(queue, group)`` makes one.

    What a ``take`` that is cancelled was about to give is given again after its lease.
    """

    def __init__(self, store: AsyncQueueStore, workers: Workers) -> None:
        self._store = store
        self._workers = workers

    async def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """See ``Workers.take``."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_of(wait_ms)
        pause_s, pause_max_s = LOOK_S
        while True:
            messages = await self._store._run(self._workers.take, count)
            left_s = until_s - loop.time()
            if messages or left_s <= 0:
                return messages
            while True:
                await asyncio.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, pause_max_s)
                left_s = until_s - loop.time()
                self._store._check()
                if left_s <= 0 or not self._workers.idle():
                    break

    async def ack(self, messages: Message | Sequence[Message]) -> int:
        """See ``Workers.ack``."""
        return await self._store._run(self._workers.ack, messages)

    async def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """See ``Workers.nack``."""
        return await self._store._run(lambda: self._workers.nack(messages, delay_ms=delay_ms))

    async def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """See ``Workers.extend``."""
        return await self._store._run(lambda: self._workers.extend(messages, lease_ms=lease_ms))
