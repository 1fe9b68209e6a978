"""What META keeps of a group that shares work: a commit of a group with a long name.

``workers`` makes it and ``store`` keeps it; see docs/formats/queue.md. The invariant: what is not
as it was made, or is about another position, is None and never believed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from dragoman.queue.api.arguments import WORK

# It fits a record of META.
RECORD_BYTES_MAX = 58_000
_HEADER = struct.Struct("<BQQQ")


def record_name(group: bytes, body: bytes) -> bytes:
    """The name that keeps ``body`` for ``group``."""
    return WORK + struct.pack("<H", len(group)) + group + body


def record_parts(name: bytes) -> tuple[bytes, bytes] | None:
    """The group and the record, of a name that begins with WORK; None if it is none."""
    start = len(WORK) + 2
    if len(name) < start:
        return None
    (length,) = struct.unpack_from("<H", name, len(WORK))
    if len(name) < start + length:
        return None
    return name[start : start + length], name[start + length :]


@dataclass(frozen=True)
class WorkRecord:
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
        """As META has it; of what does not fit the beginning."""
        stream = self.stream
        packed = zlib.compress(stream, 1)
        while len(packed) > RECORD_BYTES_MAX:
            stream = stream[: len(stream) // 2]
            packed = zlib.compress(stream, 1)
        return _HEADER.pack(1, self.floor + len(stream), self.floor, self.mark) + packed

    def cut(self, length: int) -> WorkRecord:
        """What is true when the queue ends at ``length``."""
        return WorkRecord(
            self.floor, min(self.mark, length), self.stream[: max(0, length - self.floor)]
        )


def record_of(body: bytes, position: int | None = None) -> WorkRecord | None:
    """What ``encode`` made; None for nothing, or when it is not for ``position`` any more."""
    try:
        version, high, floor, mark = _HEADER.unpack_from(body)
        if version != 1 or position not in (None, high):
            return None
        stream = zlib.decompress(body[_HEADER.size :])
    except (struct.error, zlib.error):
        return None
    return WorkRecord(floor, mark, stream) if high == floor + len(stream) else None
