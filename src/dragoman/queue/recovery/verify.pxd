from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.format.segments cimport Header
from dragoman.queue.memory.state cimport Store


cdef class SegmentCheck:
    cdef Store* store
    cdef int slot
    cdef int fd
    cdef uint64_t number
    cdef uint64_t length
    cdef bint sealed
    cdef bint trailed
    cdef uint64_t at
    cdef uint64_t bad_from
    cdef int error
    cdef char* window
    cdef uint64_t capacity
    cdef uint64_t start
    cdef uint64_t have
    cdef uint32_t entries
    cdef uint64_t blocks
    cdef list problems

    cdef int begin(self, Store* s, int slot) except -1
    cdef void end(self) noexcept
    cdef char* bytes_at(self, uint64_t offset, uint64_t n) noexcept nogil
    cdef int note(
        self, uint64_t offset, uint64_t end, uint32_t queue, uint64_t packed, str reason
    ) except -1
    cdef bint step(self) except -1
    cdef int check_start(self) except -1
    cdef int run(self, Header* h, uint64_t until) noexcept nogil
    cdef void resume(self, Header* h) noexcept nogil


cdef list blocks_between(Store* s, int slot, uint64_t start, uint64_t end)
