"""A ``QueueStore`` behind an RPC server: requests in, calls of the store on threads, replies out.

``broker.serve`` makes one and registers it. What asks the disk, or may wait for it, runs on
threads; the loop only decodes, looks at memory and answers. Puts that come while others are on
their way to the disk gather and go together: under ``always`` one sync covers them all.

Invariants: puts are given to the store in the order in which their requests came; each number of a
producer is done at most once; a reply to a put is sent after the store has acknowledged it; memory
is bounded by the RPC server's limits on what is in progress, and by the size of replies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import msgspec

from dragoman.broker import messages as wire
from dragoman.broker.producers import Outcome, Producers
from dragoman.broker.reading import Reading
from dragoman.broker.sharing import Sharing
from dragoman.broker.waiting import Waiting
from dragoman.errors import (
    DragomanError,
    RemoteError,
    StorageError,
    UsageError,
)
from dragoman.queue import QueueStore
from dragoman.queue.api.arguments import group_bytes, queue_bytes

M = TypeVar("M", bound=wire.Asking)
T = TypeVar("T")
Reply = bytes | asyncio.Future[bytes]

# One call of the store puts at most so much, so that a few large requests do not hold up others.
TOGETHER_MESSAGES = 50_000
TOGETHER_BYTES = 8 << 20
NAMES_MAX = 4096


@dataclass(slots=True)
class _Puts:
    queues: list[bytes]
    messages: list[bytes]
    bytes: int
    outcome: Outcome


class StoreService:
    """Answers for a store; ``handlers`` are for ``rpc.serve``. Belongs to the loop it is made on.

    The store stays its owner's. ``close`` ends waiting, and what is under way.
    """

    def __init__(self, store: QueueStore, *, waiters_max: int = 5000) -> None:
        self._store = store
        self._identity = store.identity
        self._process = os.urandom(8)
        self._loop = asyncio.get_running_loop()
        # Puts one after the other, and what else changes the store; reads beside them.
        self._putter = ThreadPoolExecutor(1, "dragoman-broker-put")
        self._keeper = ThreadPoolExecutor(1, "dragoman-broker-keep")
        self._producers = Producers()
        self._puts: list[_Puts] = []
        self._putting: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Future[Any]] = set()
        self._reading = Reading(store)
        self._waiting = Waiting(store, waiters_max)
        self._sharing = Sharing(store, waiters_max)
        self._counts = {"puts": 0, "messages_put": 0, "put_calls": 0, "repeated": 0}

    def handlers(self) -> dict[str, Callable[[bytes], Any]]:
        """The methods by name."""
        return {
            "queue.open": self._answer_open,
            "queue.put": self._handler(wire.Put, self._put),
            "queue.delete": self._handler(wire.Delete, self._delete),
            "queue.get": self._handler(wire.Get, self._reading.get),
            "queue.begin": self._handler(wire.Begin, self._begin_group),
            "queue.look": self._handler(wire.Look, self._look),
            "queue.wait": self._handler(wire.Wait, self._waiting.wait),
            "queue.names": self._handler(wire.Names, self._names),
            "queue.commit": self._handler(wire.Commit, self._commit),
            "queue.take": self._handler(wire.Take, self._sharing.take),
            "queue.settle": self._handler(wire.Settle, self._sharing.settle),
            "queue.groups": self._handler(wire.Groups, self._groups),
            "queue.trim": self._handler(wire.Trim, self._trim),
            "queue.sync": self._handler(wire.Asking, self._sync),
            "queue.statistics": self._handler(wire.Asking, self._statistics),
        }

    def _handler(self, kind: type[M], answer: Callable[[M], Reply]) -> Callable[[bytes], Reply]:
        decoder = msgspec.msgpack.Decoder(kind)
        process = self._process

        def handle(body: bytes) -> Reply:
            request = wire.decode(decoder, body)
            if request.process != process:
                raise RemoteError(
                    "another process serves here than the request names",
                    code=wire.OTHER_PROCESS,
                    retry_safe=True,
                )
            try:
                return answer(request)
            except DragomanError as error:
                raise wire.to_wire(error) from None

        return handle

    def _answer_open(self, body: bytes) -> bytes:
        request = wire.decode(_OPEN, body)
        if request.version != wire.VERSION:
            raise UsageError(f"version {request.version} is asked for; this server has version 1")
        self._producers.know(request.producer)
        read_only = self._store.read_only
        return wire.encode(wire.Opened(wire.VERSION, self._identity, self._process, read_only))

    # Puts.

    def _put(self, request: wire.Put) -> Reply:
        count = len(request.messages)
        wire.check_count(count, "messages")
        outcome, new = self._begin(request)
        if not new:
            self._counts["repeated"] += 1
            return outcome.reply_to(self._loop.create_future())
        queues = request.queues
        if isinstance(queues, bytes):
            queues = [queues] * count
        if len(queues) != count:
            outcome.failed(UsageError(f"{len(queues)} queues beside {count} messages"))
        else:
            size = sum(map(len, request.messages))
            self._puts.append(_Puts(queues, request.messages, size, outcome))
            if self._putting is None:
                self._putting = self._loop.create_task(self._put_all())
        return outcome.reply_to(self._loop.create_future())

    def _begin(self, request: wire.Put | wire.Delete) -> tuple[Outcome, bool]:
        return self._producers.begin(
            request.producer, request.sequence, request.ended, request.after, request.again
        )

    async def _put_all(self) -> None:
        try:
            # What else came in this tick of the loop goes with it.
            await asyncio.sleep(0)
            while self._puts:
                messages = size = number = 0
                for puts in self._puts:
                    number += 1
                    messages += len(puts.messages)
                    size += puts.bytes
                    if messages >= TOGETHER_MESSAGES or size >= TOGETHER_BYTES:
                        break
                taken, self._puts = self._puts[:number], self._puts[number:]
                await self._put_some(taken)
        finally:
            self._putting = None

    async def _put_some(self, taken: list[_Puts]) -> None:
        queues = taken[0].queues
        messages = taken[0].messages
        if len(taken) > 1:
            queues = [queue for puts in taken for queue in puts.queues]
            messages = [message for puts in taken for message in puts.messages]
        try:
            offsets = await self._loop.run_in_executor(
                self._putter, self._store.put_many, queues, messages
            )
        except UsageError as error:
            # Nothing was put. Each on its own, so that one does not fail the others.
            if len(taken) == 1:
                taken[0].outcome.failed(error)
                return
            for puts in taken:
                await self._put_some([puts])
            return
        except DragomanError as error:
            for puts in taken:
                puts.outcome.failed(wire.to_wire(error))
            return
        except BaseException as error:
            for puts in taken:
                puts.outcome.failed(StorageError(f"{type(error).__name__}: {error}"))
            if not isinstance(error, Exception):
                raise
            return
        counts = self._counts
        counts["put_calls"] += 1
        counts["puts"] += len(taken)
        counts["messages_put"] += len(offsets)
        at = 0
        for puts in taken:
            end = at + len(puts.messages)
            puts.outcome.done(wire.encode(offsets[at:end] if len(taken) > 1 else offsets))
            at = end
        if self._waiting.count:
            self._waiting.wake(queues)
        if self._sharing.waiting:
            self._sharing.wake()

    def _delete(self, request: wire.Delete) -> Reply:
        outcome, new = self._begin(request)
        if new:
            work = self._run(self._keeper, self._store.delete, request.queue)
            work.add_done_callback(lambda done: self._settle(outcome, done))
        else:
            self._counts["repeated"] += 1
        return outcome.reply_to(self._loop.create_future())

    def _settle(self, outcome: Outcome, done: asyncio.Future[bytes]) -> None:
        error = done.exception()
        if error is None:
            outcome.done(done.result())
        elif isinstance(error, DragomanError):
            outcome.failed(error)
        else:
            outcome.failed(StorageError(f"{type(error).__name__}: {error}"))

    # Reads.

    def _begin_group(self, request: wire.Begin) -> bytes:
        queue, group = queue_bytes(request.queue), group_bytes(request.group)
        while True:
            life = self._store._life(queue)
            _, position = self._store._begin(queue, group)
            if self._store._life(queue) == life:
                return wire.encode((life, position))

    def _look(self, request: wire.Look) -> bytes:
        wire.check_count(len(request.queues), "queues")
        store = self._store
        return wire.encode(
            [(store.first_offset(q), store.length(q), q in store) for q in request.queues]
        )

    def _names(self, request: wire.Names) -> bytes:
        count = max(1, min(request.count, NAMES_MAX))
        if not 0 <= request.after < 1 << 32:
            raise UsageError(f"names go on after what the last reply said, not {request.after}")
        return wire.encode(self._store._names(max(1, request.after), count))

    # Positions, trims and statistics, each a call of the store.

    def _commit(self, request: wire.Commit) -> Reply:
        queue, group = queue_bytes(request.queue), group_bytes(request.group)
        if request.life is None:
            return self._run(self._keeper, self._store.commit, queue, group, request.position)
        return self._run(
            self._keeper, self._commit_as, queue, group, request.position, request.life
        )

    def _commit_as(self, queue: bytes, group: bytes, position: int, life: bytes) -> None:
        now = self._store._follow(queue, life, position) if life and position else b""
        number = int.from_bytes(now[8:], "little") if now else None
        self._store._commit_as(queue, group, position, number)

    def _groups(self, request: wire.Groups) -> bytes:
        return wire.encode(self._store.groups(queue_bytes(request.queue)))

    def _trim(self, request: wire.Trim) -> Reply:
        return self._run(self._keeper, self._store.trim, request.queue, request.before)

    def _sync(self, _: wire.Asking) -> Reply:
        return self._run(self._keeper, self._store.sync)

    def _statistics(self, _: wire.Asking) -> bytes:
        mine = {
            **self._counts,
            "gets": self._reading.count,
            "producers": len(self._producers),
            "waiting": self._waiting.count + self._sharing.waiting,
        }
        return wire.encode((asdict(self._store.statistics()), mine))

    def _run(
        self, pool: ThreadPoolExecutor, call: Callable[..., T], *arguments: Any
    ) -> asyncio.Future[bytes]:
        """A call of the store on a thread as a future of the reply; cancelling it stops nothing."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        work = self._loop.run_in_executor(pool, call, *arguments)
        self._retain(work)

        def end(done: asyncio.Future[T]) -> None:
            error = done.exception()
            if answer.done():
                return
            if error is None:
                answer.set_result(wire.encode(done.result()))
            else:
                answer.set_exception(
                    wire.to_wire(error) if isinstance(error, DragomanError) else error
                )

        work.add_done_callback(end)
        return answer

    def _retain(self, work: asyncio.Future[Any]) -> None:
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)

    def stop_waiting(self) -> None:
        """Answer all who wait for messages; nobody waits from now on."""
        self._waiting.stop()
        self._sharing.stop_waiting()

    async def close(self) -> None:
        """Wait for what is under way; no request may come any more."""
        self.stop_waiting()
        while self._putting is not None or self._under_way:
            await asyncio.wait([*self._under_way, *([self._putting] if self._putting else [])])
        await self._reading.close()
        await self._sharing.close()
        for pool in (self._putter, self._keeper):
            pool.shutdown()


_OPEN = msgspec.msgpack.Decoder(wire.Open)
