from libc.stdint cimport int64_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.cluster.line cimport ServiceCall
from dragoman.cluster.service cimport Service
from dragoman.rpc.tick cimport Gathering, Tick
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.http1.request cimport RequestDecoder


cdef class Looking:
    cdef HttpCall call
    cdef bytes path
    cdef bytes group
    cdef bytes version
    cdef object outline
    # What the call is, once that is known; and its payload, of which so much has been joined.
    cdef tuple described
    cdef object parts
    cdef Py_ssize_t part_at
    cdef bytes payload
    cdef Py_ssize_t joined

    cdef bint go_on(self)
    cdef int _begin_join(self) except -1
    cdef bint _join(self) except -1
    cdef void _refuse(self, IngressConnection connection, error)


cdef class Ingress:
    cdef readonly object loop
    cdef Tick tick
    cdef readonly object directory
    cdef object published
    cdef dict _services
    cdef Buffer _scratch
    cdef readonly set connections
    cdef readonly object limits
    cdef readonly bint draining
    cdef int64_t _drained_us
    cdef double _pressure
    cdef Budget budget
    cdef double _due_refusals
    cdef int64_t _timeout_us
    cdef int64_t _request_us
    cdef int64_t _body_us
    cdef int64_t _body_rate
    cdef int64_t _idle_us
    cdef int64_t _check_us
    cdef readonly object access
    cdef bint _hosts_restricted
    cdef dict _told  # service and error -> [when the next line is due, failures without one]
    cdef object _looking  # large calls that are looked through before they are begun
    cdef bytes _date
    cdef int64_t _date_until_us
    cdef readonly uint64_t accepted
    cdef readonly uint64_t refused_connections
    cdef readonly uint64_t requests
    cdef readonly uint64_t succeeded
    cdef readonly uint64_t abandoned
    cdef readonly dict errors
    cdef readonly object latency
    cdef readonly Py_ssize_t in_progress

    cdef bint _sheds(self) noexcept
    cdef bytes date(self, int64_t now_us)
    cdef int look_through(self, Looking looking) except -1
    cdef bytes response(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner)
    cdef bytes error_response(
        self, HttpCall call, int status, str name, str why, int64_t now_us
    )


cdef class IngressConnection(Gathering):
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
    cdef size_t _queued
    cdef int64_t _active_us
    cdef int64_t _partial_us  # since when the head, or the body, of a request is coming
    cdef bint _in_body        # which of the two
    cdef int64_t _received
    cdef int64_t _body_from   # what had been received when the body began
    cdef int64_t _paused_us
    cdef int64_t _linger_us

    cdef void _pump(self)
    cdef void _count_queue(self)
    cdef void _begin(self, int64_t now)
    cdef void _expect(self, HttpCall call)
    cdef void _answered(self, HttpCall call, bytes response)
    cdef void _refuse(
        self, int status, str name, str why, bint close, bint head_only=*, bytes origin=*
    )
    cdef bint _too_slow(self, int64_t now) noexcept
    cdef void _written(self)
    cdef void _linger(self)
    cdef bint _unread(self)
    cdef bint _comes_more(self) noexcept
    cdef void _renders(self, HttpCall call)
    cdef bint _begin_form(self, HttpCall call) except -1
    cdef bint _begin_json(self, HttpCall call) except -1
    cdef bint _begin_query(self, HttpCall call) except -1
    cdef int _begin_call(self, HttpCall call, tuple described, bytes joined=*) except -1


cdef class HttpCall(ServiceCall):
    cdef IngressConnection connection
    cdef bint json
    cdef bint accepted  # there is no result: 202
    cdef bint keep_alive
    cdef bint http_1_0
    cdef bytes response
    cdef bytes rest         # what is written after the response, if that is not the whole
    cdef bytes origin  # of the page that asks, if pages of other origins may
    cdef Budget counts_in
    cdef size_t counted  # bytes of its body, or of a response that waits for its turn

    cdef int connection_says(self) noexcept
    cdef void _tell(self, Ingress ingress, int code, str name, str message)
    cdef void count(self, size_t n) noexcept
