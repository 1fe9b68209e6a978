"""Which servers a service has now, which of them take part, and which have fallen silent.

``cluster.service.Service`` is built on this: here are the endpoints, there the calls. The
invariants: ``_ready`` are the endpoints with a session, ``_taking_part`` those of them that are not
set aside, ``_hopes`` is how many may still take a call; all three are made anew at every change.
"""

from libc.stdint cimport int64_t

from dragoman.cluster.endpoint cimport CONNECTING, DOWN, READY, Endpoint, EndpointKeeper
from dragoman.rpc.turn cimport turn_of
from dragoman.timers cimport Timed
from dragoman.wire.mesh cimport F_PING

import logging

from dragoman.cluster.endpoint import protocol_of, spoken
from dragoman.errors import UsageError

log = logging.getLogger("dragoman.cluster")

cdef int64_t WATCH_US = 100_000
# An endpoint with requests in flight that has answered nothing for this long, and for eight times
# its usual latency, has fallen silent.
cdef int64_t SILENCE_US = 500_000
cdef double SILENCE_LATENCIES = 8.0
cdef int64_t SUSPECT_US = 500_000

# What a Link connects to: mesh sessions, with the bodies of agents or of anybody.
cdef tuple MESH_PROTOCOLS = ("mesh", "rpc")


cdef class Endpoints(EndpointKeeper):
    """The endpoints of one service, by their addresses."""

    def __init__(self, loop, bytes key not None, options):
        self.loop = loop
        self.turn = turn_of(loop)
        self.key = key
        self.name = key.decode()
        self._options = options
        self._pings = options.pings
        self.endpoints = {}
        self.unusable = {}
        self._ready = []
        self._taking_part = []
        self._leaving = set()
        self._watchdog = Watchdog()
        self._watchdog.service = self

    def update(self, registrations):
        """The registry's current list. New endpoints are connected to, those gone are let go."""
        cdef Endpoint endpoint
        if self.closed:
            return
        self.known = True
        links = self._options.links
        wanted = {}
        self.unusable = {}
        for registration in registrations:
            protocol = protocol_of(registration)
            if protocol in links or protocol in MESH_PROTOCOLS:
                wanted[registration.address] = registration
            else:
                self.unusable[registration.address] = f"{protocol} is not spoken here"
        for address in [a for a in self.unusable if a in wanted]:
            # One port may speak several protocols.
            del self.unusable[address]
        for address in [a for a in self.endpoints if a not in wanted]:
            endpoint = self.endpoints.pop(address)
            endpoint.close()
        for address, registration in wanted.items():
            endpoint = self.endpoints.get(address)
            if endpoint is not None and spoken(endpoint.registration) != spoken(registration):
                del self.endpoints[address]
                endpoint.close()
                endpoint = None
            if endpoint is None:
                try:
                    endpoint = Endpoint(self, registration)
                except UsageError as error:
                    self.unusable[address] = str(error)
                    continue
                self.endpoints[address] = endpoint
                endpoint.link.start()
            else:
                if endpoint.registration != registration:
                    endpoint.registration = registration
                    endpoint.weight = registration.weight if registration.weight > 0 else 1.0
                    if endpoint.special is not None:
                        endpoint.special.update(registration)
                if endpoint.state == DOWN:
                    endpoint.link.hurry()
        self.changed()
        if self._watchdog._wheel is None:
            self.turn.wheel.schedule(self._watchdog, self.turn.wheel.clock_us() + WATCH_US)

    cdef void changed(self):
        """An endpoint's state has changed: rebuild what the request path looks at."""
        cdef Endpoint endpoint
        self._ready = []
        self._taking_part = []
        self._hopes = 0
        for endpoint in self.endpoints.values():
            if endpoint.state == READY:
                self._ready.append(endpoint)
                endpoint.refresh()
                if not endpoint.breaker.open:
                    self._taking_part.append(endpoint)
                    self._hopes += 1
                elif endpoint._suspect:
                    self._hopes += 1
            elif endpoint.state == CONNECTING:
                self._hopes += 1

    cdef void recovered(self, Endpoint endpoint):
        """A success: the endpoint takes part again."""
        cdef bint was_open = endpoint.breaker.open
        endpoint._suspect = False
        endpoint.breaker.success()
        if was_open:
            log.info("%s: endpoint %s takes part again", self.name, endpoint.address)
            self.changed()

    cdef void tripped(self, Endpoint endpoint, str why):
        """The endpoint is set aside; ``why`` is told to every caller, and holds nothing of any."""
        endpoint.aside = why
        log.warning("%s: endpoint %s is set aside: %s", self.name, endpoint.address, why)
        self.changed()

    cdef void probe(self, Endpoint endpoint):
        """``endpoint``, which is set aside, has room for one call, to see whether it does again."""

    cdef void survey(self):
        """Every 100 ms: notice endpoints that have fallen silent, let probes through."""
        cdef Endpoint endpoint
        cdef int64_t now = self.turn.wheel.clock_us()
        cdef double silence_us
        for endpoint in list(self._ready):
            if endpoint.breaker.open:
                if endpoint._suspect and now > endpoint._suspect_until_us:
                    endpoint._suspect = False
                    self.changed()
                if endpoint.session is not None and endpoint.session.credits > 0 \
                        and endpoint.breaker.allows(now):
                    endpoint.room = 1
                    self.probe(endpoint)
                continue
            if endpoint.inflight == 0:
                continue
            if self._pings:
                if endpoint.session.read_us > endpoint.replied_us:
                    endpoint.replied_us = endpoint.session.read_us
                if now - endpoint.replied_us > SILENCE_US // 2:
                    endpoint.session.control(F_PING, 0, 0, 0, b"")
                silence_us = SILENCE_US
            elif endpoint.replies == 0:
                continue
            else:
                silence_us = SILENCE_LATENCIES * endpoint.ewma_us
                if silence_us < SILENCE_US:
                    silence_us = SILENCE_US
            if now - endpoint.replied_us > silence_us:
                # Perhaps it is only asked for something slow. The next request is a probe, and
                # until that has had its time others wait rather than fail if there is no other
                # place.
                endpoint.breaker.trip(now)
                endpoint._suspect = True
                endpoint._suspect_until_us = now + SUSPECT_US
                self.tripped(endpoint, f"silent for {(now - endpoint.replied_us) // 1000} ms")
                if endpoint.session is not None and endpoint.session.credits > 0:
                    endpoint.room = 1

    def let_go(self):
        """No endpoint is wanted any longer."""
        self.closed = True
        for endpoint in list(self.endpoints.values()):
            (<Endpoint>endpoint).close()
        self.endpoints.clear()
        self.turn.wheel.cancel(self._watchdog)
        self.changed()

    def abort(self):
        """After ``close``: end what is in flight."""
        for endpoint in list(self._leaving):
            (<Endpoint>endpoint).abort()


cdef class Watchdog(Timed):
    """Surveys a service's endpoints."""

    cdef void on_due(self):
        cdef Endpoints service = self.service
        service.survey()
        if service.endpoints:
            service.turn.wheel.schedule(self, service.turn.wheel.clock_us() + WATCH_US)
