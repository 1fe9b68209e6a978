from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.flow.credits cimport CreditPool, Holder
from dragoman.rpc.session cimport Session
from dragoman.timers cimport Timed, Wheel

cdef enum:
    # why a session's requests are not taken
    HOLD_UNREAD = 1  # the caller does not read its replies
    HOLD_HANDLER = 2  # the handler has as much as it may have


cdef class Handler:
    cdef int features
    # No new sessions any more.
    cdef public bint closing

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
    cdef int64_t asked_us


cdef class Pacer(Timed):
    cdef CreditPool pool
    cdef Wheel wheel

    cdef void go_on(self)


cdef class ServerSession(Session):
    cdef Handler handler
    cdef CreditPool pool
    cdef readonly SessionHolder holder
    # The handler's numbers of the methods that have been named, by id less 1.
    cdef int* _methods
    cdef uint32_t _named
    cdef uint32_t _methods_room
    cdef object _sessions
    cdef readonly uint64_t requests
    # Of the request that is being handed over: whether nobody waits for a reply, and, unless
    # order_id is 0, the key of its sequence.
    cdef bint no_reply
    cdef uint32_t order_id
    cdef bytes order_key
    # Of the request that comes next, and what was said beside it.
    cdef uint32_t metadata_id
    cdef dict metadata
    # What the handler keeps for this session.
    cdef dict work
    cdef int _owed
    # The value of the PING that waits for its PONG since a RECLAIM was due, 0 if there is none.
    cdef uint32_t _probe
    cdef bint _returned
    # The requests of whose bodies all or some is yet to come, with the length of each.
    cdef dict _announced
    cdef int _sessions_max

    cdef void reply(self, uint32_t id, const char* body, size_t n, int credits, bytes owner=*)
    cdef void error(
        self, uint32_t id, int code, bint retry_safe, str message, int credits, bint answered=*
    )
    cdef void credit(self, int n)
    cdef inline void _beside_nothing(self)
    cdef int _take_piece(self) except -1
    cdef bint _forget_body(self, uint32_t id) except -1
    cdef bint _crowded(self)
    cdef void _review_unread(self)
    cdef void owed(self, int credits)
    cdef int grant_owed(self) except -1
    cdef int _probed(self) except -1
    cdef void _pace(self)
    cdef void _probe_reclaim(self)
    cdef int on_midway(self) except -1
    cdef int _take_back(self, uint32_t n) except -1
    cdef void _unknown_method(self, uint32_t id)
    cdef void _no_room(self, uint32_t id, uint32_t n)
    cdef int _name(self, int number) except -1
