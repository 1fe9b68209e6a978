from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Pending, Queue, Store, Table

cdef int table_open(Table* t, uint64_t seed) noexcept nogil
cdef void table_close(Table* t) noexcept nogil
cdef uint32_t table_find(Table* t, const char* name, uint32_t n, uint32_t hash) noexcept nogil
cdef uint32_t table_add(
    Table* t, uint32_t id, const char* name, uint32_t n, uint32_t hash
) noexcept nogil
cdef void table_remove(Table* t, uint32_t id) noexcept nogil
cdef int tail_put(Table* t, uint32_t id, const char* message, size_t n) noexcept nogil
cdef int tail_put_record(Table* t, Queue* q, const char* message, size_t n) noexcept nogil
cdef int tail_detach(Table* t, uint32_t id) noexcept nogil
cdef void tail_drop(Table* t, Queue* q) noexcept nogil
cdef void tail_copy(Table* t, uint32_t head, uint64_t n, char* into) noexcept nogil
cdef void chunks_give(Table* t, const uint32_t* ids, uint32_t n) noexcept nogil
cdef void chunks_shrink(Table* t, uint64_t bytes_max) noexcept nogil
cdef void chunks_free(Table* t, uint32_t head, uint64_t n) noexcept nogil
cdef int index_append(Table* t, Queue* q, uint64_t first, uint64_t entry) noexcept nogil
cdef void index_rebuild(Table* t, Queue* q, uint32_t removed) noexcept nogil
cdef int index_set_first(Table* t, Queue* q, uint64_t first) noexcept nogil
cdef void index_cut(Table* t, Queue* q, uint32_t entries) noexcept nogil
cdef uint32_t index_find(Queue* q, uint64_t offset, uint64_t* first) noexcept nogil
cdef int bytes_reserve(Bytes* b, size_t more) noexcept nogil
cdef int bytes_add(Bytes* b, const void* data, size_t n) noexcept nogil
cdef int table_touch(Table* t, uint64_t queues, uint64_t chunk_bytes) noexcept nogil
