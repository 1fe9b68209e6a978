"""Segments of the log in memory: their slots, their descriptors, and the headers of blocks.

Called by whoever writes, reads or replaces segments. At most so many segments that are complete
stay open; one that somebody reads is never closed, nor is one that is being written.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset
from posix.fcntl cimport O_RDONLY

from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, BLOCK_MAGIC, FILE_NAME, KIND_TRAILER, SEGMENT_SLOTS,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_FREE, SEGMENT_REMOVING, SEGMENT_SEALED, Segment, Store,
)

cdef extern from "fcntl.h" nogil:
    int O_DIRECT

crc_prepare()

cdef uint32_t FILES_OPEN_MAX = 44


cdef void file_name(uint64_t number, const char* kind, char* into) noexcept nogil:
    """The name of a numbered file, into FILE_NAME bytes."""
    snprintf(into, FILE_NAME, "%010llu.%s", <unsigned long long>number, kind)


cdef void header_seal(Header* h, uint64_t number, uint64_t offset) noexcept nogil:
    """Fill in magic and checksum."""
    h.magic = BLOCK_MAGIC
    h.check = crc(crc_place(number, offset), <char*>h + 4, BLOCK_HEADER - 4)


cdef bint header_valid(const Header* h, uint64_t number, uint64_t offset) noexcept nogil:
    """Whether this is the header of a block at this place."""
    return (
        h.magic == BLOCK_MAGIC
        and h.kind <= KIND_TRAILER
        and h.check == crc(crc_place(number, offset), <char*>h + 4, BLOCK_HEADER - 4)
    )


cdef int slot_of(Store* s) noexcept nogil:
    """A free slot, or -1."""
    cdef uint32_t i
    for i in range(s.slots_top):
        if s.segments[i].state == SEGMENT_FREE:
            break
    else:
        if s.slots_top == SEGMENT_SLOTS:
            return -1
        i = s.slots_top
        s.slots_top += 1
    memset(&s.segments[i], 0, sizeof(Segment))
    s.segments[i].fd = -1
    s.serials += 1
    s.segments[i].serial = s.serials
    return <int>i


cdef int slot_open(Store* s, int slot) noexcept nogil:
    """A descriptor to read the segment with, or a negative errno. Under the lock."""
    cdef char name[FILE_NAME]
    cdef Segment* segment = &s.segments[slot]
    cdef uint32_t i
    cdef int oldest = -1
    s.used_clock += 1
    segment.used = s.used_clock
    if segment.fd >= 0:
        return segment.fd
    if s.open_files >= FILES_OPEN_MAX:
        for i in range(s.slots_top):
            if (
                s.segments[i].state == SEGMENT_SEALED
                and s.segments[i].fd >= 0
                and s.segments[i].readers == 0
                and (oldest < 0 or s.segments[i].used < s.segments[oldest].used)
            ):
                oldest = <int>i
        if oldest >= 0:
            s.disk.close(s.disk, s.segments[oldest].fd)
            s.segments[oldest].fd = -1
            s.open_files -= 1
    file_name(segment.number, b"seg", name)
    segment.fd = s.disk.open(s.disk, name, O_RDONLY | (O_DIRECT if s.direct else 0))
    if segment.fd >= 0:
        s.open_files += 1
    return segment.fd


cdef void slot_remove(Store* s, int slot) noexcept nogil:
    """Close a segment whose file has been removed, once nobody reads it. Under the lock."""
    cdef Segment* segment = &s.segments[slot]
    if segment.state != SEGMENT_REMOVING or segment.readers:
        return
    if segment.fd >= 0:
        s.disk.close(s.disk, segment.fd)
        s.open_files -= 1
    segment.fd = -1
    segment.state = SEGMENT_FREE
