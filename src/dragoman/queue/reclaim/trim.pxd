from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Store

cdef int queue_trim(Store* s, uint32_t id, uint64_t before) noexcept nogil
cdef int queue_delete(Store* s, uint32_t id) noexcept nogil
cdef int trim_lengths(Store* s, uint32_t start, uint32_t end, uint64_t most) noexcept nogil
cdef int drop_slot(Store* s, int slot, uint32_t start, uint32_t end) noexcept nogil
cdef int oldest_slot(Store* s) noexcept nogil
cdef int dead_slot(Store* s, uint32_t start, uint32_t end) noexcept nogil
cdef uint32_t oldest_birth(Store* s) noexcept nogil
cdef int tails_to_log(Store* s, uint32_t birth) noexcept nogil
