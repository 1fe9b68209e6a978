from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Store

cdef enum:
    META_QUEUE = 1
    META_DELETE = 2
    META_TRIM = 3
    META_COMMIT = 4
    META_MARK = 5
    META_DROPPED = 6
    META_DROPPED_RANGE = 7
    META_IDS = 8
    META_LOST = 9
    META_CLOSED = 10
    META_OPENED = 11

cdef int record_add(
    Bytes* into, uint64_t generation, uint64_t start, unsigned char kind, const char* fixed,
    uint32_t n, const char* rest, uint32_t m
) noexcept nogil
cdef int meta_lost(Store* s, uint32_t id, uint64_t first, uint64_t messages) noexcept nogil
cdef int meta_opened(Store* s) noexcept nogil
cdef int meta_closed(Store* s, uint64_t position, uint64_t frame) noexcept nogil
cdef int meta_queue(Store* s, uint32_t id, const char* name, uint32_t n) noexcept nogil
cdef int meta_delete(Store* s, uint32_t id) noexcept nogil
cdef int meta_trim(Store* s, uint32_t id, uint64_t first) noexcept nogil
cdef int meta_commit(
    Store* s, uint32_t id, uint64_t position, const char* group, uint32_t n
) noexcept nogil
cdef int meta_dropped(Store* s, uint64_t number) noexcept nogil
cdef int meta_flush(Store* s, bint sync) noexcept nogil
