from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.flow.credits cimport CreditPool, Holder
from dragoman.flow.waiting cimport Waiter
from dragoman.rpc.turn cimport Gathering, Turn
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.mesh cimport MeshDecoder


cdef class Session(Gathering):
    cdef readonly object loop
    cdef Turn turn
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
    cdef uint32_t body_bytes_max
    cdef uint32_t peer_body_bytes_max
    cdef size_t out_bytes_max
    cdef int64_t heartbeat_us
    cdef int64_t read_us
    cdef bint _heard
    cdef int _quiet
    cdef Py_ssize_t _unsent
    cdef bint _direct
    cdef readonly uint64_t bytes_in
    cdef readonly uint64_t bytes_out
    cdef readonly uint64_t writes
    cdef readonly uint64_t frames_dropped

    cdef inline void mark(self)
    cdef int control(
        self, int kind, uint16_t target, uint32_t id, uint32_t value, bytes body
    ) except -1
    cdef bint on_frame(self) except -1
    cdef void on_batch(self)
    cdef void on_closed(self)
    cdef int _configure(self, loop, uint32_t body_bytes_max, double heartbeat_s) except -1
    cdef void fail(self, str why)
    cdef void lose(self, str why)
    cdef void _drop(self)
    cdef void _hello(self, bytes name)
    cdef int _read_hello(self) except -1
    cdef int _process(self) except -1


cdef class Call(Waiter):
    cdef ClientSession session
    cdef uint32_t id

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner)
    cdef void on_error(self, int code, bint retry_safe, str message)


cdef struct Slot:
    void* call
    uint32_t id
    bint used


cdef class SessionOwner:
    cdef void on_ready(self, ClientSession session)
    cdef void on_credit(self, ClientSession session)
    cdef void on_goodbye(self, ClientSession session)
    cdef void on_lost(self, ClientSession session)


cdef class ClientSession(Session):
    cdef SessionOwner owner
    cdef Slot* _slots
    cdef uint32_t _mask
    cdef uint32_t _next_id
    cdef uint32_t _flushed_id
    cdef readonly int credits
    cdef readonly int inflight
    cdef int _told_waiting
    cdef uint32_t _reclaims
    cdef uint32_t _reclaimed
    cdef bint _choked
    cdef dict _methods
    cdef bytes _name

    cdef int submit(
        self, Call call, uint16_t target, const char* body, size_t n, uint32_t timeout_ms
    ) except -1
    cdef void abandon(self, Call call)
    cdef uint16_t method_id(self, bytes name) except 0
    cdef int room(self)
    cdef void tell_waiting(self, int waiting)
    cdef int _gain(self, uint32_t n) except -1
    cdef void _give_back(self)
    cdef Slot* _slot(self, uint32_t id) noexcept
    cdef int _grow_slots(self) except -1
    cdef bint _end(self, Slot* slot)


cdef class Handler:
    cdef bint on_request(
        self, ServerSession session, uint32_t id, uint16_t method, uint32_t timeout_ms,
        const char* body, Py_ssize_t n, bytes owner
    ) except -1
    cdef void on_cancel(self, ServerSession session, uint32_t id)
    cdef void on_batch(self, ServerSession session)
    cdef void on_lost(self, ServerSession session)
    cdef int method(self, bytes name) except -1


cdef class SessionHolder(Holder):
    cdef ServerSession session


cdef class ServerSession(Session):
    cdef Handler handler
    cdef CreditPool pool
    cdef readonly SessionHolder holder
    cdef list _methods
    cdef object _sessions
    cdef readonly uint64_t requests

    cdef void reply(self, uint32_t id, const char* body, size_t n, int credits)
    cdef void error(self, uint32_t id, int code, bint retry_safe, str message, int credits)
    cdef void credit(self, int n)
