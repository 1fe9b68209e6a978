from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.queue.memory.state cimport Store


cdef struct Header:
    uint32_t check
    uint32_t payload_check
    uint32_t queue
    uint32_t length
    uint64_t offset  # first offset and messages, or by kind
    uint32_t time_s
    uint8_t kind
    uint8_t flags
    uint16_t magic


cdef void file_name(uint64_t number, const char* kind, char* into) noexcept nogil
cdef void header_seal(Header* h, uint64_t number, uint64_t offset) noexcept nogil
cdef bint header_valid(const Header* h, uint64_t number, uint64_t offset) noexcept nogil
cdef int slot_of(Store* s) noexcept nogil
cdef int slot_open(Store* s, int slot) noexcept nogil
cdef void slot_remove(Store* s, int slot) noexcept nogil
