"""Waiting for messages over the network: who waits is answered as soon as one was put.

``server.StoreService`` has one. The invariant: nobody waits longer than asked for, nor for a
queue that is long enough already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from dragoman.broker import messages as wire
from dragoman.errors import DragomanError, OverloadError
from dragoman.queue import QueueStore
from dragoman.queue.api.arguments import queue_bytes

# How often queues that somebody waits for are looked at besides: who serves may put too.
LOOK_S = 0.05
WAIT_MS_MAX = 3_600_000


@dataclass(slots=True, eq=False)
class _Waiter:
    queue: bytes
    offset: int
    future: asyncio.Future[bytes]
    timer: asyncio.TimerHandle | None = None


class Waiting:
    """Answers ``queue.wait``. Belongs to the loop it is made on."""

    def __init__(self, store: QueueStore, waiters_max: int) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._waiters: dict[bytes, list[_Waiter]] = {}
        self._most = waiters_max
        self._looking: asyncio.TimerHandle | None = None
        self._closing = False
        self.count = 0
        """How many wait."""

    def wait(self, request: wire.Wait) -> bytes | asyncio.Future[bytes]:
        """The reply to ``queue.wait``: the queue's length, soon if it is long enough."""
        queue = queue_bytes(request.queue)
        length = self._store.length(queue)
        if length > request.offset or request.timeout_ms <= 0 or self._closing:
            return wire.encode(length)
        if self.count >= self._most:
            raise OverloadError(f"{self.count} wait for messages already")
        waiter = _Waiter(queue, request.offset, self._loop.create_future())
        waiter.timer = self._loop.call_later(
            min(request.timeout_ms, WAIT_MS_MAX) / 1000, self._end_wait, waiter
        )
        self._waiters.setdefault(queue, []).append(waiter)
        self.count += 1
        # The caller may have gone.
        waiter.future.add_done_callback(lambda _: self._forget(waiter))
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_S, self._look_again)
        return waiter.future

    def wake(self, queues: Iterable[bytes]) -> None:
        """Messages were put to these queues: answer those who have waited for them."""
        for queue in self._waiters.keys() & set(queues):
            self._wake(queue)

    def _wake(self, queue: bytes) -> None:
        length = self._store.length(queue)
        for waiter in list(self._waiters.get(queue, ())):
            if length > waiter.offset and not waiter.future.done():
                waiter.future.set_result(wire.encode(length))

    def _end_wait(self, waiter: _Waiter) -> None:
        if not waiter.future.done():
            try:
                waiter.future.set_result(wire.encode(self._store.length(waiter.queue)))
            except DragomanError as error:
                waiter.future.set_exception(error)

    def _forget(self, waiter: _Waiter) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        self.count -= 1
        waiting = self._waiters[waiter.queue]
        waiting.remove(waiter)
        if not waiting:
            del self._waiters[waiter.queue]

    def _look_again(self) -> None:
        self._looking = None
        if self._waiters and not self._closing:
            for queue in list(self._waiters):
                self._wake(queue)
            self._looking = self._loop.call_later(LOOK_S, self._look_again)

    def stop(self) -> None:
        """Answer all who wait; nobody waits from now on."""
        self._closing = True
        if self._looking is not None:
            self._looking.cancel()
        for waiters in list(self._waiters.values()):
            for waiter in list(waiters):
                self._end_wait(waiter)
