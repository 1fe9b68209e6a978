"""Reads over the network: requests that come together are read together, on threads.

``server.StoreService`` has one. The invariants: a reply is not much longer than its request allows,
and what is in it is of the lives of queues that it names.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dragoman.broker import messages as wire
from dragoman.errors import DragomanError, UsageError
from dragoman.queue import QueueStore

# One call of the store reads at most so many messages for several requests.
READ_TOGETHER = 4096
THREADS = 3


@dataclass(slots=True)
class _Gets:
    ranges: list[tuple[bytes, int, int]]
    lives: list[bytes]
    bytes_max: int
    future: asyncio.Future[bytes]


class Reading:
    """Answers ``queue.get``. Belongs to the loop it is made on."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, "dragoman-broker-get")
        self._gets: list[_Gets] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.count = 0
        """How many requests have come."""

    def get(self, request: wire.Get) -> asyncio.Future[bytes]:
        """The reply to ``queue.get``."""
        wire.check_count(len(request.ranges), "ranges")
        self.count += 1
        if request.lives and len(request.lives) != len(request.ranges):
            raise UsageError(f"{len(request.lives)} lives beside {len(request.ranges)} ranges")
        bytes_max = max(1, min(request.bytes_max, wire.REPLY_BYTES_MAX))
        future: asyncio.Future[bytes] = self._loop.create_future()
        if not self._gets:
            self._loop.call_soon(self._get_all)
        self._gets.append(_Gets(request.ranges, request.lives, bytes_max, future))
        return future

    def _get_all(self) -> None:
        waiting, self._gets = self._gets, []
        together: list[_Gets] = []
        messages = size = 0
        for gets in waiting:
            count = sum(count for _, _, count in gets.ranges)
            if together and (
                messages + count > READ_TOGETHER or size + gets.bytes_max > 4 * wire.REPLY_BYTES_MAX
            ):
                self._start(together)
                together, messages, size = [], 0, 0
            together.append(gets)
            messages += count
            size += gets.bytes_max
        self._start(together)

    def _start(self, together: list[_Gets]) -> None:
        task = self._loop.create_task(self._get_some(together))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _get_some(self, together: list[_Gets]) -> None:
        try:
            replies = await self._loop.run_in_executor(self._pool, self._read, together)
        except DragomanError as error:
            if len(together) == 1:
                _fail(together[0].future, wire.to_wire(error))
                return
            for gets in together:
                await self._get_some([gets])
            return
        except BaseException as error:
            for gets in together:
                _fail(gets.future, error)
            return
        for gets, reply in zip(together, replies, strict=True):
            if not gets.future.done():
                gets.future.set_result(reply)

    def _read(self, together: list[_Gets]) -> list[bytes]:
        # On a thread. Requests that together are more than fits one reply are read one by one.
        lives = [self._lives_before(gets) for gets in together]
        if len(together) > 1:
            ranges = [each for gets in together for each in gets.ranges]
            results = self._store.get_many(ranges, wire.REPLY_BYTES_MAX)
            if sum(map(len, map(b"".join, results))) < wire.REPLY_BYTES_MAX:
                replies = []
                at = 0
                for gets, each in zip(together, lives, strict=True):
                    end = at + len(gets.ranges)
                    now = self._lives_after(gets, each)
                    replies.append(_fitted(results[at:end], gets.bytes_max, now, whole=True))
                    at = end
                return replies
        return [self._read_one(gets, each) for gets, each in zip(together, lives, strict=True)]

    def _read_one(self, gets: _Gets, lives: list[bytes]) -> bytes:
        try:
            results = self._store.get_many(gets.ranges, gets.bytes_max)
        except UsageError:
            self._lives_after(gets, lives)
            raise
        return _fitted(results, gets.bytes_max, self._lives_after(gets, lives), whole=False)

    def _lives_before(self, gets: _Gets) -> list[bytes]:
        # Of ranges that may be of any life, which that is.
        return [
            life if life and at else self._store._life(queue)
            for life, (queue, at, _) in zip(gets.lives, gets.ranges, strict=False)
        ]

    def _lives_after(self, gets: _Gets, lives: list[bytes]) -> list[bytes]:
        # What was read is of these, or PositionLostError is raised.
        return [
            self._store._follow(queue, life, at)
            for life, (queue, at, _) in zip(lives, gets.ranges, strict=False)
        ]

    async def close(self) -> None:
        """Wait for what is under way; no request may come any more."""
        while self._under_way or self._gets:
            if self._under_way:
                await asyncio.wait(self._under_way)
            else:
                await asyncio.sleep(0)
        self._pool.shutdown()


def _fitted(
    results: list[list[bytes]], bytes_max: int, lives: list[bytes], *, whole: bool
) -> bytes:
    """The reply with as many of the messages as fit, one at least. ``whole``: nothing was left out
    before. ``lives`` of the queues, if they were asked for."""
    also = (lives,) if lives else ()
    size = 0
    for number, messages in enumerate(results):
        for index, message in enumerate(messages):
            size += len(message)
            if bytes_max < size > len(message):
                fitting = [*results[:number], messages[:index]]
                fitting += [[] for _ in range(len(results) - number - 1)]
                return wire.encode((False, fitting, *also))
    return wire.encode((whole or size < bytes_max, results, *also))


def _fail(future: asyncio.Future[bytes], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
