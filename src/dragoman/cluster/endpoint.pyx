"""One server of a service: the link to it, the session on it, and what is known of how it does.

``cluster.endpoints`` makes one for each server that is registered, and hears of every change.
The invariant: ``room`` is what the session takes now, and 0 while the endpoint is set aside.
"""

from dragoman.balance.affinity cimport hash_of
from dragoman.balance.policies cimport Candidate
from dragoman.flow.breaker cimport Breaker
from dragoman.rpc.client_session cimport ClientSession, SessionOwner

import logging
import random
from collections import OrderedDict

from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.link import Link

log = logging.getLogger("dragoman.cluster")

# Why an endpoint is away that has said that it would be.
GOODBYE = "it has said goodbye"
STATES = ("connecting", "ready", "down", "draining", "removed")


def protocol_of(registration):
    """What is spoken to a server; ``mesh`` unless it is said."""
    return getattr(registration, "protocol", "mesh")


def spoken(registration):
    """What of a registration makes a link another one."""
    return protocol_of(registration), *(
        getattr(registration, name, "") for name in ("serialization", "path", "token")
    )


cdef class EndpointKeeper:
    """Whose endpoints they are, as they see it."""

    cdef void changed(self):
        """An endpoint's state has changed."""

    cdef void credited(self):
        """An endpoint has room again."""


cdef class Endpoint(Candidate):
    """One server of a service and the session to it."""

    def __init__(self, EndpointKeeper service not None, registration):
        Candidate.__init__(self, registration.weight)
        self.service = service
        self.registration = registration
        self.address = registration.address
        self.identity = hash_of(self.address.encode())
        self.lanes = OrderedDict()
        self.breaker = Breaker()
        self.state = CONNECTING
        self._owner = EndpointOwner()
        self._owner.endpoint = self
        options = service._options
        seed = options.seed
        make = options.links.get(protocol_of(registration))
        if make is not None:
            self.link = self.special = make(registration, self._new_session, self._on_down)
            return
        self.link = Link(
            service.loop, Address.parse(self.address), self._new_session, self._on_down,
            None if seed is None else Backoff(source=random.Random(f"{seed} {self.address}")),
            tls=options.tls, server_hostname=options.server_hostname,
        )

    def _new_session(self):
        options = self.service._options
        return ClientSession(
            self.service.loop, self._owner, name=b"dragoman", identity=options.identity,
            body_bytes_max=options.body_bytes_max, heartbeat_s=options.heartbeat_ms / 1000,
        )

    def _on_down(self, str reason):
        """The link could not connect."""
        if self.state == REMOVED:
            return
        if self.reason != reason:
            # Who has said goodbye may go.
            log.log(
                logging.INFO if self.reason == GOODBYE else logging.WARNING,
                "%s: endpoint %s is down: %s", self.service.name, self.address, reason,
            )
        self.reason = reason
        self.state = DOWN
        self.service.changed()

    cdef void refresh(self):
        """Take over the session's figures for the policy."""
        self.room = 0
        if self.session is not None and not self.breaker.open:
            self.room = self.session.room()

    def close(self):
        """No longer registered: nothing new goes there, what is in flight ends in peace."""
        cdef ClientSession session = self.session
        self.state = REMOVED
        self.room = 0
        self.service.loop.create_task(self.link.stop())
        if session is not None:
            # As though the server had said goodbye: the session closes itself when nothing is in
            # flight.
            session.goodbye_received = True
            if session.inflight == 0:
                session.close()
            else:
                self.service._leaving.add(self)

    def abort(self):
        """End what is in flight, now."""
        if self.session is not None:
            self.session.close()

    def status(self):
        """A plain dict for the status page."""
        return {
            "address": self.address, "state": STATES[self.state], "reason": self.reason,
            "weight": self.weight, "inflight": self.inflight,
            "credits": self.session.credits if self.session is not None else 0,
            "requests": self.requests, "replies": self.replies, "failures": self.failures,
            "breaker_open": self.breaker.open, "breaker_trips": self.breaker.trips,
            "latency_ms": round(self.ewma_us / 1000.0, 3),
            **({} if self.special is None else self.special.status()),
        }


cdef class EndpointOwner(SessionOwner):
    """Carries a session's events to its endpoint and service."""

    cdef void on_ready(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.state == REMOVED:
            session.close()
            return
        endpoint.session = session
        endpoint._held = False
        endpoint.state = READY
        endpoint.reason = None
        endpoint.inflight = 0
        endpoint.replied_us = endpoint.service.turn.wheel.clock_us()
        if endpoint.special is None:
            # What answered HELLO is no longer what has failed. Where the session is with ourselves
            # only a reply shows that.
            endpoint.breaker.success()
        log.info("%s: endpoint %s is ready", endpoint.service.name, endpoint.address)
        endpoint.service.changed()

    cdef void on_credit(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.session is session:
            if not endpoint._held and endpoint.state == READY and not session.closed:
                # Only now is it sure that the server does not send us away.
                endpoint._held = True
                endpoint.link.held()
            endpoint.refresh()
            if endpoint.service.lined:
                endpoint.service.credited()

    cdef void on_goodbye(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.session is session and endpoint.state == READY:
            endpoint.state = DRAINING
            log.info("%s: endpoint %s says goodbye", endpoint.service.name, endpoint.address)
            endpoint.service.changed()

    cdef void on_lost(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.session is session:
            endpoint.session = None
            endpoint.room = 0
            endpoint.inflight = 0
            if endpoint.state == REMOVED:
                endpoint.service._leaving.discard(endpoint)
            else:
                if endpoint.state == DRAINING:
                    endpoint.reason = GOODBYE
                else:
                    log.warning("%s: %s", endpoint.service.name, session.failure)
                    endpoint.reason = str(session.failure)
                endpoint.state = DOWN
            endpoint.service.changed()
        elif endpoint.state == CONNECTING:
            endpoint.state = DOWN
            endpoint.reason = str(session.failure)
            endpoint.service.changed()
        endpoint.link.lost()
