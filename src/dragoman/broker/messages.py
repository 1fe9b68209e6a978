"""What servers of queues and their clients say to each other: bodies and error codes.

``docs/formats/broker.md`` describes them; ``server`` and ``client`` use them. Everything is checked
while it is decoded, and bounds of counts in ``check_count``.
"""

from __future__ import annotations

import errno
from typing import Any, TypeVar

import msgspec

from dragoman.errors import (
    CorruptionError,
    DragomanError,
    LinkLostError,
    LockedError,
    PositionLostError,
    RemoteError,
    StorageError,
    UsageError,
)

VERSION = 1
# What the registry calls a store that nobody has named.
DEFAULT_NAME = "dragoman.queues"
REQUEST_BYTES_MAX = 32 << 20
REPLY_BYTES_MAX = 16 << 20
COUNT_MAX = 100_000
# How many outcomes of a producer a server remembers, of how many producers, with how many bytes.
REMEMBERED = 1024
PRODUCERS_MAX = 10_000
REMEMBERED_BYTES = 256 << 20

OTHER_PROCESS = 1001
OUTCOME_UNKNOWN = 1002
CORRUPTION = 1003
LOCKED = 1004
OUT_OF_ORDER = 1005
POSITION_LOST = 1006
STORAGE_FROM = 1200

T = TypeVar("T")


class _Body(msgspec.Struct, array_like=True, gc=False):
    pass


class Open(_Body):
    """Who wants to use the store."""

    version: int
    producer: bytes


class Opened(_Body):
    """Which store and which process answers."""

    version: int
    store: bytes
    process: bytes
    read_only: bool


class Asking(_Body):
    """What every other request begins with; this much is one that has nothing to say."""

    process: bytes


class Put(Asking):
    """Messages to one queue or to many."""

    producer: bytes
    sequence: int
    ended: int
    after: int
    again: bool
    queues: bytes | list[bytes]
    messages: list[bytes]


class Delete(Asking):
    """A queue that is to go."""

    producer: bytes
    sequence: int
    ended: int
    after: int
    again: bool
    queue: bytes


class Get(Asking):
    """Ranges to read; of consumers each with the life of the queue that it is of, empty: any."""

    bytes_max: int
    ranges: list[tuple[bytes, int, int]]
    lives: list[bytes] = []


class Look(Asking):
    """Queues to look at."""

    queues: list[bytes]


class Wait(Asking):
    """A queue to become longer."""

    queue: bytes
    offset: int
    timeout_ms: int


class Names(Asking):
    """The next names."""

    after: int
    count: int


class Commit(Asking):
    """A group's position."""

    queue: bytes
    group: bytes
    position: int
    life: bytes | None = None


class Begin(Asking):
    """Where a group is in a queue, and the queue's life."""

    queue: bytes
    group: bytes


class Groups(Asking):
    """Whose groups."""

    queue: bytes


class Take(Asking):
    """Messages for a worker of a group, with the group's settings."""

    queue: bytes
    group: bytes
    count: int
    timeout_ms: int
    lease_ms: int
    attempts_max: int | None
    dead_letter: bytes | None
    ordered_by: int | bytes | None
    window: int


class Settle(Asking):
    """What became of messages that a worker took."""

    queue: bytes
    group: bytes
    life: bytes
    kind: int
    milliseconds: int
    offsets: list[int]
    serials: list[int]


class Trim(Asking):
    """What is to go of a queue."""

    queue: bytes
    before: int


encode = msgspec.msgpack.Encoder().encode
OFFSETS = msgspec.msgpack.Decoder(list[int])
FLAG = msgspec.msgpack.Decoder(bool)
GOT = msgspec.msgpack.Decoder(tuple[bool, list[list[bytes]]])
READ = msgspec.msgpack.Decoder(tuple[bool, list[list[bytes]], list[bytes]])
BEGUN = msgspec.msgpack.Decoder(tuple[bytes, int])
LOOKED = msgspec.msgpack.Decoder(list[tuple[int, int, bool]])
TAKEN = msgspec.msgpack.Decoder(tuple[bytes, list[int], list[int], list[int], list[bytes]])
LENGTH = msgspec.msgpack.Decoder(int)
NAMED = msgspec.msgpack.Decoder(tuple[int, list[bytes]])
GROUPED = msgspec.msgpack.Decoder(dict[bytes, int])
COUNTED = msgspec.msgpack.Decoder(tuple[dict[str, Any], dict[str, Any]])
OPENED = msgspec.msgpack.Decoder(Opened)


def decode(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """A request's body; raises UsageError."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, MemoryError, RecursionError):
        raise UsageError("a body that is none of this method's") from None


def check_count(count: int, what: str) -> None:
    """Raises UsageError for more than one request may have."""
    if not 0 <= count <= COUNT_MAX:
        raise UsageError(f"a request has at most {COUNT_MAX} {what}, not {count}")


def to_wire(error: DragomanError) -> DragomanError:
    """The error as it travels: with a code by which ``from_wire`` knows it."""
    if isinstance(error, LockedError):
        return RemoteError(str(error), code=LOCKED, retry_safe=True)
    if isinstance(error, StorageError):
        number = error.errno if error.errno and 0 < error.errno < 4096 else 0
        return RemoteError(str(error), code=STORAGE_FROM + number)
    if isinstance(error, CorruptionError):
        return RemoteError(str(error), code=CORRUPTION)
    if isinstance(error, PositionLostError):
        return RemoteError(str(error), code=POSITION_LOST, retry_safe=True)
    return error


def from_wire(error: DragomanError) -> DragomanError:
    """What a client's caller gets for an error that a server has sent."""
    if not isinstance(error, RemoteError):
        return error
    made: DragomanError | None = None
    if error.code == OUTCOME_UNKNOWN:
        made = LinkLostError(str(error), retry_safe=False)
    elif error.code == CORRUPTION:
        made = CorruptionError(str(error))
    elif error.code == POSITION_LOST:
        made = PositionLostError(str(error))
    elif error.code == LOCKED:
        made = LockedError(str(error))
    elif STORAGE_FROM <= error.code < STORAGE_FROM + 4096:
        number = error.code - STORAGE_FROM
        made = StorageError(str(error), errno=number if number in errno.errorcode else None)
    if made is None:
        return error
    made.endpoint = error.endpoint
    return made
