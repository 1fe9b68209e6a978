from dragoman.cluster.endpoint cimport Endpoint, EndpointKeeper
from dragoman.timers cimport Timed


cdef class Endpoints(EndpointKeeper):
    cdef readonly bytes key
    cdef readonly dict endpoints
    cdef readonly dict unusable
    cdef list _ready
    cdef list _taking_part
    cdef int _hopes
    cdef bint _pings
    cdef readonly bint closed
    cdef readonly bint known
    cdef Watchdog _watchdog

    cdef void recovered(self, Endpoint endpoint)
    cdef void tripped(self, Endpoint endpoint, str why)
    cdef void probe(self, Endpoint endpoint)
    cdef void survey(self)


cdef class Watchdog(Timed):
    cdef Endpoints service
