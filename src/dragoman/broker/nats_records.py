"""What a queue's messages are on JetStream: records, and how to find the one with an offset.

A record is one message of the stream, on the queue's subject: a block of messages of the queue, or
a part of a message that is too large for one. ``docs/formats/broker.md`` ("On NATS JetStream") has
the layout. Sans-I/O: ``nats_writer`` and ``nats_reader`` move them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import msgspec

from dragoman.errors import CorruptionError

BLOCK, PART, LAST = 1, 2, 3
# A block ends when it has so much: reading one message reads its block.
BLOCK_BYTES = 64 << 10
BLOCK_MESSAGES = 4096
# What a record has beside its messages, with the headers of its publication.
AROUND_BYTES = 4096


class Record(msgspec.Struct, array_like=True, gc=False):
    """``kind``: BLOCK (``messages`` from offset ``first`` on), PART (one of the pieces of message
    ``first``, not the last) or LAST (the last piece, that makes it a message). ``parts`` is the
    number of a PART, counted from 0, or how many PARTs precede a LAST; the first of them is at
    ``start`` in the stream. ``life`` tells the queue from one of the same name that was deleted,
    ``by`` the publication from every other."""

    kind: int
    life: bytes
    by: bytes
    first: int
    messages: list[bytes]
    parts: int = 0
    start: int = 0

    @property
    def end(self) -> int:
        """The offset after its last message."""
        return self.first + (len(self.messages) if self.kind == BLOCK else self.kind == LAST)


@dataclass(frozen=True, slots=True)
class Found:
    """A record and its place in the stream."""

    seq: int
    record: Record


_DECODER = msgspec.msgpack.Decoder(Record)
encode = msgspec.msgpack.Encoder().encode


def decode(data: bytes, subject: str, seq: int) -> Record:
    """A record; raises CorruptionError for what is none."""
    try:
        record = _DECODER.decode(data)
    except msgspec.DecodeError:
        record = None
    if (
        record is None
        or record.kind not in (BLOCK, PART, LAST)
        or not 0 <= record.first < 1 << 48
        or (record.kind == BLOCK and not record.messages)
        or (record.kind != BLOCK and len(record.messages) != 1)
    ):
        raise CorruptionError(f"{subject} at sequence {seq}: not a record of a queue")
    return record


@dataclass(slots=True)
class Places:
    """Where records of a queue begin, as far as is known: offsets and sequences, both rising."""

    life: bytes
    offsets: list[int] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)

    def note(self, offset: int, seq: int) -> None:
        """Offset ``offset`` is the first of the record at ``seq``, or the next record after it."""
        at = bisect_right(self.offsets, offset)
        if at and self.offsets[at - 1] == offset:
            self.seqs[at - 1] = max(self.seqs[at - 1], seq)
            return
        self.offsets.insert(at, offset)
        self.seqs.insert(at, seq)
        if len(self.offsets) > PLACES_MAX:
            # Every second one, but for the ends.
            del self.offsets[1:-1:2]
            del self.seqs[1:-1:2]

    def around(self, offset: int) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """The place at or before ``offset``, and the one behind it."""
        at = bisect_right(self.offsets, offset)
        low = (self.offsets[at - 1], self.seqs[at - 1]) if at else (0, 1)
        high = (self.offsets[at], self.seqs[at]) if at < len(self.offsets) else None
        return low, high


PLACES_MAX = 128


class Search:
    """Looks for the record that holds ``offset``, by asking for the first record at or after a
    sequence: ``probe`` says where to ask, ``answer`` takes what was there until ``found``.

    Sequences are those of the whole stream, so a queue's records lie anywhere among others'. The
    guess follows the offsets between two known places, every second time it is the middle: at most
    about twice the binary logarithm of the stream's length, and mostly two or three.
    """

    def __init__(self, offset: int, low: tuple[int, int], high: tuple[int, int]) -> None:
        self.offset = offset
        # The record is at or after low's sequence; what begins at high is behind it.
        self._low = low
        self._high = high
        self._probes = 0
        self.found: Found | None = None
        self.gone = False

    def probe(self) -> int:
        """The sequence to ask for."""
        low_offset, low = self._low
        high_offset, high = self._high
        self._probes += 1
        if high - low < 4 or (self._probes == 1 and low_offset == self.offset):
            return low
        if self._probes % 2:
            span = max(1, high_offset - low_offset)
            guess = low + (high - low) * max(0, self.offset - low_offset) // span
        else:
            guess = (low + high) // 2
        return min(max(guess, low), high - 1)

    def answer(self, asked: int, got: Found | None) -> bool:
        """What is first at or after ``asked``; True when the search is over."""
        if got is None or got.record.first > self.offset:
            if asked <= self._low[1]:
                # Nothing is left where it must be: it has been purged.
                self.gone = True
                return True
            first = self._high[0] if got is None else got.record.first
            self._high = (first, asked)
        elif got.record.end <= self.offset:
            self._low = (got.record.end, got.seq + 1)
            if self._low[1] >= self._high[1]:
                # Behind the last that was known: ask there.
                self._high = (self._high[0], self._low[1] + 1)
        else:
            self.found = got
            return True
        return False
