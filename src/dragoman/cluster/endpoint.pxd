from libc.stdint cimport int64_t, uint64_t

from dragoman.balance.policies cimport Candidate
from dragoman.flow.breaker cimport Breaker
from dragoman.rpc.client_session cimport ClientSession, SessionOwner
from dragoman.rpc.turn cimport Turn

cdef enum:
    CONNECTING = 0
    READY = 1
    DOWN = 2
    DRAINING = 3
    REMOVED = 4


cdef class EndpointKeeper:
    cdef readonly str name
    cdef readonly object loop
    cdef Turn turn
    cdef object _options
    # Endpoints that are no longer registered, with calls under way.
    cdef set _leaving

    cdef void changed(self)
    cdef void credited(self)


cdef class Endpoint(Candidate):
    cdef readonly object registration
    cdef readonly str address
    cdef readonly EndpointKeeper service
    cdef readonly object link
    # The link, if it is no plain one.
    cdef object special
    cdef ClientSession session
    cdef EndpointOwner _owner
    cdef readonly int state
    cdef readonly str reason
    # What was said of it last that speaks against it. It is told to any caller, so it holds
    # nothing of what one of them has sent.
    cdef readonly str aside
    cdef readonly Breaker breaker
    cdef readonly uint64_t requests
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    cdef double ewma_us
    cdef int64_t replied_us
    cdef int64_t unavailable_us
    # Its last word was a rejection: that it has room is not to be believed.
    cdef bint rejecting
    cdef bint _suspect
    cdef int64_t _suspect_until_us
    cdef object lanes
    cdef bint _odd
    cdef bint _held

    cdef void refresh(self)


cdef class EndpointOwner(SessionOwner):
    cdef Endpoint endpoint
