"""Exported queues: a checksummed stream that any store can write and any other read.

``docs/formats/broker.md`` ("Exported queues") has the format. ``dragoman queue export`` and
``import`` call these; streams may be pipes. Invariants: an import uses nothing that its checksum
does not cover, and every message has the offset that it had.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dragoman.errors import CorruptionError, StorageError, UsageError
from dragoman.queue import MessageStore
from dragoman.queue.api.arguments import MESSAGE_BYTES_MAX, queue_bytes
from dragoman.queue.disk.crc import crc32c

MAGIC = b"DRGQEXPT"
VERSION = 1
BODY_BYTES_MAX = 1 << 26
# What one record of messages holds, and what one put or get takes.
TOGETHER_BYTES = 1 << 20
TOGETHER_MESSAGES = 4096

QUEUE, MESSAGES, GROUP, END = 1, 2, 3, 4
_HEAD = struct.Struct("<IIB")
_TWO = struct.Struct("<QQ")
_FIRST = struct.Struct("<QI")

# Called with queues and messages so far.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Moved:
    """What an export or import has gone through."""

    queues: int
    messages: int
    bytes: int


# Writing.


class _Writer:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._crc = 0
        self.bytes = 0
        head = struct.pack("<8sI", MAGIC, VERSION)
        self._write(head + struct.pack("<I", crc32c(head)))

    def record(self, kind: int, body: bytes) -> None:
        rest = struct.pack("<IB", len(body), kind) + body
        self._crc = crc32c(rest, self._crc)
        self._write(struct.pack("<I", self._crc) + rest)

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(
                f"the export cannot be written: {error.strerror}", errno=error.errno
            ) from error
        self.bytes += len(data)


def export_queues(
    store: MessageStore,
    stream: BinaryIO,
    queues: Iterable[str | bytes] | None = None,
    progress: Progress | None = None,
) -> Moved:
    """Write all queues of ``store``, or the named ones, to ``stream``: what they hold when it is
    their turn. Raises UsageError for a queue that does not exist, and what reading raises."""
    writer = _Writer(stream)
    done = messages = 0
    for name in store.queues() if queues is None else queues:
        if queues is not None and name not in store:
            raise UsageError(f"there is no queue {name!r:.100}")
        messages += _export_queue(store, queue_bytes(name), writer)
        done += 1
        if progress is not None:
            progress(done, messages)
    writer.record(END, _TWO.pack(done, messages))
    stream.flush()
    return Moved(done, messages, writer.bytes)


def _export_queue(store: MessageStore, name: bytes, writer: _Writer) -> int:
    first, length = store.first_offset(name), store.length(name)
    writer.record(QUEUE, _TWO.pack(first, length) + name)
    at, step = first, 64
    while at < length:
        messages = store.get(name, at, min(step, length - at))
        if not messages:
            raise UsageError(f"queue {name!r:.100} became shorter while it was exported")
        size = sum(map(len, messages))
        for begin, part in _parts(messages):
            body = [_FIRST.pack(at + begin, len(part))]
            for message in part:
                body += (struct.pack("<I", len(message)), message)
            writer.record(MESSAGES, b"".join(body))
        at += len(messages)
        # About a megabyte at a time.
        step = max(1, min(TOGETHER_MESSAGES, TOGETHER_BYTES * len(messages) // (size + 1)))
    for group, position in sorted(store.groups(name).items()):
        writer.record(GROUP, struct.pack("<Q", position) + group)
    return length - first


def _parts(messages: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Pieces that fit a record."""
    begin = size = 0
    for number, message in enumerate(messages):
        if number > begin and size + len(message) > BODY_BYTES_MAX // 4:
            yield begin, messages[begin:number]
            begin, size = number, 0
        size += len(message)
    yield begin, messages[begin:]


# Reading.


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._crc = 0
        self.at = 0
        head = self._read(16)
        if len(head) < 16 or head[:8] != MAGIC:
            raise CorruptionError("this is no export of queues")
        version, crc = struct.unpack("<II", head[8:])
        if crc != crc32c(head[:12]):
            raise self.wrong("its head is not what was written")
        if version != VERSION:
            raise UsageError(f"the export has version {version}; this program knows version 1")

    def wrong(self, reason: str) -> CorruptionError:
        return CorruptionError(f"the export at byte {self.at}: {reason}")

    def record(self) -> tuple[int, bytes]:
        head = self._read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise self.wrong("it ends before its end record: it was cut")
        crc, length, kind = _HEAD.unpack(head)
        if length > BODY_BYTES_MAX:
            raise self.wrong("not what was written")
        body = self._read(length)
        if len(body) < length:
            raise self.wrong("it ends within a record: it was cut")
        self._crc = crc32c(head[4:] + body, self._crc)
        if crc != self._crc:
            raise self.wrong("not what was written")
        self.at += _HEAD.size + length
        return kind, body

    def ended(self) -> bool:
        return not self._read(1)

    def _read(self, n: int) -> bytes:
        pieces = []
        while n:
            try:
                piece = self._stream.read(min(n, 1 << 20))
            except OSError as error:
                raise StorageError(
                    f"the export cannot be read: {error.strerror}", errno=error.errno
                ) from error
            if not piece:
                break
            pieces.append(piece)
            n -= len(piece)
        return b"".join(pieces)


@dataclass
class _Queue:
    name: bytes
    first: int
    length: int
    at: int


def import_queues(store: MessageStore, stream: BinaryIO, progress: Progress | None = None) -> Moved:
    """Put all queues of an export into ``store``, with their offsets and groups.

    What came before a place that is wrong stays imported. Raises CorruptionError that names the
    byte, UsageError for a queue that is there already, and what putting raises.
    """
    reader = _Reader(stream)
    reader.at = 16
    queue: _Queue | None = None
    queues = messages = 0
    while True:
        kind, body = reader.record()
        try:
            if kind == QUEUE:
                _check_whole(reader, queue)
                queue = _begin(reader, store, body)
                queues += 1
            elif kind == MESSAGES and queue is not None:
                messages += _put(reader, store, queue, body)
            elif kind == GROUP and queue is not None:
                _check_whole(reader, queue)
                (position,) = struct.unpack_from("<Q", body)
                store.commit(queue.name, body[8:], position)
            elif kind == END:
                _check_whole(reader, queue)
                if _TWO.unpack(body) != (queues, messages):
                    raise reader.wrong("its end does not say what it holds")
                if not reader.ended():
                    raise reader.wrong("something stands behind its end")
                return Moved(queues, messages, reader.at)
            else:
                raise reader.wrong(f"a record of type {kind} where none can be")
        except struct.error:
            raise reader.wrong("a record that is too short") from None
        if progress is not None:
            progress(queues, messages)


def _begin(reader: _Reader, store: MessageStore, body: bytes) -> _Queue:
    first, length = _TWO.unpack_from(body)
    name = body[16:]
    if not name or first > length:
        raise reader.wrong("a queue that cannot be")
    if name in store:
        raise UsageError(
            f"there is a queue {name!r:.100} already: import into a store that has none of them"
        )
    # Offsets begin with 0 in every store: what is gone is stood for, and trimmed.
    for at in range(0, first, TOGETHER_MESSAGES):
        store.put_many(name, [b""] * min(TOGETHER_MESSAGES, first - at))
    if first:
        store.trim(name, first)
    return _Queue(name, first, length, first)


def _put(reader: _Reader, store: MessageStore, queue: _Queue, body: bytes) -> int:
    first: int
    count: int
    first, count = _FIRST.unpack_from(body)
    if first != queue.at or count == 0 or first + count > queue.length:
        raise reader.wrong("messages that do not join")
    messages = []
    at = _FIRST.size
    for _ in range(count):
        (length,) = struct.unpack_from("<I", body, at)
        at += 4
        if length > MESSAGE_BYTES_MAX or at + length > len(body):
            raise reader.wrong("a message that is too long")
        messages.append(body[at : at + length])
        at += length
    if at != len(body):
        raise reader.wrong("something stands behind its messages")
    for begin in range(0, count, TOGETHER_MESSAGES):
        part = messages[begin : begin + TOGETHER_MESSAGES]
        if store.put_many(queue.name, part)[-1] != first + begin + len(part) - 1:
            raise UsageError(f"others put to queue {queue.name!r:.100} while it was imported")
    queue.at += count
    return count


def _check_whole(reader: _Reader, queue: _Queue | None) -> None:
    if queue is not None and queue.at != queue.length:
        raise reader.wrong("a queue that is not whole")
