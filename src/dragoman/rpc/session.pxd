from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.pieces cimport Incoming
from dragoman.rpc.sending cimport Sending
from dragoman.wire.mesh cimport MeshDecoder

cdef enum:
    # A reason to hold: it has had its slice of the tick.
    HOLD_SLICE = 4


cdef class Session(Sending):
    cdef MeshDecoder decoder
    cdef readonly str peer
    cdef readonly bint ready
    cdef readonly bint goodbye_sent
    cdef readonly bint goodbye_received
    cdef readonly object failure
    cdef readonly str goodbye_reason
    cdef bint _direct_piece
    cdef Incoming arriving
    cdef int _held
    cdef bytes _stash
    cdef readonly uint32_t peer_features
    cdef readonly bytes peer_identity
    cdef uint32_t body_bytes_max
    cdef uint32_t peer_body_bytes_max
    cdef int64_t heartbeat_us
    cdef int64_t read_us
    cdef int _quiet
    cdef Py_ssize_t _unsent
    # When the peer was told last that its frame is arriving.
    cdef int64_t _told_us
    cdef bint _direct
    cdef readonly uint64_t bytes_in
    cdef readonly uint64_t frames_dropped

    cdef void hold(self, int reason)
    cdef void release(self, int reason)
    cdef bint on_frame(self) except -1
    cdef void on_batch(self)
    cdef void on_idle_check(self)
    cdef void on_closed(self)
    cdef int _configure(
        self, loop, uint32_t body_bytes_max, double heartbeat_s, Budget budget=*
    ) except -1
    cdef int on_midway(self) except -1
    cdef str unmet(self)
    cdef void fail(self, str why)
    cdef void _drop(self)
    cdef void bid_goodbye(self, str why, int flags)
    cdef bint _read_goodbye(self) except -1
    cdef void _hello(self, uint32_t features, bytes identity, bytes name)
    cdef int _read_hello(self) except -1
    cdef int _put_by(self) except -1
    cdef int _go_on(self) except -1
    cdef int _process(self) except -1
    cdef int _process_frames(self) except -1
