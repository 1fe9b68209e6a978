from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Queue, Store

cdef int frame_reserve(Bytes* b, size_t more) noexcept nogil
cdef int journal_open(Store* s) noexcept nogil
cdef int journal_put(
    Store* s, uint32_t id, uint64_t offset, const char* message, size_t n
) noexcept nogil
cdef int journal_tail(Store* s, uint32_t id) noexcept nogil
cdef int journal_wait(Store* s, uint64_t frame) noexcept nogil
cdef int journal_tails(Store* s, uint32_t birth) noexcept nogil
cdef int log_flushed(Store* s) noexcept nogil
cdef int journal_end(Store* s) noexcept nogil
cdef bint journal_stray(Store* s, uint32_t number) noexcept nogil
cdef bint journal_is_stray(Store* s, uint32_t number) noexcept nogil
cdef void journal_run(Store* s) noexcept nogil
cdef uint32_t journal_files_max(Store* s) noexcept nogil
cdef void journal_measure(Store* s) noexcept nogil
