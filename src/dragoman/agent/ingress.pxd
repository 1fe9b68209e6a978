from libc.stdint cimport int64_t, uint64_t

from dragoman.cluster.service cimport Service, ServiceCall
from dragoman.rpc.turn cimport Turn
from dragoman.timers cimport Timed
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.http1_request cimport RequestDecoder


cdef class Ingress:
    cdef readonly object loop
    cdef Turn turn
    cdef readonly object directory
    cdef object published
    cdef dict _services
    cdef Buffer _scratch
    cdef readonly set connections
    cdef readonly object limits
    cdef readonly bint draining
    cdef int64_t _drained_us
    cdef double _pressure
    cdef double _due_refusals
    cdef int64_t _timeout_us
    cdef int64_t _request_us
    cdef int64_t _idle_us
    cdef int64_t _check_us
    cdef readonly uint64_t accepted
    cdef readonly uint64_t refused_connections
    cdef readonly uint64_t requests
    cdef readonly uint64_t succeeded
    cdef readonly uint64_t abandoned
    cdef readonly dict errors
    cdef readonly object latency
    cdef readonly Py_ssize_t in_progress

    cdef bint _sheds(self) noexcept
    cdef bytes response(
        self, const char* body, Py_ssize_t n, bint json, bint keep_alive, bint http_1_0
    )


cdef class IngressConnection(Timed):
    cdef Ingress ingress
    cdef object transport
    cdef object _write
    cdef RequestDecoder decoder
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
    cdef int64_t _active_us
    cdef int64_t _partial_us
    cdef int64_t _paused_us
    cdef int64_t _linger_us

    cdef void _pump(self)
    cdef void _begin(self, int64_t now)
    cdef void _expect(self, HttpCall call)
    cdef void _answered(self, HttpCall call, bytes response)
    cdef void _refuse(self, int status, str name, str why, bint close, bint head_only=*)
    cdef void _written(self)
    cdef void _linger(self)
    cdef bint _unread(self)
    cdef bint _comes_more(self) noexcept
    cdef void _renders(self, HttpCall call)
    cdef bint _begin_form(self, HttpCall call) except -1
    cdef bint _begin_json(self, HttpCall call) except -1


cdef class HttpCall(ServiceCall):
    cdef IngressConnection connection
    cdef bint json
    cdef bint accepted  # there is no result: 202
    cdef bint keep_alive
    cdef bint http_1_0
    cdef bytes response
