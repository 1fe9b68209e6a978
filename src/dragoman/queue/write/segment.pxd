from libc.stdint cimport uint64_t

from dragoman.queue.format.segments cimport Header
from dragoman.queue.memory.state cimport Store


cdef int log_failed(Store* s, int error, bint patient) noexcept nogil
cdef int segment_make_room(Store* s, uint64_t whole) noexcept nogil
cdef int segment_append(Store* s, Header* h, const char* payload, bint patient) noexcept nogil
cdef int segment_seal(Store* s, bint patient) noexcept nogil
cdef int segment_flush(Store* s) noexcept nogil
