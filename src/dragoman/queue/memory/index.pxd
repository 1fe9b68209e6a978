from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Queue, Table

cdef int index_append(Table* t, Queue* q, uint64_t first, uint64_t entry) noexcept nogil
cdef void index_rebuild(Table* t, Queue* q, uint32_t removed) noexcept nogil
cdef int index_set_first(Table* t, Queue* q, uint64_t first) noexcept nogil
cdef void index_cut(Table* t, Queue* q, uint32_t entries) noexcept nogil
cdef uint32_t index_find(Queue* q, uint64_t offset, uint64_t* first) noexcept nogil
cdef void index_free(Table* t, Queue* q) noexcept nogil
