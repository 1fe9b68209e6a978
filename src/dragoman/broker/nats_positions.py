"""Positions in the meta stream: where queues begin that were trimmed, and what groups committed.

``NatsStore`` has one ``Positions``; ``docs/formats/broker.md`` ("On NATS JetStream") has the
subjects. The invariants: a position names the life of the queue that it is of, and says nothing of
another; where a queue begins never goes back within a life.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

import msgspec

from dragoman.broker.nats_names import token_of
from dragoman.broker.nats_reader import CACHED_S, PLACES_OF_MAX
from dragoman.broker.nats_stream import Conflict, Streams
from dragoman.errors import CorruptionError


class Position(msgspec.Struct, array_like=True):
    """First offset of a trimmed queue, or what the group ``name`` has committed."""

    life: bytes
    position: int
    name: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(Position)


class Positions:
    """Reads and writes positions; ``next_id`` gives each publication an id of its own."""

    def __init__(self, streams: Streams, meta: str, next_id: Callable[[], str]) -> None:
        self._streams = streams
        self._meta = meta
        self._next_id = next_id
        self._loop = asyncio.get_running_loop()
        self._trims: OrderedDict[bytes, tuple[float, Position | None]] = OrderedDict()

    def forget(self, name: bytes) -> None:
        """Nothing is known of the queue any more."""
        self._trims.pop(name, None)

    async def trimmed(self, name: bytes) -> Position | None:
        """Before where the queue was trimmed, as of a second ago at most."""
        known = self._trims.get(name)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        now = await self.trimmed_now(name)
        self._trims[name] = (self._loop.time() + CACHED_S, now)
        self._trims.move_to_end(name)
        if len(self._trims) > PLACES_OF_MAX:
            self._trims.popitem(last=False)
        return now

    async def trimmed_now(self, name: bytes) -> Position | None:
        """Before where the queue was trimmed."""
        return (await self._read(self._trim_subject(name)))[1]

    async def trim(self, name: bytes, wanted: Position) -> None:
        """Save where the queue begins, unless it begins later already."""
        subject = self._trim_subject(name)
        while True:
            seq, known = await self._read(subject)
            same = known is not None and known.life == wanted.life
            if known is not None and same and known.position >= wanted.position:
                return
            try:
                await self._write(subject, wanted, seq)
                return
            except Conflict:
                continue

    async def committed(self, name: bytes, group: bytes) -> Position | None:
        """What a group has committed."""
        return (await self._read(self._group_subject(name, group)))[1]

    async def commit(self, name: bytes, position: Position) -> None:
        """Save what the group ``position.name`` commits."""
        await self._write(self._group_subject(name, position.name), position, None)

    async def groups(self, name: bytes) -> AsyncIterator[Position]:
        """What every group of the queue has committed."""
        pattern = f"{self._meta}.c.{token_of(name)}.*"
        for subject in await self._streams.subjects(self._meta, pattern):
            _, known = await self._read(subject)
            if known is not None:
                yield known

    def _trim_subject(self, name: bytes) -> str:
        return f"{self._meta}.t.{token_of(name)}"

    def _group_subject(self, name: bytes, group: bytes) -> str:
        return f"{self._meta}.c.{token_of(name)}.{token_of(group)}"

    async def _read(self, subject: str) -> tuple[int, Position | None]:
        """A position and the sequence that it is at."""
        got = await self._streams.last(self._meta, subject)
        if got is None:
            return 0, None
        try:
            return got[0], _DECODER.decode(got[1])
        except msgspec.DecodeError:
            raise CorruptionError(f"{subject} at sequence {got[0]}: not a position") from None

    async def _write(self, subject: str, position: Position, after: int | None) -> None:
        await self._streams.publish(
            self._meta,
            subject,
            _encode(position),
            id=self._next_id(),
            after=after,
            until_s=self._streams.deadline_s(),
        )
