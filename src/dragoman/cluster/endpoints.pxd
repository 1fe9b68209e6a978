from dragoman.cluster.endpoint cimport Endpoint, EndpointKeeper
from dragoman.timers cimport Timed


cdef class Endpoints(EndpointKeeper):
    cdef readonly bytes key
    cdef readonly dict endpoints
    cdef readonly dict unusable
    # The endpoints with a session, in their order, and how many are still connected to.
    cdef dict _present
    cdef int _expected
    cdef list _ready
    cdef list _taking_part
    cdef int _viable
    # How many of those with a session are shunned.
    cdef int _shunning
    cdef bint _pings
    cdef readonly bint closed
    cdef readonly bint known
    # Says why it is not known who serves, or None.
    cdef public object why_unread
    cdef Watchdog _watchdog

    cdef int _list(self, str address, registrations) except -1
    cdef int _said_anew(self, Endpoint endpoint, registration) except -1
    cdef void _let_go(self, Endpoint endpoint)
    cdef bint _take_note(self, Endpoint endpoint)
    cdef void changed(self)
    cdef void recovered(self, Endpoint endpoint, bint anew)
    cdef void tripped(self, Endpoint endpoint, str why)
    cdef void need(self)
    cdef void probe(self, Endpoint endpoint)
    cdef bint busy(self)
    cdef void watch(self)
    cdef bint survey(self)


cdef class Watchdog(Timed):
    cdef Endpoints service
