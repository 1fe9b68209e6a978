from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Store

cdef uint64_t replay_entries(
    Store* s, char* body, uint64_t n, uint64_t entries, uint32_t number, Bytes* apart
) noexcept nogil
