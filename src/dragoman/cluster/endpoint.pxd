from libc.stdint cimport int64_t, uint64_t

from dragoman.cluster.peer cimport READY, Peer, Peers, PeerUser
from dragoman.flow.breaker cimport Breaker
from dragoman.rpc.tick cimport Tick

# Whether an endpoint takes calls, as its service has taken note of it.
cdef enum Standing:
    AWAY = 0
    EXPECTED = 1
    PRESENT = 2


cdef class EndpointKeeper:
    cdef readonly str name
    cdef readonly object loop
    cdef Tick tick
    cdef object _options
    cdef readonly Peers peers
    # Endpoints that are no longer registered, with calls under way.
    cdef set _leaving
    cdef readonly Py_ssize_t queued

    cdef void moved(self, Endpoint endpoint)
    cdef void fed(self, int64_t most)


cdef class Endpoint(PeerUser):
    cdef readonly object registration
    cdef readonly str address
    cdef readonly EndpointKeeper service
    cdef Standing standing
    # Set aside for this service alone, which the server says it does not serve now.
    # What was said of this service there last that speaks against it. It is told to any caller, so
    # it holds nothing of what one of them has sent.
    cdef readonly str aside
    cdef readonly Breaker breaker
    # The service's calls there.
    cdef readonly int under_way
    cdef readonly uint64_t requests
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    # When the calls began to be rejected that have been so in a row.
    cdef int64_t rejecting_us
    cdef int64_t unavailable_us
    # It is set aside by its own word that it is full.
    cdef bint full
    cdef readonly uint64_t withdrawn
    cdef readonly uint64_t one_way
    cdef object lanes
    cdef bint _odd_to_lanes
    cdef bint gone

    cdef inline bint ready(self) noexcept:
        return not self.gone and self.peer.state == READY

    cdef inline bint set_aside(self) noexcept:
        return self.breaker.open or self.peer.breaker.open

    cdef str why_aside(self)
    cdef void charge(self, int64_t until_us)
    cdef Standing look(self)
    cdef void refresh(self)
