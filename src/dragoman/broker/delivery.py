"""``Delivery``: a client's requests that change queues, each sent until it is done once.

``batching`` gives it batches of messages; ``docs/formats/broker.md`` ("Nothing is put twice") has
the rules that server and client keep together.

Invariants: batches are numbered in the order given, and done in that order: each names the one
before it that has not ended, and the server does none before that. While the connection is whole up
to ``WINDOW`` are under way at once; after it broke they are sent again one by one, the oldest
first. Each ends once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from dragoman.broker.messages import OTHER_PROCESS, OUT_OF_ORDER
from dragoman.errors import (
    ConnectError,
    DeadlineError,
    DragomanError,
    LinkError,
    LinkLostError,
    OverloadError,
    RemoteError,
)

# A server remembers 1,024 outcomes of a producer.
WINDOW = 64
AGAIN_S = 0.05
RESTARTED = "the server was restarted while the request was under way: it was done, or not"

# Sends a request (process, sequence, ended, after, again), for so many milliseconds at most.
Send = Callable[[bytes, int, int, int, bool, float], Awaitable[bytes]]


class Batch:
    """A request to be done once, its number and its end."""

    __slots__ = ("bytes", "deadline_s", "future", "process", "send", "sent", "sequence")

    def __init__(
        self, send: Send, size: int, deadline_s: float, future: asyncio.Future[bytes]
    ) -> None:
        self.send = send
        self.bytes = size
        self.deadline_s = deadline_s
        self.future = future
        self.sequence = 0
        # Whether a try may have reached the server's process, and which that was.
        self.sent = False
        self.process = b""


class _Lost(DragomanError):
    """The process that may have done it is gone."""

    def __init__(self) -> None:
        super().__init__("")


class Delivery:
    """The batches of one producer. ``ready(ms)`` says which process answers; ``forget(process)``
    is called when it answers no more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ready: Callable[[float], Awaitable[bytes]],
        forget: Callable[[bytes], None],
        bytes_max: int,
    ) -> None:
        self._loop = loop
        self._ready = ready
        self._forget = forget
        self._bytes_max = bytes_max
        self.bytes = 0
        self._sequence = 0
        self._queued: deque[Batch] = deque()
        self._under_way: OrderedDict[int, Batch] = OrderedDict()
        # While not None, batches up to this number are sent one at a time, the oldest first.
        self._mending: int | None = None
        self._turn: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, batch: Batch) -> asyncio.Future[bytes]:
        """Have ``batch`` done; raises OverloadError when too much waits."""
        if self.bytes and self.bytes + batch.bytes > self._bytes_max:
            raise OverloadError(f"{self.bytes} bytes of messages wait for the server already")
        self.bytes += batch.bytes
        self._sequence += 1
        batch.sequence = self._sequence
        if len(self._under_way) < WINDOW and not self._queued and self._mending is None:
            self._start(batch)
        else:
            self._queued.append(batch)
        return batch.future

    async def drain(self) -> None:
        """Wait until all that was given has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def abandon(self) -> None:
        """What has not ended fails."""
        for task in list(self._tasks):
            task.cancel()
        for batch in [*self._under_way.values(), *self._queued]:
            self._fail(batch, LinkLostError("the store is closed", retry_safe=not batch.sent))
        self._queued.clear()

    def _start(self, batch: Batch) -> None:
        self._under_way[batch.sequence] = batch
        task = self._loop.create_task(self._deliver(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: Batch) -> None:
        try:
            while True:
                while self._mending is not None and next(iter(self._under_way)) != batch.sequence:
                    await self._next_turn()
                try:
                    reply = await self._try(batch)
                except (LinkError, OverloadError) as error:
                    if batch.process and not error.retry_safe:
                        batch.sent = True
                    self._mend()
                    await asyncio.sleep(min(AGAIN_S, max(0.0, self._left_s(batch))))
                except RemoteError as error:
                    if error.code not in (OTHER_PROCESS, OUT_OF_ORDER):
                        raise
                    # Nothing was done there; what became of earlier tries, _try looks at.
                    if error.code == OTHER_PROCESS:
                        self._forget(batch.process)
                    self._mend()
                else:
                    if not batch.future.done():
                        batch.future.set_result(reply)
                    return
        except _Lost:
            self._fail(batch, LinkLostError(RESTARTED))
        except DragomanError as error:
            if batch.sent:
                error.retry_safe = False
            self._fail(batch, error)
        except Exception as error:
            self._fail(batch, error)
        finally:
            self._end(batch)

    async def _try(self, batch: Batch) -> bytes:
        """Send once. Raises LinkError and OverloadError if it is to be sent again, _Lost if it must
        not."""
        left_s = self._left_s(batch)
        if left_s <= 0:
            raise DeadlineError("not done within the time allowed", retry_safe=True)
        try:
            process = await self._ready(left_s * 1000)
        except (LinkError, OverloadError) as error:
            raise ConnectError(str(error), endpoint=error.endpoint) from None
        if batch.sent and process != batch.process:
            raise _Lost()
        batch.process = process
        left_s = max(0.001, self._left_s(batch))
        # The server takes it only if it has taken the one before, unless that has ended.
        after = max((number for number in self._under_way if number < batch.sequence), default=0)
        # What became of all before the oldest, the server need not remember.
        ended = next(iter(self._under_way))
        return await batch.send(process, batch.sequence, ended, after, batch.sent, left_s * 1000)

    def _left_s(self, batch: Batch) -> float:
        return batch.deadline_s - self._loop.time()

    def _mend(self) -> None:
        if self._under_way:
            self._mending = max(self._under_way)

    async def _next_turn(self) -> None:
        if self._turn is None:
            self._turn = self._loop.create_future()
        await asyncio.shield(self._turn)

    def _end(self, batch: Batch) -> None:
        self._under_way.pop(batch.sequence, None)
        self.bytes -= batch.bytes
        if self._mending is not None and (
            not self._under_way or next(iter(self._under_way)) > self._mending
        ):
            self._mending = None
        if self._turn is not None:
            self._turn.set_result(None)
            self._turn = None
        while self._queued and self._mending is None and len(self._under_way) < WINDOW:
            self._start(self._queued.popleft())

    def _fail(self, batch: Batch, error: Exception) -> None:
        if not batch.future.done():
            batch.future.set_exception(error)
