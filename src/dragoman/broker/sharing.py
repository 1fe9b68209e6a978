"""Work that is shared over the network: the server's half of ``queue.work.workers``.

``server.StoreService`` has one. Taking and settling run on threads, since they may wait for the
disk; who waits for messages is a future that is looked at when something was put or settled, and
every ``LOOK_S``. The invariant: a reply that takes a message out is the only one that has it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dragoman.broker import messages as wire
from dragoman.errors import DragomanError, OverloadError, UsageError
from dragoman.queue import QueueStore
from dragoman.queue.api.arguments import group_bytes, queue_bytes
from dragoman.queue.work.leases import ACK, EXTEND, NACK, columns_of
from dragoman.queue.work.settings import (
    count_of,
    delay_of,
    lease_of,
    settings_of,
)
from dragoman.queue.work.workers import Workers

LOOK_S = 0.02
THREADS = 3
WAIT_MS_MAX = 3_600_000


@dataclass(slots=True, eq=False)
class _Taker:
    workers: Workers
    future: asyncio.Future[None]


class Sharing:
    """Answers what workers ask. Belongs to the loop it is made on."""

    def __init__(self, store: QueueStore, waiters_max: int) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(THREADS, "dragoman-broker-work")
        self._takers: set[_Taker] = set()
        self._takers_max = waiters_max
        self._looking: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many wait for messages."""
        return len(self._takers)

    def take(self, request: wire.Take) -> asyncio.Future[bytes]:
        """The reply to ``queue.take``."""
        queue, group = queue_bytes(request.queue), group_bytes(request.group)
        settings = settings_of(
            queue,
            lease_ms=request.lease_ms,
            attempts_max=request.attempts_max,
            dead_letter=request.dead_letter,
            ordered_by=request.ordered_by,
            window=request.window,
        )
        count = count_of(request.count)
        # Those who had messages when the store was closed may be at them still.
        workers = Workers(self._store, queue, group, settings, settings.lease_ms)
        wait_s = max(0, min(request.timeout_ms, WAIT_MS_MAX)) / 1000
        return self._begin(self._take(workers, count, self._loop.time() + wait_s))

    async def _take(self, workers: Workers, count: int, until_s: float) -> bytes:
        while True:
            if not workers.idle():
                reply = await self._loop.run_in_executor(self._pool, _taken, workers, count)
                if reply is not None:
                    return reply
            left_s = until_s - self._loop.time()
            if left_s <= 0 or self._closing:
                return _NOTHING
            await self._wait(workers, left_s)

    async def _wait(self, workers: Workers, left_s: float) -> None:
        if len(self._takers) >= self._takers_max:
            raise OverloadError(f"{len(self._takers)} wait for messages already")
        taker = _Taker(workers, self._loop.create_future())
        timer = self._loop.call_later(left_s, _wake, taker)
        self._takers.add(taker)
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_S, self._look)
        try:
            await taker.future
        finally:
            timer.cancel()
            self._takers.discard(taker)

    def _look(self) -> None:
        self._looking = None
        self.wake()
        if self._takers and not self._closing:
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def wake(self) -> None:
        """Something was put or settled: let those go on for whom there may be messages."""
        for taker in list(self._takers):
            try:
                if taker.workers.idle():
                    continue
            except DragomanError:
                pass  # who goes on meets it
            _wake(taker)

    def settle(self, request: wire.Settle) -> bytes | asyncio.Future[bytes]:
        """The reply to ``queue.settle``."""
        queue, group = queue_bytes(request.queue), group_bytes(request.group)
        wire.check_count(len(request.offsets), "messages")
        if len(request.offsets) != len(request.serials):
            raise UsageError(
                f"{len(request.offsets)} offsets beside {len(request.serials)} serials"
            )
        if request.kind == EXTEND:
            due_s = lease_of(request.milliseconds, 1)
        elif request.kind in (ACK, NACK):
            due_s = delay_of(request.milliseconds) if request.kind == NACK else 0.0
        else:
            raise UsageError(f"messages are settled in three ways, not in way {request.kind}")
        arguments = (
            queue,
            group,
            request.kind,
            request.offsets,
            request.serials,
            request.life,
            due_s,
        )
        # Mostly it is memory's work alone, and done sooner than a thread is told of it.
        count = self._store._work.settle_numbers(*arguments, at_once=True)
        if count is not None:
            if self._takers:
                self.wake()
            return wire.encode(count)
        return self._begin(self._settle(arguments))

    async def _settle(self, arguments: tuple[Any, ...]) -> bytes:
        count = await self._loop.run_in_executor(
            self._pool, lambda: self._store._work.settle_numbers(*arguments)
        )
        if self._takers:
            self.wake()
        return wire.encode(count)

    def _begin(self, work: Any) -> asyncio.Future[bytes]:
        task: asyncio.Task[bytes] = self._loop.create_task(_translated(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    def stop_waiting(self) -> None:
        """Answer all who wait; nobody waits from now on."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        for taker in list(self._takers):
            _wake(taker)

    async def close(self) -> None:
        """Wait for what is under way; no request may come any more."""
        self.stop_waiting()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._pool.shutdown()


def _taken(workers: Workers, count: int) -> bytes | None:
    messages = workers.take(count)
    return wire.encode((messages[0].life, *columns_of(messages))) if messages else None


_NOTHING = wire.encode((b"", [], [], [], []))


def _wake(taker: _Taker) -> None:
    if not taker.future.done():
        taker.future.set_result(None)


async def _translated(work: Any) -> bytes:
    try:
        reply: bytes = await work
    except DragomanError as error:
        raise wire.to_wire(error) from None
    return reply
