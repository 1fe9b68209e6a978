from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.arrival cimport Arriving
from dragoman.rpc.pieces cimport Body, Outgoing
from dragoman.rpc.tick cimport Tick
from dragoman.wire.buffer cimport Buffer

cdef enum:
    # This much is not gathered further within a tick: while the peer works on it, we go on. Smaller
    # portions cost more than they gain, larger ones leave one end idle while the other works.
    SPILL_BYTES = 32768


cdef class Sending(Arriving):
    cdef readonly object loop
    cdef Tick tick
    cdef object transport
    cdef Buffer out
    cdef readonly bint closed
    cdef readonly bint paused
    cdef list _parts
    cdef size_t _parts_bytes
    # Whether large bodies go in pieces to this peer, and those that wait.
    cdef bint in_pieces
    cdef bint _narrow
    cdef int64_t _full_us
    cdef Outgoing bodies
    cdef size_t out_bytes_max
    cdef size_t _largest
    # Where all that it holds for the peer counts; what of its transport's queue does.
    cdef Budget budget
    cdef size_t _queued
    cdef bint _heard
    # What the kernel had not sent when the heartbeat looked last, and all that it had by then.
    cdef int _queue
    cdef int64_t _taken
    cdef int _socket
    # The socket, if frames may be given to the kernel without the transport; else -1.
    cdef int _fd
    cdef bint _eager
    # The kernel takes nothing more: what is written from now on is lost, and was never sent.
    cdef bint _broken
    cdef readonly uint64_t bytes_out
    cdef readonly uint64_t writes

    cdef void lose(self, str why)
    cdef inline void mark(self)
    cdef int control(
        self, int kind, uint16_t target, uint32_t id, uint32_t value, bytes body
    ) except -1
    cdef int put(
        self, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id, uint32_t value,
        const char* body, size_t n, bytes owner
    ) except -1
    cdef int _write_parts(self) except -1
    cdef bint _send_now(self, size_t n) except -1
    cdef ssize_t _try(self, const char* data, size_t n) noexcept
    cdef inline void _notice(self) noexcept
    cdef inline size_t gathered(self) noexcept
    cdef void drop_gathered(self)
    cdef int add_body(self, Body body) except -1
    cdef bint goes_apart(self, size_t n)
    cdef int pump(self, bint whole) except -1
    cdef int _send_with(self, Body body, size_t n) except -1
    cdef void _pace_pieces(self)
    cdef bint _idles(self) noexcept
    cdef void _lengthen_pieces(self)
    cdef void _widen(self)
    cdef void count_queue(self)
    cdef bint moves(self)
