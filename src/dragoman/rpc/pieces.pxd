from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.wire.buffer cimport Buffer

cdef enum:
    # A body from here on may travel in pieces, to a peer that knows them, and from the second on
    # does: shorter ones only while others are on their way.
    APART_BYTES = 65536
    WHOLE_BYTES = 262144
    # How long the pieces are: as the connection is fast.
    PIECE_BYTES_LEAST = 65536
    PIECE_BYTES_MOST = 1048576


cdef class Body:
    cdef uint8_t kind
    cdef uint8_t flags
    cdef uint16_t target
    cdef uint32_t id
    # Of a request: when its time has passed, 0: never.
    cdef int64_t due_us
    cdef bytes body
    cdef bytes order_key
    cdef bytes metadata
    cdef size_t sent


cdef class Outgoing:
    cdef object _line
    cdef dict _keys
    cdef Budget budget
    # How many, and what is left of them.
    cdef size_t count
    cdef size_t bytes
    cdef size_t piece_bytes

    cdef int add(self, Body body) except -1
    cdef bint has(self, uint32_t id)
    cdef bint orders(self, bytes order_key)
    cdef bint withdraw(self, uint32_t id) except -1
    cdef Body first(self)
    cdef size_t behind(self)
    cdef size_t head(self, Buffer out, Body body, int64_t now_us) except? 0
    cdef int passed(self, Body body, size_t n) except -1
    cdef void drop(self)
    cdef int _left(self, Body body) except -1


cdef class Incoming:
    cdef Budget budget
    cdef bint open
    cdef uint32_t id
    cdef size_t length
    cdef size_t have
    # It had no room, or nobody wants it: its bytes are thrown away as they come.
    cdef bint thrown
    cdef uint64_t number
    # As long as what has been set aside, which may be more than is counted.
    cdef bytes _body
    cdef size_t _counted
    # The longest body that this peer has brought whole.
    cdef size_t _brought

    cdef int take(self, uint32_t id, size_t length, const char* at, size_t n, bint wanted) except -1
    cdef char* direct(self, size_t most, size_t* n) noexcept
    cdef bytes whole(self)
    cdef void drop(self) noexcept
    cdef void _throw(self) noexcept
    cdef int _grow(self, size_t wanted) except -1
