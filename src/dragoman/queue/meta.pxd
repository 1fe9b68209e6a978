from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.state cimport Store

cdef int meta_queue(Store* s, uint32_t id, const char* name, uint32_t n) noexcept nogil
cdef int meta_delete(Store* s, uint32_t id) noexcept nogil
cdef int meta_trim(Store* s, uint32_t id, uint64_t first) noexcept nogil
cdef int meta_commit(
    Store* s, uint32_t id, uint64_t position, const char* group, uint32_t n
) noexcept nogil
cdef int meta_dropped(Store* s, uint64_t number) noexcept nogil
cdef int meta_flush(Store* s, bint sync) noexcept nogil
