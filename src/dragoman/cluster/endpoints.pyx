"""The servers that a service has now: which of them take part, and which have fallen silent.

``cluster.line.Line`` is built on this: here are the endpoints, there the calls. The
invariants: ``_ready`` are the endpoints with a session, ``_taking_part`` those of them that are not
set aside, ``_viable`` is how many may still take a call. All follow every change at the cost of the
endpoints with a session: a registry may list any number of others. Nothing is done for a service
without calls.
"""

from libc.stdint cimport int64_t

from dragoman.balance.merit cimport judge
from dragoman.cluster.endpoint cimport EXPECTED, PRESENT, Endpoint, EndpointKeeper, Standing
from dragoman.cluster.peer cimport DOWN, Peer, Peers
from dragoman.rpc.tick cimport tick_of
from dragoman.timers cimport Timed

import logging

from dragoman.cluster.endpoint import spoken
from dragoman.cluster.member import protocol_of
from dragoman.errors import UsageError

log = logging.getLogger("dragoman.cluster")

cdef int64_t WATCH_US = 100_000
# An endpoint with requests in flight that has answered nothing for this long, and for eight times
# its usual latency, has fallen silent.
cdef int64_t SILENCE_US = 500_000
cdef double SILENCE_LATENCIES = 8.0

# So many of a service's endpoints are connected to before others' when calls wait for one.
cdef int NEEDED_MAX = 8

# What a Link connects to: mesh sessions, with the bodies of agents or of anybody.
cdef tuple MESH_PROTOCOLS = ("mesh", "rpc")


cdef class Endpoints(EndpointKeeper):
    """The endpoints of one service, by their addresses."""

    def __init__(self, loop, bytes key not None, options):
        self.loop = loop
        self.tick = tick_of(loop)
        self.key = key
        self.name = key.decode()
        self._options = options
        if options.peers is None or (<Peers?>options.peers).loop is not loop:
            options.peers = Peers(loop)
        self.peers = options.peers
        self._pings = options.pings
        self.endpoints = {}
        self.unusable = {}
        self._present = {}
        self._ready = []
        self._taking_part = []
        self._leaving = set()
        self._watchdog = Watchdog()
        self._watchdog.service = self

    def update(self, registrations):
        """The registry's current list. New endpoints are connected to, those gone are let go."""
        wanted = {address: () for address in (*self.endpoints, *self.unusable)}
        for registration in registrations:
            wanted[registration.address] = (*wanted.get(registration.address, ()), registration)
        self.change(wanted)

    def change(self, listed):
        """Take over what is listed at some addresses: mostly one registration, or none."""
        if self.closed:
            return
        self.known = True
        for address, registrations in listed.items():
            self._list(address, registrations)
        self.changed()

    cdef int _list(self, str address, registrations) except -1:
        """Take over what is listed at ``address``: one port may speak several protocols."""
        cdef Endpoint endpoint = self.endpoints.get(address)
        links = self._options.links
        registration = None
        why = None
        for each in registrations:
            protocol = protocol_of(each)
            if protocol in links or protocol in MESH_PROTOCOLS:
                registration = each
            else:
                why = f"{protocol} is not spoken here"
        if endpoint is not None and (
            registration is None or spoken(endpoint.registration) != spoken(registration)
        ):
            self._let_go(self.endpoints.pop(address))
            endpoint = None
        if registration is not None:
            why = None
            if endpoint is not None:
                self._said_anew(endpoint, registration)
            else:
                try:
                    endpoint = Endpoint(self, registration)
                except UsageError as error:
                    why = str(error)
                else:
                    self.endpoints[address] = endpoint
                    endpoint.peer.join(endpoint)
                    self._take_note(endpoint)
                    if endpoint.peer.state == DOWN:
                        endpoint.peer.link.hurry()
        if why is not None:
            self.unusable[address] = why
        elif self.unusable:
            self.unusable.pop(address, None)
        return 0

    cdef int _said_anew(self, Endpoint endpoint, registration) except -1:
        """``endpoint`` is registered so now."""
        if endpoint.registration is registration:
            # The same object: nobody has said anything new of it.
            return 0
        if endpoint.registration != registration:
            endpoint.weight = registration.weight if registration.weight > 0 else 1.0
            if endpoint.peer.special is not None:
                endpoint.peer.special.update(registration)
        endpoint.registration = registration
        if endpoint.peer.state == DOWN:
            endpoint.peer.link.hurry()
        return 0

    @property
    def serving(self):
        """Whether any endpoint has a session."""
        return len(self._ready) > 0

    cdef void _let_go(self, Endpoint endpoint):
        """``endpoint`` is no longer registered as it was."""
        endpoint.close()
        self._take_note(endpoint)

    cdef bint _take_note(self, Endpoint endpoint):
        """Whether how things stand with ``endpoint`` has changed, with the lists not yet made
        anew.
        """
        cdef Standing now = endpoint.look()
        cdef Standing before = endpoint.standing
        if now == before:
            return False
        endpoint.standing = now
        if now == PRESENT:
            self._present[endpoint] = None
        elif before == PRESENT:
            del self._present[endpoint]
            endpoint.tell(0)
        self._expected += (now == EXPECTED) - (before == EXPECTED)
        return True

    cdef void moved(self, Endpoint endpoint):
        cdef Standing before = endpoint.standing
        if endpoint.look() == PRESENT and before != PRESENT and endpoint.peer.special is None:
            # What answers HELLO may serve this again.
            endpoint.breaker.success()
        if not self._take_note(endpoint):
            if before == PRESENT:
                self.changed()
        elif before == PRESENT or endpoint.standing == PRESENT:
            self.changed()
        else:
            # One that is merely not reached concerns nobody, unless it was the last viable one.
            self._viable += (endpoint.standing == EXPECTED) - (before == EXPECTED)
            if self._viable == 0:
                self.changed()

    cdef void changed(self):
        """An endpoint's state has changed: rebuild what the request path looks at."""
        cdef Endpoint endpoint
        self._ready = []
        self._taking_part = []
        self._viable = self._expected
        for endpoint in self._present:
            self._ready.append(endpoint)
            endpoint.refresh()
            if not endpoint.set_aside():
                self._taking_part.append(endpoint)
                self._viable += 1
            elif endpoint.peer.suspect and not endpoint.breaker.open:
                self._viable += 1
            if self.queued:
                endpoint.stand_in_line()

    cdef void recovered(self, Endpoint endpoint, bint anew):
        """A reply: the endpoint takes part again; ``anew``: in this service too, if it had said
        that it did not.
        """
        cdef bint was_open = endpoint.breaker.open
        if anew:
            endpoint.breaker.success()
            if was_open:
                log.info("%s: endpoint %s takes part again", self.name, endpoint.address)
                self.changed()
        endpoint.peer.heard()

    cdef void tripped(self, Endpoint endpoint, str why):
        """The endpoint is set aside for this service; ``why`` is told to every caller, and holds
        nothing of any.
        """
        endpoint.aside = why
        log.warning("%s: endpoint %s is set aside: %s", self.name, endpoint.address, why)
        self.watch()
        self.changed()

    cdef void need(self):
        """Calls wait for any endpoint: some of those being connected to are to come first."""
        cdef Endpoint endpoint
        cdef int left = NEEDED_MAX
        for endpoint in self.endpoints.values():
            if endpoint.standing == EXPECTED:
                endpoint.peer.link.need()
                left -= 1
                if left == 0:
                    return

    cdef void probe(self, Endpoint endpoint):
        """``endpoint``, which is set aside, has room for one call, to see whether it does again."""

    cdef bint busy(self):
        """Whether there are calls to look after."""
        return False

    cdef void watch(self):
        """Look after the endpoints from now on, while there are calls."""
        if self._watchdog._wheel is None and not self.closed:
            self.tick.wheel.schedule(self._watchdog, self.tick.wheel.clock_us() + WATCH_US)

    cdef bint survey(self):
        """Every 100 ms while there are calls: notice endpoints that have fallen silent, let probes
        through. Whether there is anything left to look after.
        """
        cdef Endpoint endpoint
        cdef Peer peer
        cdef bint more = self.busy()
        cdef int64_t now = self.tick.wheel.clock_us()
        cdef double silence_us
        for endpoint in list(self._ready):
            peer = endpoint.peer
            if endpoint.breaker.open:
                more = True
                if peer.room > 0 and endpoint.breaker.allows(now):
                    endpoint.barred = False
                    self.probe(endpoint)
                continue
            if endpoint.under_way == 0 or peer.breaker.open or peer.session is None:
                continue
            if self._pings:
                if peer.session.read_us > peer.replied_us:
                    peer.replied_us = peer.session.read_us
                silence_us = SILENCE_US
            elif endpoint.replies == 0:
                continue
            else:
                silence_us = SILENCE_LATENCIES * endpoint.ewma_us
                if silence_us < SILENCE_US:
                    silence_us = SILENCE_US
            peer.look_silent(now, <int64_t>silence_us)
        self._shunning = judge(self._ready)
        return more

    def let_go(self):
        """No endpoint is wanted any longer."""
        self.closed = True
        for endpoint in list(self.endpoints.values()):
            self._let_go(<Endpoint>endpoint)
        self.endpoints.clear()
        self.tick.wheel.cancel(self._watchdog)
        # Nothing is to wait for the garbage collector: see ``agent.consumer``.
        self._watchdog.service = None
        self.changed()

    def abort(self):
        """After ``close``: end what is in flight."""
        for endpoint in list(self._leaving):
            (<Endpoint>endpoint).abort()


cdef class Watchdog(Timed):
    """Surveys a service's endpoints while it has calls."""

    cdef void on_due(self):
        cdef Endpoints service = self.service
        if service is not None and service.survey() and service.endpoints:
            service.tick.wheel.schedule(self, service.tick.wheel.clock_us() + WATCH_US)
