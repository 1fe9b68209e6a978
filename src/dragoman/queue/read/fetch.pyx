"""One block on its way from the log into memory: from the buffer being written, or the disk.

Called by the reader, which has many under way: ``fetch_begin`` under the lock takes what memory has
and holds the segment; ``fetch_read`` (or the reader's own reads, and ``fetch_got``) gets the rest
without the lock; ``fetch_check`` says whether it is the block that the index means; ``fetch_end``
lets go.

Invariant: a block whose header or checksum is not what the index says is never handed on.
"""

from libc.errno cimport EINVAL
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.segments cimport Header, header_valid, slot_open, slot_remove
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, FLAG_UNIFORM, KIND_MESSAGES, PLACE_SLOT_SHIFT, SECTOR, align_up, size_of_code,
)
from dragoman.queue.memory.state cimport SEGMENT_REMOVING, Segment, Store

crc_prepare()


cdef uint64_t fetch_bytes(uint32_t code) noexcept nogil:
    """What the buffer of a fetch must hold."""
    return align_up(BLOCK_HEADER + size_of_code(code), SECTOR) + SECTOR


cdef void fetch_begin(Store* s, Fetch* f) noexcept nogil:
    """Under the lock: take what memory has, and hold the segment for the rest."""
    cdef uint64_t end, part
    cdef Segment* segment
    f.slot = <int>(f.place >> PLACE_SLOT_SHIFT)
    f.offset = (f.place & ((1ULL << PLACE_SLOT_SHIFT) - 1)) * 16
    segment = &s.segments[f.slot]
    f.number = segment.number
    f.serial = segment.serial
    f.error = 0
    f.filled = 0
    end = f.offset + BLOCK_HEADER + size_of_code(f.code)
    f.read_at = f.offset & ~(s.read_align - 1)
    f.read_bytes = align_up(end, s.read_align) - f.read_at
    f.fd = -1
    if f.slot == s.slot and end > s.gather_start:
        if s.gather_start < f.offset:
            f.read_at = f.offset
        part = s.gather_start if s.gather_start > f.read_at else f.read_at
        if end > s.gather_start + s.gather_fill:
            end = s.gather_start + s.gather_fill
        memcpy(f.buffer + (part - f.read_at), s.gather + (part - s.gather_start), end - part)
        f.filled = end - f.read_at
        f.read_bytes = part - f.read_at
    if f.read_bytes:
        f.fd = slot_open(s, f.slot)
        if f.fd < 0:
            f.error = f.fd
            return
        segment.readers += 1


cdef void fetch_read(Store* s, Fetch* f) noexcept nogil:
    """Without the lock: read what memory did not have."""
    cdef int64_t got
    if f.read_bytes == 0 or f.error:
        return
    got = s.disk.read(s.disk, f.fd, f.buffer, f.read_bytes, f.read_at)
    fetch_got(s, f, got)


cdef void fetch_got(Store* s, Fetch* f, int64_t got) noexcept nogil:
    """What a read of the fetch's bytes returned."""
    cdef uint64_t start
    if got == -EINVAL and s.read_align < SECTOR and f.filled == 0:
        # The disk's sectors are larger than was thought.
        s.read_align = SECTOR
        start = f.read_at & ~(s.read_align - 1)
        f.read_bytes = align_up(f.read_at + f.read_bytes, SECTOR) - start
        f.read_at = start
        got = s.disk.read(s.disk, f.fd, f.buffer, f.read_bytes, f.read_at)
    if got < 0:
        f.error = <int>got
    elif f.filled == 0:
        f.filled = got
    elif <uint64_t>got < f.read_bytes:
        f.error = 1


cdef void fetch_check(Store* s, Fetch* f) noexcept nogil:
    """Without the lock: is this the block that the index means?"""
    cdef Header* h
    cdef uint64_t skip = f.offset - f.read_at
    if f.error:
        return
    f.error = 1
    if f.filled < skip + BLOCK_HEADER:
        return
    h = <Header*>(f.buffer + skip)
    if (
        not header_valid(h, f.number, f.offset) or h.kind != KIND_MESSAGES
        or h.queue != f.queue or h.offset != (f.first | <uint64_t>f.count << 48)
        or f.filled < skip + BLOCK_HEADER + h.length
    ):
        return
    f.payload = f.buffer + skip + BLOCK_HEADER
    f.length = h.length
    f.uniform = h.flags & FLAG_UNIFORM
    if crc(0, f.payload, f.length) == h.payload_check:
        f.error = 0


cdef void fetch_end(Store* s, Fetch* f) noexcept nogil:
    """Under the lock: the segment may go."""
    if f.fd >= 0:
        s.segments[f.slot].readers -= 1
        s.blocks_read += 1
        s.bytes_read += f.read_bytes
        if s.segments[f.slot].state == SEGMENT_REMOVING:
            slot_remove(s, f.slot)
