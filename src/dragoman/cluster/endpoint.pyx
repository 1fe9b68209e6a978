"""One server of a service: its share in the calls there, beside what ``cluster.peer`` knows.

``cluster.endpoints`` makes one for each server that is registered, and hears of every change. The
connection, the credits and the health are the peer's, which other services may share. The
invariant: ``barred`` unless calls of this service may go there as far as the peer has room.
"""

from libc.stdint cimport int64_t

from dragoman.balance.affinity cimport hash_of
from dragoman.balance.charges cimport Charges
from dragoman.cluster.peer cimport CONNECTING, READY, Peer, PeerUser
from dragoman.flow.breaker cimport Breaker

from collections import OrderedDict

from dragoman.cluster.member import protocol_of
from dragoman.cluster.peer import STATES


def spoken(registration):
    """The parts of a registration that make a link another one."""
    return protocol_of(registration), *(
        getattr(registration, name, "") for name in ("serialization", "path", "token")
    )


cdef class EndpointKeeper:
    """The owner of endpoints, as they see it."""

    cdef void moved(self, Endpoint endpoint):
        """An endpoint's state may have changed."""

    cdef void fed(self, int64_t most):
        """An endpoint has room again, for so many calls of this service."""


cdef class Endpoint(PeerUser):
    """One server of a service. Raises UsageError for one that cannot be used."""

    def __init__(self, EndpointKeeper service not None, registration):
        self.peer = service.peers.at(service._options, registration)
        PeerUser.__init__(self, registration.weight, target=self.peer)
        self.service = service
        self.registration = registration
        self.address = registration.address
        self.identity = hash_of(self.address.encode())
        self.lanes = OrderedDict()
        self.breaker = Breaker()
        self.standing = AWAY

    @property
    def state(self):
        """One of ``STATES``, by its number, or that it is no longer registered."""
        if self.gone:
            return "removed"
        if self.peer.state == READY and self.set_aside():
            return "set aside"
        return STATES[self.peer.state]

    @property
    def reason(self):
        """Why it is not ready."""
        return self.peer.reason

    @property
    def link(self):
        """The link that keeps the connection."""
        return self.peer.link

    cdef str why_aside(self):
        """The reason why it has been set aside, or None."""
        return self.aside if self.breaker.open else self.peer.aside

    cdef void charge(self, int64_t until_us):
        """A call that ended without having done its work counts for the balance until then."""
        if self.charges is None:
            self.charges = Charges()
        self.charges.add(until_us)
        self.charged = self.charges.count

    cdef str user_name(self):
        return self.service.name

    cdef void moved(self):
        if not self.gone:
            self.service.moved(self)

    cdef bint waits(self):
        return self.service.queued > 0 and not self.gone

    cdef void fed(self, int64_t most):
        self.service.fed(most)

    cdef Standing look(self):
        """How things stand with the peer now."""
        if self.gone:
            return AWAY
        if self.peer.state == READY:
            return PRESENT
        return EXPECTED if self.peer.state == CONNECTING else AWAY

    cdef void refresh(self):
        """Take over what the policy looks at."""
        self.peer.refresh()
        self.barred = self.gone or self.breaker.open

    def close(self):
        """No longer registered: nothing new goes there, what is in flight ends in peace."""
        self.gone = True
        self.barred = True
        self.peer.leave(self)
        if self.under_way:
            self.service._leaving.add(self)

    def abort(self):
        """End what is in flight, now."""
        self.peer.end_calls(self)

    def status(self):
        """A plain dict for the status page."""
        cdef Peer peer = self.peer
        return {
            "address": self.address, "state": self.state,
            "reason": self.why_aside() if self.set_aside() and peer.state == READY
            else peer.reason,
            "weight": self.weight, "inflight": self.under_way,
            "credits": peer.session.credits if peer.session is not None else 0,
            "requests": self.requests, "replies": self.replies, "failures": self.failures,
            "withdrawn": self.withdrawn, "one_way": self.one_way,
            "breaker_open": self.set_aside(), "breaker_trips": self.breaker.trips
            + peer.breaker.trips,
            "latency_ms": round(self.ewma_us / 1000.0, 3) if self.samples else None,
            "shunned": self.shunned,
            **({} if peer.special is None else peer.special.status()),
        }
