from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Table

cdef int table_open(Table* t, uint64_t seed) noexcept nogil
cdef void table_close(Table* t) noexcept nogil
cdef uint32_t table_find(Table* t, const char* name, uint32_t n, uint32_t hash) noexcept nogil
cdef uint32_t table_add(
    Table* t, uint32_t id, const char* name, uint32_t n, uint32_t hash
) noexcept nogil
cdef void table_remove(Table* t, uint32_t id) noexcept nogil
cdef int table_touch(Table* t, uint64_t queues, uint64_t chunk_bytes) noexcept nogil
