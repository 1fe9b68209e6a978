from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.queue.memory.state cimport Store


cdef struct Fetch:
    # One block on its way from the log into memory.
    uint64_t place
    uint32_t code
    uint32_t queue
    uint32_t count
    uint64_t first
    int slot
    int fd
    uint64_t number
    uint64_t serial
    uint64_t offset  # of the block in its file
    char* buffer  # SECTOR-aligned, fetch_bytes() long
    uint64_t read_at  # aligned; buffer[0] is this byte of the file
    uint64_t read_bytes  # from the disk; 0 when memory had all
    uint64_t filled  # bytes of the buffer that memory filled or the disk gave
    char* payload
    uint32_t length
    bint uniform
    bint submitted
    bint keep  # may be wanted again although it was read to its end
    bint ahead  # nobody waits for it: it goes to the cache
    int error  # 0, a negative errno, or 1 for damage


cdef uint64_t fetch_bytes(uint32_t code) noexcept nogil
cdef void fetch_begin(Store* s, Fetch* f) noexcept nogil
cdef void fetch_read(Store* s, Fetch* f) noexcept nogil
cdef void fetch_got(Store* s, Fetch* f, int64_t got) noexcept nogil
cdef void fetch_check(Store* s, Fetch* f) noexcept nogil
cdef void fetch_end(Store* s, Fetch* f) noexcept nogil
