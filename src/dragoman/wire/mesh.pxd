from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.wire.buffer cimport Buffer

cdef enum:
    HEADER_BYTES = 16
    HELLO_BYTES = 32  # the fixed part of HELLO's body
    MESH_VERSION = 1

    # frame types
    F_HELLO = 1
    F_NAME = 2
    F_REQUEST = 3
    F_REPLY = 4
    F_ERROR = 5
    F_CANCEL = 6
    F_CREDIT = 7
    F_DEMAND = 8
    F_RECLAIM = 9
    F_RETURN = 10
    F_PING = 11
    F_PONG = 12
    F_GOODBYE = 13
    F_ORDER = 14
    F_PIECE = 15
    F_METADATA = 16
    F_LAST = 16

    # flags: of ERROR, of REQUEST, of GOODBYE
    FLAG_RETRY_SAFE = 1
    FLAG_NO_REPLY = 1
    FLAG_VIOLATION = 1

    # features that HELLO announces
    FEATURE_NO_REPLY = 1
    FEATURE_ORDER = 2
    FEATURE_PIECES = 4
    FEATURE_METADATA = 8

    # what next_frame returns
    MESH_NEED_MORE = 0
    MESH_FRAME = 1
    MESH_ERROR = -1


cdef inline void put_header(
    char* at, uint32_t length, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id,
    uint32_t value
) noexcept nogil:
    (<uint32_t*>at)[0] = length
    (<uint8_t*>at)[4] = kind
    (<uint8_t*>at)[5] = flags
    (<uint16_t*>(at + 6))[0] = target
    (<uint32_t*>(at + 8))[0] = id
    (<uint32_t*>(at + 12))[0] = value


cdef int write_frame(
    Buffer out, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id, uint32_t value,
    const char* body, size_t n
) except -1


cdef class MeshDecoder:
    cdef readonly uint32_t body_bytes_max
    cdef uint32_t length
    cdef uint8_t kind
    cdef uint8_t flags
    cdef uint16_t target
    cdef uint32_t id
    cdef uint32_t value
    cdef const char* body
    # The bytes object that `body` lies in if the body came in pieces, else None: `body` is then
    # inside the bytes last received.
    cdef bytes owner
    cdef readonly str error
    cdef const char* _at
    cdef const char* _end
    cdef char _head[16]
    cdef size_t _head_have
    cdef bytes _partial
    cdef size_t _partial_have
    cdef bint _dead
    # Where bodies in pieces count, unless None; what of them does.
    cdef Budget budget
    cdef size_t _counted
    # The frame's body had no room: it has none, and its bytes are thrown away as they come.
    cdef bint refused
    cdef size_t _skip
    # How many frames have come in pieces.
    cdef uint64_t pieced
    # PIECE frames are described as they come, each as any number of shorter ones.
    cdef bint split_pieces
    cdef size_t piece_left

    cdef void receive(self, const char* data, size_t n) noexcept
    cdef int next_frame(self) except -2
    cdef char* direct(self, size_t* n) noexcept
    cdef int direct_received(self, size_t n) except -1
    cdef bint more(self) noexcept
    cdef bint idle(self) noexcept
    cdef bint midway(self) noexcept
    cdef void drop(self) noexcept
    cdef void skip_rest(self) noexcept
    cdef void _count(self, size_t n) noexcept
    cdef bint _refusable(self) noexcept
    cdef int _refuse(self) noexcept
    cdef void _pass_over(self) noexcept
    cdef size_t have(self) noexcept
    cdef int _more_of_piece(self) noexcept
    cdef bytes rest(self)
    cdef int _grow(self, size_t wanted) except -1
    cdef int _check(self) except -2
