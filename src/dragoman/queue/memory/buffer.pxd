from libc.stddef cimport size_t

from dragoman.queue.memory.state cimport Bytes

cdef int bytes_reserve(Bytes* b, size_t more) noexcept nogil
cdef int bytes_add(Bytes* b, const void* data, size_t n) noexcept nogil
