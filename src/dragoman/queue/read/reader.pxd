from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dragoman.queue.read.fetch cimport Fetch
from dragoman.queue.memory.state cimport Bytes, Store

cdef enum:
    WINDOW = 256


cdef enum:
    # ``fetch`` of a piece that reads no block.
    FROM_MEMORY = -1
    NO_FETCH = -2  # there was no memory for it


cdef struct Piece:
    # Messages of one block or tail, for one request.
    uint32_t request
    int fetch  # number of its fetch, or -1: ``data`` is an offset into the scratch bytes
    uint64_t data
    uint64_t length
    bint uniform  # then each message has ``length`` // ``count`` bytes
    uint32_t count  # messages in ``data``
    uint32_t skip
    uint32_t take
    bint lost
    uint64_t first  # offset of the first message wanted


cdef struct Window:
    Piece pieces[256]
    uint32_t piece_count
    Fetch fetches[256]
    uint32_t fetch_count
    uint64_t fetch_used
    Bytes scratch
    char* arena
    uint64_t arena_bytes
    uint32_t submitted
    uint64_t aio  # a context of the kernel's, 0 until needed


cdef int window_clear(Window* w) noexcept nogil
cdef void window_free(Window* w) noexcept nogil
cdef uint32_t resolve(
    Store* s, Window* w, uint32_t request, uint32_t id, uint64_t offset, uint64_t count
) noexcept nogil
cdef int window_place(Store* s, Window* w) noexcept nogil
cdef void window_submit(Store* s, Window* w) noexcept nogil
cdef void window_wait(Store* s, Window* w) noexcept nogil
cdef void window_done(Store* s, Window* w) noexcept nogil
