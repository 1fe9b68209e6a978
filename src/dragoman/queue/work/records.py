"""What META keeps of a group that shares work: a commit of a group with a long name.

``workers`` makes it and ``store`` keeps it; see docs/formats/queue.md. The invariant: what is not
as it was made, or is about another position, is None and never believed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from dragoman.queue.api.arguments import WORK

# What is kept of a group fits a record of META.
KEPT_BYTES = 58_000
_KEPT = struct.Struct("<BQQQ")


def kept_name(group: bytes, body: bytes) -> bytes:
    """The name that keeps ``body`` for ``group``."""
    return WORK + struct.pack("<H", len(group)) + group + body


def kept_parts(name: bytes) -> tuple[bytes, bytes] | None:
    """The group and what is kept, of a name that begins with WORK; None if it is none."""
    start = len(WORK) + 2
    if len(name) < start:
        return None
    (length,) = struct.unpack_from("<H", name, len(WORK))
    if len(name) < start + length:
        return None
    return name[start : start + length], name[start + length :]


@dataclass(frozen=True)
class Kept:
    """What a record keeps of a group: a byte for each message from ``floor`` on, and before where
    messages may have been given. See ``Leases.stream``."""

    floor: int
    mark: int
    stream: bytes

    @property
    def high(self) -> int:
        """All that it speaks of lies before this offset: where the queue ends earlier, it is about
        messages that were lost."""
        return self.floor + len(self.stream)

    def encode(self) -> bytes:
        """As it is kept; of what does not fit the beginning."""
        stream = self.stream
        packed = zlib.compress(stream, 1)
        while len(packed) > KEPT_BYTES:
            stream = stream[: len(stream) // 2]
            packed = zlib.compress(stream, 1)
        return _KEPT.pack(1, self.floor + len(stream), self.floor, self.mark) + packed

    def cut(self, length: int) -> Kept:
        """What is true when the queue ends at ``length``."""
        return Kept(self.floor, min(self.mark, length), self.stream[: max(0, length - self.floor)])


def kept_of(body: bytes, position: int | None = None) -> Kept | None:
    """What ``encode`` made; None for nothing, or when it is not for ``position`` any more."""
    try:
        version, high, floor, mark = _KEPT.unpack_from(body)
        if version != 1 or position not in (None, high):
            return None
        stream = zlib.decompress(body[_KEPT.size :])
    except (struct.error, zlib.error):
        return None
    return Kept(floor, mark, stream) if high == floor + len(stream) else None
