"""Parts of a segment as bytes, for whoever writes one: the log's writer, compaction, recovery.

How a segment is laid out is in docs/formats/queue.md, "Segments".
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.segments cimport Header
from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.layout cimport BLOCK_HEADER, SECTOR
from dragoman.queue.memory.state cimport Bytes
from dragoman.queue.memory.threads cimport unix_s

crc_prepare()


cdef void segment_header(char* into, const uint8_t* identity, uint64_t number) noexcept nogil:
    """The 64 bytes that a segment begins with."""
    cdef uint32_t check
    memset(into, 0, 64)
    memcpy(into, b"DRGQSEGM", 8)
    into[8] = 1
    memcpy(into + 16, identity, 16)
    memcpy(into + 32, &number, 8)
    check = crc(0, into, 60)
    memcpy(into + 60, &check, 4)


cdef void special_header(
    Header* h, uint8_t kind, uint64_t value, const char* payload, uint32_t n
) noexcept nogil:
    """The header of a block that has no messages; a payload of NULL stands for zeros."""
    cdef char zeros[4096]
    cdef uint64_t left = n
    memset(h, 0, sizeof(Header))
    h.kind = kind
    h.offset = value
    h.length = n
    h.time_s = unix_s()
    if payload != NULL:
        h.payload_check = crc(0, payload, n)
    elif n:
        memset(zeros, 0, 4096)
        while left:
            h.payload_check = crc(h.payload_check, zeros, left if left < 4096 else 4096)
            left -= left if left < 4096 else 4096


cdef uint64_t padding_bytes(uint64_t position) noexcept nogil:
    """How long a padding block is, with its header, after which ``position`` is a whole sector."""
    cdef uint64_t gap = (SECTOR - position % SECTOR) % SECTOR
    return gap + SECTOR if gap and gap < BLOCK_HEADER else gap


cdef int directory_add(Bytes* directory, const Header* h, uint64_t at) noexcept nogil:
    """Enter a block of messages that lies at offset ``at``."""
    cdef unsigned char entry[24]
    cdef uint32_t place16 = <uint32_t>(at // 16)
    memcpy(entry, &h.offset, 8)
    memcpy(entry + 8, &h.queue, 4)
    memcpy(entry + 12, &place16, 4)
    memcpy(entry + 16, &h.length, 4)
    memcpy(entry + 20, &h.time_s, 4)
    return bytes_add(directory, entry, 24)
