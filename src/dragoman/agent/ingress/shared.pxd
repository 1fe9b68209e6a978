from libc.stdint cimport int64_t, uint64_t

from dragoman.agent.ingress.failures cimport FailureLog
from dragoman.agent.ingress.large cimport LargeCalls
from dragoman.agent.ingress.responses cimport Responses
from dragoman.budget cimport Budget
from dragoman.observe.histogram cimport Histogram
from dragoman.rpc.tick cimport Tick


cdef enum:
    # The least rate of a body counts from here on: what is sent in bursts is given time.
    BODY_GRACE_US = 5_000_000


cdef class Ingress:
    cdef readonly object loop
    cdef Tick tick
    cdef readonly object directory
    cdef object published
    cdef dict services
    cdef Responses responses
    cdef FailureLog failures
    cdef LargeCalls large
    cdef readonly set connections
    cdef readonly object limits
    cdef readonly bint draining
    cdef int64_t _drained_us
    cdef double _pressure
    cdef Budget budget
    cdef double _due_refusals
    cdef int64_t timeout_us
    cdef int64_t request_us
    cdef int64_t body_us
    cdef int64_t body_rate
    cdef int64_t idle_us
    cdef int64_t check_us
    cdef readonly object access
    cdef bint hosts_restricted
    cdef readonly uint64_t requests
    cdef readonly uint64_t accepted
    cdef readonly uint64_t refused_connections
    cdef readonly uint64_t succeeded
    cdef readonly uint64_t abandoned
    cdef readonly dict errors
    cdef readonly Histogram latency
    cdef readonly Py_ssize_t in_progress

    cdef bint sheds(self) noexcept
    cdef void count_error(self, str name)
