"""Workers on JetStream: a durable pull consumer for each queue and group, of which each worker asks
for the next record.

``NatsStore.workers`` makes them. JetStream gives and acknowledges records (``nats_records``), which
hold many messages; what became of the messages of one that is not done as a whole is noted in the
meta stream, so that whoever is given the record next knows. The invariants: a record is
acknowledged when all of its messages are done, or in the dead letters, and not before; nothing is
given of a record whose AckWait has passed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from dragoman.broker.nats_names import token_of
from dragoman.broker.nats_reader import Gone
from dragoman.broker.nats_records import LAST, PART, Found, decode
from dragoman.broker.nats_stream import ApiError, Streams
from dragoman.errors import CorruptionError, DeadlineError, LinkLostError
from dragoman.queue.work.leases import Message
from dragoman.queue.work.settings import (
    TAKE_BYTES,
    WorkSettings,
    count_of,
    delay_of,
    keys_of,
    lease_of,
    messages_of,
    timeout_of,
)

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from dragoman.broker.nats_store import NatsStore

# How long JetStream is asked to wait for a record at a time: less than a try of ``Streams`` takes.
WAIT_S = 1.5
LOOK_S = 0.02
CONSUMER_NOT_FOUND = 10014
encode = msgspec.msgpack.Encoder().encode
# The queue's life; offsets that are done; those that were begun for the last time.
_NOTE = msgspec.msgpack.Decoder(tuple[bytes, list[int], list[int]])


def consumer_of(name: bytes, group: bytes) -> str:
    """The name of the consumer of a group; those of one queue begin alike."""
    return f"{consumers_of(name)}{hashlib.sha256(group).hexdigest()[:24]}"


def consumers_of(name: bytes) -> str:
    """What the names of all consumers of a queue begin with."""
    return f"w{hashlib.sha256(name).hexdigest()[:24]}-"


async def forget_consumers(streams: Streams, stream: str, name: bytes) -> None:
    """The queue is gone: its consumers go."""
    offset = total = 0
    mine: list[str] = []
    while True:
        try:
            answer = await streams.api(f"CONSUMER.NAMES.{stream}", {"offset": offset})
        except ApiError as error:
            raise streams.translated(error) from None
        names = answer.get("consumers") or []
        mine += [each for each in names if each.startswith(consumers_of(name))]
        offset, total = offset + len(names), answer.get("total", 0)
        if not names or offset >= total:
            break
    for each in mine:
        try:
            await streams.api(f"CONSUMER.DELETE.{stream}.{each}")
        except ApiError as error:
            if error.number != CONSUMER_NOT_FOUND and error.status != 404:
                raise streams.translated(error) from None


@dataclass(slots=True, eq=False)
class _Record:
    """A record that this worker has. ``left`` is what is not done of it, in order."""

    life: bytes
    seq: int
    queue_life: bytes
    reply: str
    delivered: int
    until_s: float
    left: dict[int, bytes]
    begun: set[int]
    done: list[int]
    fresh: set[int] = field(default_factory=set)
    later: dict[int, float] = field(default_factory=dict)
    out: dict[int, int] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    keys: dict[int, Hashable] = field(default_factory=dict)
    noted: bool = False


class NatsWorkers:
    """``Workers`` of a store on JetStream."""

    def __init__(
        self, store: NatsStore, queue: bytes, group: bytes, settings: WorkSettings
    ) -> None:
        self._store = store
        self._streams = store._streams
        self._loop = store._loop
        self.queue = queue
        self.group = group
        self.settings = settings
        self._consumer = consumer_of(queue, group)
        self._lease_s = settings.lease_ms / 1000
        self._most = settings.attempts_max or 0
        self._floor: int | None = None
        self._records: dict[bytes, _Record] = {}
        self._serial = 0

    # The consumer.

    async def _ready(self) -> None:
        if self._floor is not None:
            return
        store, prefix = self._store, self._store._prefix
        self._floor = await store.committed(self.queue, self.group)
        try:
            await self._streams.api(f"CONSUMER.INFO.{prefix}.{self._consumer}")
            return
        except ApiError as error:
            if error.number != CONSUMER_NOT_FOUND and error.status != 404:
                raise self._streams.translated(error) from None
        config: dict[str, Any] = {
            "durable_name": self._consumer,
            "ack_policy": "explicit",
            "ack_wait": self.settings.lease_ms * 1_000_000,
            # Who is given a record once too often puts it to the dead letters; JetStream would
            # only stop giving it.
            "max_deliver": -1,
            "max_ack_pending": 1 if self.settings.ordered_by is not None else self.settings.window,
            "filter_subject": store._subject(self.queue),
            "deliver_policy": "all",
        }
        last = await store._last(self.queue)
        if self._floor and last is not None and self._floor < last.record.end:
            try:
                found = await store._reader.locate(self.queue, self._floor, last)
                config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": found.seq}
            except Gone:
                pass
        elif self._floor and last is not None:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": last.seq + 1}
        try:
            await self._streams.api(
                f"CONSUMER.DURABLE.CREATE.{prefix}.{self._consumer}",
                {"stream_name": prefix, "config": config},
            )
        except ApiError as error:
            raise self._streams.translated(error) from None

    async def _next_message(self, wait_s: float) -> Msg:
        """The consumer's answer: a record, or that there is none."""
        # Where ``max_ack_pending`` are out, JetStream answers when it expires and not before.
        asked: dict[str, Any] = {"batch": 1, "expires": round(min(max(wait_s, 0.1), WAIT_S) * 1e9)}
        if wait_s <= 0:
            asked["no_wait"] = True
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._store._prefix}.{self._consumer}"
        until_s = self._streams.deadline_s()
        tries = 0
        while True:
            message = await self._streams._request(
                subject, encode_json(asked), None, until_s, foreign=True
            )
            self._store._check_open()
            if message is not None:
                return message
            # No server, or no such consumer any more.
            if self._loop.time() >= until_s:
                raise DeadlineError(f"{self._store.where}: no server answers", retry_safe=True)
            self._floor = None
            await self._ready()
            await self._streams.pause(tries)
            tries += 1

    async def _pull(self, wait_s: float) -> _Record | None:
        """The next record, None if there is none; its parts and what is done are left out."""
        message = await self._next_message(wait_s)
        if not message.reply.startswith("$JS.ACK."):
            return None
        tokens = message.reply.split(".")
        at = 4 if len(tokens) == 9 else 6
        delivered, seq = int(tokens[at]), int(tokens[at + 1])
        found = Found(seq, decode(message.data, message.subject, seq))
        made = _Record(
            os.urandom(8),
            seq,
            found.record.life,
            message.reply,
            delivered,
            self._loop.time() + self._lease_s,
            {},
            set(),
            [],
        )
        if delivered > 1:
            await self._recall(made)
        made.left = await self._left(message.subject, found, set(made.done))
        made.fresh = set(made.left)
        by = self.settings.ordered_by
        if by is not None:
            made.keys = dict(zip(made.left, keys_of(list(made.left.values()), by), strict=True))
        self._records[made.life] = made
        dead = [o for o in made.left if self._most and o in made.begun and delivered > self._most]
        if dead:
            await self._bury(made, dead)
        if made.life in self._records and not made.left:
            await self._done(made, [])
        return made

    async def _left(self, subject: str, found: Found, done: set[int]) -> dict[int, bytes]:
        """Messages of a record by offset, without those that are done, or before the beginning."""
        record = found.record
        if record.kind == PART:
            return {}
        bodies = record.messages
        if record.kind == LAST:
            bodies = [await self._store._reader._whole(subject, found)]
        least = self._floor or 0
        trimmed = await self._store._positions.trimmed(self.queue)
        if trimmed is not None and trimmed.life == record.life:
            least = max(least, trimmed.position)
        return {
            offset: body
            for offset, body in enumerate(bodies, record.first)
            if offset >= least and offset not in done
        }

    # What is known of a record that is not done as a whole.

    def _noting(self, record: _Record) -> str:
        token = token_of(self.queue)
        return f"{self._store._meta}.w.{token}.{self._consumer}.{record.seq}"

    async def _recall(self, record: _Record) -> None:
        got = await self._streams.last(self._store._meta, self._noting(record))
        if got is None:
            return
        try:
            life, done, begun = _NOTE.decode(got[1])
        except msgspec.DecodeError:
            raise CorruptionError(f"{self._noting(record)}: not a note") from None
        record.noted = True
        if life == record.queue_life:
            record.done, record.begun = done, set(begun)

    async def _note(self, record: _Record) -> None:
        record.noted = True
        await self._streams.publish(
            self._store._meta,
            self._noting(record),
            encode((record.queue_life, record.done, sorted(record.begun))),
            id=self._store._writer.next_id(),
            after=None,
            until_s=self._streams.deadline_s(),
        )

    async def _done(self, record: _Record, offsets: list[int]) -> None:
        for offset in offsets:
            record.left.pop(offset, None)
            record.out.pop(offset, None)
            record.later.pop(offset, None)
            record.fresh.discard(offset)
        record.done += offsets
        if record.left:
            await self._note(record)
            return
        self._records.pop(record.life, None)
        until_s = self._streams.deadline_s()
        tries = 0
        while await self._streams._request(record.reply, b"+ACK", None, until_s) is None:
            self._store._check_open()
            if self._loop.time() >= until_s:
                raise LinkLostError(f"{self._store.where}: no server answers: it is done, or not")
            await self._streams.pause(tries)
            tries += 1
        if record.noted:
            await self._streams.purge(self._store._meta, self._noting(record))

    async def _bury(self, record: _Record, offsets: list[int]) -> None:
        letters = self.settings.dead_letter
        assert letters is not None
        await self._store.put_many(letters, [record.left[offset] for offset in offsets])
        await self._done(record, offsets)

    async def _longer(self, record: _Record) -> None:
        record.until_s = self._loop.time() + self._lease_s
        await self._store._client.publish(record.reply, b"+WPI")

    # Taking.

    def _candidates(self) -> list[tuple[_Record, int]]:
        now_s = self._loop.time()
        found = []
        busy: set[Hashable] = set()
        for record in sorted(self._records.values(), key=lambda each: each.seq):
            if record.until_s <= now_s:
                del self._records[record.life]
                continue
            for offset in [offset for offset, s in record.later.items() if s <= now_s]:
                del record.later[offset]
                record.fresh.add(offset)
            if not record.keys:
                found += [(record, offset) for offset in sorted(record.fresh)]
                continue
            for offset in record.left:
                key = record.keys[offset]
                if key not in busy and offset in record.fresh:
                    found.append((record, offset))
                busy.add(key)
        return found

    async def _local(self, count: int) -> tuple[list[Message], bool]:
        """What is to be given of records that are here; whether it is to be given alone."""
        given: list[Message] = []
        size = 0
        used: dict[bytes, _Record] = {}
        for record, offset in self._candidates():
            attempts = record.delivered + record.tries.get(offset, 0)
            last = 1 < self._most <= attempts and record.delivered > 1
            if len(given) >= count or (given and (last or size >= TAKE_BYTES)):
                break
            self._serial = (self._serial + 1) & 0xFFFFFFFF
            record.fresh.discard(offset)
            record.out[offset] = self._serial
            body = record.left[offset]
            size += len(body)
            used[record.life] = record
            if self._most:
                attempts = min(attempts, self._most)
            given.append(Message(offset, attempts, body, self._serial, record.life))
            if last or self._most == 1:
                record.begun.add(offset)
            if last:
                break
        for record in used.values():
            await self._longer(record)
            if record.begun and record.begun & set(record.out):
                await self._note(record)
        return given, bool(given) and 1 < self._most <= given[-1].attempts

    async def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """See ``Workers.take``."""
        count_of(count)
        self._store._check_open()
        until_s = self._loop.time() + timeout_of(wait_ms)
        await self._ready()
        while True:
            given, alone = await self._local(count)
            while not alone and len(given) < count and sum(len(m.body) for m in given) < TAKE_BYTES:
                left_s = 0.0 if given else self._wait_s(until_s)
                if self._records and self.settings.ordered_by is not None:
                    # There is none but this while it is not done.
                    if left_s > 0:
                        await asyncio.sleep(min(left_s, LOOK_S))
                    break
                if await self._pull(left_s) is None:
                    break
                more, alone = await self._local(count - len(given))
                given += more
            if given or self._loop.time() >= until_s:
                return given

    def _wait_s(self, until_s: float) -> float:
        """For how long nothing that is here can become due."""
        for record in self._records.values():
            until_s = min([until_s, *record.later.values()])
        return until_s - self._loop.time()

    # Settling.

    def _mine(self, messages: list[Message]) -> list[tuple[_Record, list[int]]]:
        """Of which records these messages still are this worker's. Settling one waits, and others
        of this worker's tasks may have settled the next meanwhile."""
        now_s = self._loop.time()
        mine: dict[bytes, tuple[_Record, list[int]]] = {}
        for message in messages:
            record = self._records.get(message.life)
            if (
                record is not None
                and record.until_s > now_s
                and record.out.get(message.offset) == message.serial
            ):
                mine.setdefault(message.life, (record, []))[1].append(message.offset)
        return list(mine.values())

    async def ack(self, messages: Message | Sequence[Message]) -> int:
        """See ``Workers.ack``; a majority of the replicas has it."""
        self._store._check_open()
        mine = self._mine(messages_of(messages))
        for record, offsets in mine:
            await self._done(record, offsets)
        return sum(len(offsets) for _, offsets in mine)

    async def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """See ``Workers.nack``. This worker is given them again, unless the lease ends first."""
        self._store._check_open()
        delay_s = delay_of(delay_ms)
        mine = self._mine(messages_of(messages))
        for record, offsets in mine:
            dead = []
            for offset in offsets:
                if record.out.pop(offset, None) is None:
                    continue
                tries = record.tries[offset] = record.tries.get(offset, 0) + 1
                if self._most and record.delivered + tries > self._most:
                    dead.append(offset)
                else:
                    record.later[offset] = self._loop.time() + delay_s
            if dead:
                await self._bury(record, dead)
        return sum(len(offsets) for _, offsets in mine)

    async def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """See ``Workers.extend``; it is always the consumer's AckWait that begins anew."""
        self._store._check_open()
        lease_of(lease_ms, self.settings.lease_ms)
        mine = self._mine(messages_of(messages))
        for record, _ in mine:
            await self._longer(record)
        return sum(len(offsets) for _, offsets in mine)


def encode_json(value: dict[str, Any]) -> bytes:
    """As JetStream's API wants it."""
    return msgspec.json.encode(value)
