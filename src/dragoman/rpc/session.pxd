from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.arrival cimport Arriving
from dragoman.rpc.pieces cimport Body, Incoming, Outgoing
from dragoman.rpc.tick cimport Tick
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.mesh cimport MeshDecoder

cdef enum:
    # This much is not gathered further within a turn: while the peer works on it, we go on. Smaller
    # portions cost more than they gain, larger ones leave one end idle while the other works.
    SPILL_BYTES = 32768
    # A reason to hold: it has had its slice of the turn.
    HOLD_TURN = 4


cdef class Session(Arriving):
    cdef readonly object loop
    cdef Tick tick
    cdef object transport
    cdef Buffer out
    cdef MeshDecoder decoder
    cdef readonly str peer
    cdef readonly bint ready
    cdef readonly bint closed
    cdef readonly bint paused
    cdef readonly bint goodbye_sent
    cdef readonly bint goodbye_received
    cdef readonly object failure
    cdef readonly str goodbye_reason
    cdef list _parts
    cdef size_t _parts_bytes
    # Whether large bodies go in pieces to this peer; those that wait, and the one that comes.
    cdef bint in_pieces
    cdef bint _narrow
    cdef int64_t _full_us
    cdef bint _direct_piece
    cdef Outgoing bodies
    cdef Incoming arriving
    cdef int _held
    cdef bytes _stash
    cdef readonly uint32_t peer_features
    cdef readonly bytes peer_identity
    cdef uint32_t body_bytes_max
    cdef uint32_t peer_body_bytes_max
    cdef size_t out_bytes_max
    cdef size_t _largest
    # Where all that it holds for the peer counts; what of its transport's queue does.
    cdef Budget budget
    cdef size_t _queued
    cdef int64_t heartbeat_us
    cdef int64_t read_us
    cdef bint _heard
    cdef int _quiet
    cdef Py_ssize_t _unsent
    # What the kernel had not sent when the heartbeat looked last, and all that it had by then.
    cdef int _queue
    cdef int64_t _taken
    cdef int _socket
    # When the peer was told last that its frame is arriving.
    cdef int64_t _told_us
    cdef int _fd
    cdef bint _eager
    cdef bint _direct
    # The kernel takes nothing more: what is written from now on is lost, and was never sent.
    cdef bint _broken
    cdef readonly uint64_t bytes_in
    cdef readonly uint64_t bytes_out
    cdef readonly uint64_t writes
    cdef readonly uint64_t frames_dropped

    cdef inline void mark(self)
    cdef bint _send_now(self, size_t n) except -1
    cdef ssize_t _try(self, const char* data, size_t n) noexcept
    cdef inline void _notice(self) noexcept
    cdef inline size_t gathered(self) noexcept
    cdef int add_body(self, Body body) except -1
    cdef void _widen(self)
    cdef void _pace_pieces(self)
    cdef bint _idles(self) noexcept
    cdef void _lengthen_pieces(self)
    cdef bint goes_apart(self, size_t n)
    cdef int _pump(self, bint whole) except -1
    cdef int _write_parts(self) except -1
    cdef int _send_with(self, Body body, size_t n) except -1
    cdef int put(
        self, uint8_t kind, uint8_t flags, uint16_t target, uint32_t id, uint32_t value,
        const char* body, size_t n, bytes owner
    ) except -1
    cdef void hold(self, int reason)
    cdef void release(self, int reason)
    cdef int control(
        self, int kind, uint16_t target, uint32_t id, uint32_t value, bytes body
    ) except -1
    cdef bint on_frame(self) except -1
    cdef void on_batch(self)
    cdef void on_idle_check(self)
    cdef void on_closed(self)
    cdef int _configure(
        self, loop, uint32_t body_bytes_max, double heartbeat_s, Budget budget=*
    ) except -1
    cdef void _count_queue(self)
    cdef int on_midway(self) except -1
    cdef str unmet(self)
    cdef void fail(self, str why)
    cdef void lose(self, str why)
    cdef void _drop(self)
    cdef void bid_goodbye(self, str why, int flags)
    cdef bint _read_goodbye(self) except -1
    cdef void _hello(self, uint32_t features, bytes identity, bytes name)
    cdef int _read_hello(self) except -1
    cdef int _put_by(self) except -1
    cdef bint _moves(self)
    cdef int _go_on(self) except -1
    cdef int _process(self) except -1
    cdef int _process_frames(self) except -1
