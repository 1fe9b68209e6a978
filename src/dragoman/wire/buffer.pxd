from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget


cdef class Buffer:
    cdef char* data
    cdef size_t length
    cdef size_t capacity
    # Where its memory counts, unless None.
    cdef Budget budget

    cdef char* reserve(self, size_t n) except NULL
    cdef int append(self, const void* source, size_t n) except -1
    cdef bytes take(self)
    cdef void clear(self) noexcept
    cdef void release(self) noexcept
    cdef void drop(self) noexcept
