"""Appends to queues on JetStream: what comes for a queue while a publication is under way goes into
the next one.

Every publication says after which one it is to come, so offsets have no gaps and no doubles however
many write; who comes second reads the queue's end and tries again. JetStream checks the subject's
last sequence, but a cluster's leader checks it against what has been applied (2.9 does, and later
ones did): two that are under way at once would both pass. Therefore the publication's id is what it
comes after, too: of two that come after the same one JetStream takes the second for a duplicate,
and whose it is, the record says. Invariants: a queue has one publication under way here; its
messages are published in the order given; a message is in the stream once, or its caller is told
that nobody knows.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from dragoman.broker.nats_names import is_hashed, token_of
from dragoman.broker.nats_records import (
    BLOCK,
    BLOCK_BYTES,
    BLOCK_MESSAGES,
    LAST,
    PART,
    Record,
    encode,
)
from dragoman.broker.nats_stream import Conflict, Streams
from dragoman.errors import DragomanError, OverloadError

# Publications under way at once, over all queues.
AT_ONCE = 256
# Queues whose ends are remembered.
ENDS_MAX = 100_000


class Puts:
    """Messages that one call put, in whatever queues; ``future`` ends with their offsets."""

    __slots__ = ("_left", "_offsets", "future")

    def __init__(self, count: int, future: asyncio.Future[list[int]]) -> None:
        self.future = future
        self._left = count
        self._offsets = [0] * count

    def stored(self, number: int, offset: int) -> None:
        """The message with ``number`` has ``offset``."""
        self._offsets[number] = offset
        self._left -= 1
        if self._left == 0 and not self.future.done():
            self.future.set_result(self._offsets)

    def failed(self, error: Exception) -> None:
        """One of them could not be stored; those that wait are not."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True)
class _End:
    """The end of a queue as this writer knows it."""

    seq: int
    offset: int
    life: bytes


@dataclass(slots=True)
class _Waiting:
    message: bytes
    puts: Puts
    number: int


@dataclass(slots=True)
class _Queue:
    waiting: deque[_Waiting] = field(default_factory=deque)


class Writer:
    """Appends to the queues of the stream ``prefix``."""

    def __init__(
        self, streams: Streams, prefix: str, *, payload_bytes: int, bytes_max: int
    ) -> None:
        self._streams = streams
        self._prefix = prefix
        self._payload_bytes = payload_bytes
        self._block_bytes = min(BLOCK_BYTES, payload_bytes)
        self._bytes_max = bytes_max
        self._loop = asyncio.get_running_loop()
        self._queues: dict[bytes, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: OrderedDict[bytes, _End] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._id = os.urandom(9).hex()
        self._count = itertools.count(1)
        self.bytes = 0

    def put(self, names: list[bytes], messages: list[bytes], puts: Puts) -> None:
        """Append ``messages``, each to the queue beside it. Raises OverloadError when too much
        waits."""
        size = sum(map(len, messages))
        if self.bytes and self.bytes + size > self._bytes_max:
            raise OverloadError(f"{self.bytes} bytes of messages wait for the servers already")
        self.bytes += size
        for number, (name, message) in enumerate(zip(names, messages, strict=True)):
            queue = self._queues.get(name)
            if queue is None:
                queue = self._queues[name] = _Queue()
                task = self._loop.create_task(self._append_all(name, queue))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            queue.waiting.append(_Waiting(message, puts, number))

    def next_id(self) -> str:
        """An id that no other publication has."""
        return f"{self._id}-{next(self._count)}"

    async def drain(self) -> None:
        """Wait until nothing waits."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def forget(self, name: bytes) -> None:
        """The queue's end is not known any more."""
        self._ends.pop(name, None)

    async def _append_all(self, name: bytes, queue: _Queue) -> None:
        try:
            while queue.waiting:
                async with self._room:
                    batch = self._take(queue)
                    if batch:
                        await self._append(name, batch)
        finally:
            del self._queues[name]

    def _take(self, queue: _Queue) -> list[_Waiting]:
        """What goes into the next record: messages that fit a block, or one that does not."""
        batch: list[_Waiting] = []
        size = 0
        while queue.waiting and len(batch) < BLOCK_MESSAGES:
            first = queue.waiting[0]
            # A call of which something failed, or that nobody waits for: the rest is left out.
            if first.puts.future.done():
                self.bytes -= len(queue.waiting.popleft().message)
                continue
            size += len(first.message) + 5
            if batch and size > self._block_bytes:
                break
            batch.append(queue.waiting.popleft())
        return batch

    async def _append(self, name: bytes, batch: list[_Waiting]) -> None:
        # From when it is its turn: many queues in one call take their time.
        until_s = self._streams.deadline_s()
        messages = [each.message for each in batch]
        try:
            while True:
                try:
                    offset = await self._publish(name, messages, until_s)
                    break
                except Conflict:
                    self.forget(name)
        except Exception as error:
            self.forget(name)
            for each in batch:
                each.puts.failed(_own(error, alone=len(batch) == 1))
        else:
            for number, each in enumerate(batch):
                each.puts.stored(each.number, offset + number)
        finally:
            self.bytes -= sum(map(len, messages))

    async def _publish(self, name: bytes, messages: list[bytes], until_s: float) -> int:
        """Publish messages as the queue's next; the offset of the first. Raises Conflict."""
        token = token_of(name)
        subject = f"{self._prefix}.q.{token}"
        end = self._ends.get(name) or await self._find_end(name, token, subject, until_s)
        if len(messages) == 1 and len(messages[0]) > self._payload_bytes:
            seq = await self._publish_parts(subject, messages[0], end, until_s)
        else:
            record = Record(BLOCK, end.life, b"", end.offset, messages)
            seq = await self._publish_record(subject, record, end.seq, until_s)
        offset = end.offset
        self._ends[name] = _End(seq, offset + len(messages), end.life)
        self._ends.move_to_end(name)
        if len(self._ends) > ENDS_MAX:
            self._ends.popitem(last=False)
        return offset

    async def _find_end(self, name: bytes, token: str, subject: str, until_s: float) -> _End:
        last = await self._streams.last_record(self._prefix, subject)
        if last is not None:
            return _End(last.seq, last.record.end, last.record.life)
        if is_hashed(token):
            # Before its first message, or nobody could tell which queue it is.
            await self._streams.publish(
                f"{self._prefix}-meta",
                f"{self._prefix}-meta.n.{token}",
                name,
                id=self.next_id(),
                after=None,
                until_s=until_s,
            )
        return _End(0, 0, os.urandom(8))

    async def _publish_parts(self, subject: str, message: bytes, end: _End, until_s: float) -> int:
        size = self._payload_bytes
        pieces = [message[at : at + size] for at in range(0, len(message), size)]
        seq, start = end.seq, 0
        for number, piece in enumerate(pieces[:-1]):
            record = Record(PART, end.life, b"", end.offset, [piece], number)
            seq = await self._publish_record(subject, record, seq, until_s)
            start = start or seq
        record = Record(LAST, end.life, b"", end.offset, [pieces[-1]], len(pieces) - 1, start)
        return await self._publish_record(subject, record, seq, until_s)

    async def _publish_record(
        self, subject: str, record: Record, after: int, until_s: float
    ) -> int:
        """Publish a record right after the one at ``after``; its sequence. Raises Conflict if
        another is there."""
        streams = self._streams
        record.by = self.next_id().encode()
        body = encode(record)
        id = f"{subject}.{after}"
        while True:
            try:
                published = await streams.publish(
                    self._prefix, subject, body, id=id, after=after, until_s=until_s
                )
            except Conflict as conflict:
                if not conflict.uncertain:
                    raise
                # Ours, if an earlier try did get through.
                found = await streams.next_record(self._prefix, subject, after + 1)
                if found is None or found.record.by != record.by:
                    raise
                return found.seq
            if not published.duplicate:
                return published.seq
            found = await streams.next_record(self._prefix, subject, published.seq)
            if found is not None and found.seq == published.seq:
                if found.record.by != record.by:
                    raise Conflict
                return found.seq
            # What JetStream remembers has been deleted since: whoever meets that, names it.
            id = f"{subject}.{after}.{published.seq}"


def _own(error: Exception, *, alone: bool) -> Exception:
    """The error for one caller of several: each may change its own."""
    if alone or not isinstance(error, DragomanError):
        return error
    try:
        made = type(error)(str(error))
    except TypeError:
        return error
    made.endpoint, made.retry_safe = error.endpoint, error.retry_safe
    return made
