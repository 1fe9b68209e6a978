from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.dubbo.upstream.connection cimport DubboCall, DubboConnection
from dragoman.dubbo.upstream.link cimport DubboLink
from dragoman.dubbo.upstream.decode_reply cimport Replies
from dragoman.dubbo.upstream.encode_request cimport Asked, Requests
from dragoman.dubbo.upstream.learned_limit cimport LearnedLimit
from dragoman.dubbo.upstream.probe cimport Probe
from dragoman.flow.credits cimport CreditPool
from dragoman.rpc.server_session cimport Handler, ServerSession
from dragoman.rpc.tick cimport Tick


cdef class Egress(Handler):
    cdef readonly object loop
    cdef Tick tick
    cdef readonly CreditPool pool
    cdef readonly DubboLink link
    cdef Requests _requests
    cdef readonly str serialization
    cdef dict _said
    # Whether the provider has answered anything in it; and the one for which it has been told that
    # it has not.
    cdef readonly bint _heard
    cdef str _told
    # Called when a call has had its time before anything has been answered.
    cdef public object on_unheard
    cdef Replies _replies
    cdef double _mean_us
    cdef readonly bint draining
    cdef double _pressure
    cdef double _due_refusals
    # The provider's limit is not known: it is learned; by several processes if it is shared.
    cdef LearnedLimit _limit
    cdef readonly bint sharing
    cdef uint32_t _timeout_ms
    cdef readonly Py_ssize_t in_progress
    cdef readonly uint64_t requests
    cdef readonly uint64_t succeeded
    cdef readonly uint64_t rejections
    cdef readonly uint64_t sent_again
    cdef readonly uint64_t late
    cdef readonly dict errors
    cdef readonly object latency
    # Who makes and reads what takes long, or None; whose the requests are there; and the calls
    # that wait for it.
    cdef object _transcoder
    cdef tuple _made_for
    cdef set _aside
    cdef Probe _probe

    cdef Requests requests_in(self, str serialization)
    cdef void _sent_one_way(self, EgressCall call, DubboConnection connection)
    cdef bint _refused(self, EgressCall call, DubboConnection connection, Py_ssize_t n) except -1
    cdef bint _make_aside(
        self, EgressCall call, int method, uint32_t timeout_ms, bytes body
    ) except -1
    cdef bint _is_sent(
        self, EgressCall call, DubboConnection connection, size_t start, uint32_t timeout_ms
    ) except -1
    cdef bint _under_way(
        self, EgressCall call, DubboConnection connection, size_t start, uint32_t timeout_ms
    ) except -1
    cdef int _append(self, EgressCall call, DubboConnection connection, bytes frame) except -1
    cdef void _failed(self, EgressCall call, int code, str problem)
    cdef void _succeeded(self, EgressCall call, const char* answer, Py_ssize_t n, bytes owner)
    cdef void _finish(
        self, EgressCall call, int code, bint retry_safe, str message, bint answered=*
    )


cdef class EgressCall(DubboCall):
    cdef Egress egress
    cdef ServerSession session
    cdef uint32_t id
    cdef Asked asked
    cdef bint answered
    cdef int64_t started_us, sent_us
    # The frame as it was sent, if it may have to be sent again; and how often it has been.
    cdef bytes frame
    cdef int rejected
    cdef bint waits
    # What is done aside for it: MAKING or READING, 0 if nothing is.
    cdef int aside
    cdef object job
    cdef uint32_t timeout_ms

    cdef int _read_aside(self, int serialization, const char* body, Py_ssize_t n) except -1
    cdef int _leave_aside(self) except -1
    cdef bint _sent_again_later(self) except -1
