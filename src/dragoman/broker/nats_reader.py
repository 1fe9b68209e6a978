"""Reads queues on JetStream: from an offset to the record that holds it, and on from there.

JetStream finds the first message on a subject at or after a sequence. ``nats_records.Search`` turns
that into finding an offset; places that were met are remembered, so that reading on, and reading
near what was read, ask once, and a queue's last record read is cached for a second. The invariant:
what is returned lies in one life of the queue and in the order of its offsets, without a gap; what
others have trimmed or deleted is returned for a second at most.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from dragoman.broker.nats_names import token_of
from dragoman.broker.nats_records import BLOCK, LAST, PART, Found, Places, Search
from dragoman.broker.nats_stream import Streams
from dragoman.errors import CorruptionError, StorageError

# Queues of which places are remembered, and of which a record is cached.
PLACES_OF_MAX = 10_000
RECORDS_MAX = 256
CACHED_S = 1.0


class Gone(Exception):
    """The message is not there any more."""


class Reader:
    """Reads the queues of the stream ``prefix``."""

    def __init__(self, streams: Streams, prefix: str) -> None:
        self._streams = streams
        self._prefix = prefix
        self._loop = asyncio.get_running_loop()
        self._places: OrderedDict[bytes, Places] = OrderedDict()
        self._records: OrderedDict[bytes, tuple[float, Found]] = OrderedDict()
        self._last_by = b""

    def forget(self, name: bytes) -> None:
        """Nothing is known of the queue any more."""
        self._places.pop(name, None)
        self._records.pop(name, None)

    def read_by(self) -> bytes:
        """The publication of the last message that was read, of whatever queue: for who asks right
        after reading, before anybody else has his turn."""
        return self._last_by

    async def read_on(
        self, name: bytes, offset: int, count: int
    ) -> tuple[bytes, list[bytes]] | None:
        """``read`` of a queue whose end is not known, where it is known which record holds
        ``offset``, with the queue's life; None if it is not, or is not true any more."""
        cached = self._records.get(name)
        found: Found | None = None
        if cached is not None and cached[0] > self._loop.time():
            found = cached[1]
        if found is None or not found.record.first <= offset < found.record.end:
            places = self._places.get(name)
            if places is None or not places.offsets:
                return None
            (at, seq), behind = places.around(offset)
            if at != offset and (behind is None or behind[1] != seq + 1):
                return None
            subject = f"{self._prefix}.q.{token_of(name)}"
            found = await self._streams.next_record(self._prefix, subject, seq)
            if (
                found is None
                or found.record.life != places.life
                or not found.record.first <= offset < found.record.end
            ):
                return None
        return found.record.life, await self._from(name, offset, count, found)

    async def read(self, name: bytes, offset: int, count: int, last: Found) -> list[bytes]:
        """Up to ``count`` messages from ``offset`` on, which is before the queue's end ``last``.

        Raises Gone if the first of them has been purged.
        """
        found = await self.locate(name, offset, last)
        return await self._from(name, offset, min(count, last.record.end - offset), found)

    async def _from(self, name: bytes, offset: int, count: int, found: Found) -> list[bytes]:
        """Messages from ``offset`` on, which ``found`` holds."""
        subject = f"{self._prefix}.q.{token_of(name)}"
        life = found.record.life
        messages: list[bytes] = []
        if found.record.first > offset:
            raise Gone
        while True:
            record = found.record
            at = offset + len(messages)
            if record.end > at:
                if record.kind == LAST:
                    messages.append(await self._whole(subject, found))
                else:
                    skip = at - record.first
                    messages += record.messages[skip : skip + count - len(messages)]
                self._note(name, life, record.end, found.seq + 1)
                self._cache(name, found)
                self._last_by = record.by
            if len(messages) >= count:
                return messages
            at = offset + len(messages)
            following = await self._following(subject, life, at, found.seq + 1)
            if following is None:
                if not messages:
                    raise Gone
                return messages
            found = following

    async def _following(self, subject: str, life: bytes, at: int, seq: int) -> Found | None:
        """The record at or after ``seq`` that offset ``at`` is read on with, None at the queue's
        end, or where what follows is gone meanwhile.

        A server may not have all that another has acknowledged: a replica that lags, a leader that
        was just elected. Only the queue's last record says where it ends. Raises StorageError when
        what is before that is not found within the store's timeout.
        """

        def fits(found: Found | None) -> bool:
            return found is not None and found.record.life == life and found.record.first <= at

        found = await self._streams.next_at_replica(self._prefix, subject, seq)
        until_s = self._streams.deadline_s()
        tries = 0
        while not fits(found):
            last = await self._streams.last_record(self._prefix, subject)
            if last is None or last.record.life != life or last.record.end <= at:
                return None
            found = await self._streams.next_at_leader(self._prefix, subject, seq)
            if fits(found):
                break
            if found is not None and found.record.life == life:
                return None  # trimmed up to there
            if self._loop.time() >= until_s:
                raise StorageError(
                    f"{subject}: offset {at} is not found, and the queue ends at {last.record.end}"
                )
            await self._streams.pause(tries)
            tries += 1
        return found

    def _cache(self, name: bytes, found: Found) -> None:
        if found.record.kind == BLOCK:
            self._records[name] = (self._loop.time() + CACHED_S, found)
            self._records.move_to_end(name)
            if len(self._records) > RECORDS_MAX:
                self._records.popitem(last=False)

    async def locate(self, name: bytes, offset: int, last: Found) -> Found:
        """The record that holds ``offset``, which is before the end ``last``; raises Gone."""
        if last.record.first <= offset and last.record.kind != PART:
            return last
        subject = f"{self._prefix}.q.{token_of(name)}"
        places = self._places.get(name)
        low: tuple[int, int] = (0, 1)
        high: tuple[int, int] | None = None
        if places is not None and places.life == last.record.life:
            low, high = places.around(offset)
        if high is None or high[1] > last.seq + 1:
            high = (last.record.end, last.seq + 1)
        if low[1] >= high[1]:
            low = (0, 1)
        search = Search(offset, low, high)
        while True:
            seq = search.probe()
            got = await self._streams.next_record(self._prefix, subject, seq)
            if got is not None and got.record.life != last.record.life:
                # Of the queue that had this name before, or of one that follows.
                if got.seq > last.seq:
                    raise Gone
                self.forget(name)
                raise Gone
            if got is not None:
                self._note(name, got.record.life, got.record.first, got.seq)
            if search.answer(seq, got):
                break
        if search.found is None:
            raise Gone
        return search.found

    def _note(self, name: bytes, life: bytes, offset: int, seq: int) -> None:
        places = self._places.get(name)
        if places is None or places.life != life:
            places = self._places[name] = Places(life)
            if len(self._places) > PLACES_OF_MAX:
                self._places.popitem(last=False)
        self._places.move_to_end(name)
        places.note(offset, seq)

    async def _whole(self, subject: str, found: Found) -> bytes:
        """A message that came in parts."""
        pieces: list[bytes] = []
        seq = found.record.start
        while len(pieces) < found.record.parts:
            got = await self._streams.next_record(self._prefix, subject, seq)
            if (
                got is None
                or got.record.kind != PART
                or (got.record.first, got.record.parts) != (found.record.first, len(pieces))
                or got.record.life != found.record.life
            ):
                raise CorruptionError(
                    f"{subject}: offset {found.record.first}: part {len(pieces)} is not at"
                    f" sequence {seq}"
                )
            pieces.append(got.record.messages[0])
            seq = got.seq + 1
        return b"".join([*pieces, found.record.messages[0]])
