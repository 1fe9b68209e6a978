from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.line cimport Line, ServiceCall
from dragoman.flow.breaker cimport RetryBudget


cdef class Service(Line):
    cdef readonly RetryBudget retries
    cdef bint _fail
    cdef readonly uint64_t requests
    cdef readonly uint64_t one_way
    cdef readonly uint64_t retried
    cdef readonly uint64_t shed

    cdef void _send_and_forget(
        self, ServiceCall call, Endpoint endpoint, uint16_t method, uint32_t timeout_ms
    )
    cdef void _wait(self, ServiceCall call)
    cdef void _refuse(self, ServiceCall call)
    cdef bint _send_elsewhere(self, ServiceCall call)
    cdef list _shown(self, idle_max)
    cdef void sweep(self)
