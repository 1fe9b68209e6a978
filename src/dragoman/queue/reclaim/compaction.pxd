from libc.stdint cimport uint64_t

from dragoman.queue.memory.state cimport Store

cdef object compact(
    Store* s, object files, str path, object maintaining, double below, uint64_t before,
    uint64_t bytes_s, uint64_t memory_bytes
)
