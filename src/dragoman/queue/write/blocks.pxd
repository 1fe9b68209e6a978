from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dragoman.queue.format.segments cimport Header
from dragoman.queue.memory.state cimport Bytes

cdef void segment_header(char* into, const uint8_t* identity, uint64_t number) noexcept nogil
cdef void special_header(
    Header* h, uint8_t kind, uint64_t value, const char* payload, uint32_t n
) noexcept nogil
cdef uint64_t padding_bytes(uint64_t position) noexcept nogil
cdef int directory_add(Bytes* directory, const Header* h, uint64_t at) noexcept nogil
