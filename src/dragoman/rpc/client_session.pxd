from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from dragoman.flow.waiting cimport Waiter
from dragoman.rpc.session cimport Session


cdef class Call(Waiter):
    cdef ClientSession session
    cdef uint32_t id
    cdef uint32_t index
    # What travels beside its body, or None.
    cdef bytes metadata
    # Whether the error that it got is the callee's own answer (errors.ANSWERED).
    cdef bint answered
    # The next one, among ended calls that are used again.
    cdef Call next_free

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner)
    cdef void on_error(self, int code, bint retry_safe, str message)
    cdef bint unwanted(self)
    cdef object sender(self)
    cdef int64_t since(self)


cdef struct Slot:
    void* call
    uint32_t id
    uint32_t place  # 1 + the call's index of this request; 0: the slot is free


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
    cdef uint32_t _swept_id
    cdef readonly int credits
    cdef readonly int inflight
    cdef int _told_waiting
    cdef uint32_t _reclaims
    cdef uint32_t _reclaimed
    cdef bint _choked
    cdef dict _methods
    cdef bytes _name
    cdef bytes _identity

    cdef int submit(
        self, Call call, uint16_t target, const char* body, size_t n, uint32_t timeout_ms
    ) except -1
    cdef int submit_body(
        self, Call call, uint32_t index, uint16_t target, bytes body, uint32_t timeout_ms,
        bytes order_key
    ) except -1
    cdef int submit_many(
        self, Call call, list bodies, Py_ssize_t first, Py_ssize_t end, uint16_t target,
        uint32_t timeout_ms, uint32_t* ids
    ) except -1
    cdef int notify(
        self, uint16_t target, bytes body, uint32_t timeout_ms, bytes order_key, bytes metadata
    ) except -1
    cdef void at_once(self)
    cdef void sent_at_once(self)
    cdef void abandon(self, Call call)
    cdef bint abandon_id(self, Call call, uint32_t id)
    cdef void sweep(self)
    cdef list calls(self)
    cdef uint16_t method_id(self, bytes name) except 0
    cdef int room(self)
    cdef bint has_room(self, size_t n) noexcept
    cdef void tell_waiting(self, int waiting)
    cdef inline Slot* _take(self, Call call, uint32_t index) except NULL
    cdef int _in_line(
        self, uint8_t flags, uint16_t target, uint32_t id, bytes body, uint32_t timeout_ms,
        bytes order_key, bytes metadata
    ) except -1
    cdef bint _must_wait(self, size_t n, bytes order_key)
    cdef int _order(self, uint32_t id, bytes order_key) except -1
    cdef int _take_piece(self) except -1
    cdef int _gain(self, uint32_t n) except -1
    cdef void _give_back(self)
    cdef inline Slot* _slot(self, uint32_t id) noexcept
    cdef int _resize(self, uint32_t mask) except -1
    cdef inline void _end(self, Slot* slot) noexcept
