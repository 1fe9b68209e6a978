from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport HttpCall, HttpCaller
from dragoman.agent.ingress.shared cimport Ingress
from dragoman.wire.http1.request cimport RequestDecoder


cdef class HttpConnection(HttpCaller):
    cdef Ingress ingress
    cdef object transport
    cdef object _write
    cdef RequestDecoder decoder
    # The request whose response is the next, and those after it.
    cdef HttpCall _head
    cdef list _later
    cdef Py_ssize_t _outstanding
    cdef readonly bint closed
    cdef bint _paused
    cdef bint _blocked
    cdef bint _ending
    cdef bint _lingering
    cdef bint _half_closed
    cdef Py_ssize_t _discarded
    cdef size_t _queued
    cdef int64_t _active_us
    cdef int64_t _partial_us  # since when the head, or the body, of a request is coming
    cdef bint _in_body        # which of the two
    cdef int64_t _received
    cdef int64_t _body_from   # what had been received when the body began
    cdef int64_t _paused_us
    cdef int64_t _linger_us

    cdef void begin(self, int64_t now)
    cdef void expect(self, HttpCall call)
    cdef void answered(self, HttpCall call, bytes response)
    cdef void refuse(
        self, int status, str name, str why, bint close, bint head_only=*, bytes origin=*
    )
    cdef void _pump(self)
    cdef void _count_queue(self)
    cdef bint _too_slow(self, int64_t now) noexcept
    cdef void _written(self)
    cdef void _linger(self)
    cdef bint _unread(self)
    cdef bint _comes_more(self) noexcept
    cdef void _renders(self, HttpCall call)
    cdef void _answer_error(self, HttpCall call, int code, str message)
