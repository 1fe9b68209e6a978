from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Queue, Table

cdef int tail_put(Table* t, uint32_t id, const char* message, size_t n) noexcept nogil
cdef int tail_put_record(Table* t, Queue* q, const char* message, size_t n) noexcept nogil
cdef int tail_detach(Table* t, uint32_t id) noexcept nogil
cdef void tail_drop(Table* t, Queue* q) noexcept nogil
cdef void tail_copy(Table* t, uint32_t head, uint64_t n, char* into) noexcept nogil
cdef void tail_copy_part(
    Table* t, uint32_t head, uint64_t start, uint64_t n, char* into
) noexcept nogil
cdef void chunks_give(Table* t, const uint32_t* ids, uint32_t n) noexcept nogil
cdef void chunks_shrink(Table* t, uint64_t bytes_max) noexcept nogil
cdef void chunks_free(Table* t, uint32_t head, uint64_t n) noexcept nogil
