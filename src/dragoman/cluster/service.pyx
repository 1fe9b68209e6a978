"""All endpoints of one service on one loop: who gets the next request, who waits, who is turned
away.

A ``Service`` keeps a session to each endpoint, asks its policy for an endpoint with credit, lets
requests wait in a bounded queue when there is none, retries elsewhere what certainly never ran, and
sets aside endpoints that fail or fall silent. The consumer agent, the SDK and plain RPC users call
``submit`` with their own kind of ``ServiceCall``. It knows neither HTTP nor Dubbo.

Invariants: a submitted call ends exactly once, in ``on_result`` or ``on_failure``; nothing is sent
without a credit; a request waits only while some endpoint may still take it.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.balance.policies cimport Candidate, Policy
from dragoman.flow.breaker cimport Breaker, RetryBudget
from dragoman.flow.waiting cimport WaitingQueue
from dragoman.rpc.client_session cimport Call, ClientSession, SessionOwner
from dragoman.rpc.turn cimport turn_of
from dragoman.timers cimport Timed

import logging
import random

from dragoman.balance.policies import policy as make_policy
from dragoman.errors import Code, UsageError
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.link import Link

log = logging.getLogger("dragoman.cluster")

cdef int64_t WATCH_US = 100_000
# An endpoint with requests in flight that has answered nothing for this long, and for eight times
# its usual latency, has fallen silent.
cdef int64_t SILENCE_US = 500_000
cdef double SILENCE_LATENCIES = 8.0
cdef int64_t SUSPECT_US = 500_000
# An agent whose provider is away is asked again this soon at first: its refusal costs it nothing.
cdef int64_t UNAVAILABLE_PAUSE_US = 50_000
# A deadline counts against an endpoint that had this long, and twice its usual latency: callers in
# too much of a hurry must not have it set aside for the others.
cdef int64_t FAIR_US = 100_000
cdef double FAIR_LATENCIES = 2.0
cdef int ATTEMPTS_MAX = 4
# Requests within so short a time of each other count as coming together.
cdef int64_t TOGETHER_US = 500

cdef int C_MALFORMED = Code.MALFORMED
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_TOO_LARGE = Code.TOO_LARGE

STATES = ("connecting", "ready", "down", "draining", "removed")


cdef class Endpoint(Candidate):
    """One server of a service and the session to it."""

    def __init__(self, Service service, registration):
        Candidate.__init__(self, registration.weight)
        self.service = service
        self.registration = registration
        self.address = f"{registration.host}:{registration.port}"
        self.breaker = Breaker()
        self.state = CONNECTING
        self._owner = EndpointOwner()
        self._owner.endpoint = self
        seed = service._options.seed
        self.link = Link(
            service.loop, Address(registration.host, registration.port), self._new_session,
            self._on_down,
            None if seed is None else Backoff(source=random.Random(f"{seed} {self.address}")),
        )

    def _new_session(self):
        return ClientSession(
            self.service.loop, self._owner, name=b"dragoman",
            body_bytes_max=self.service._options.body_bytes_max,
        )

    def _on_down(self, str reason):
        """The link could not connect."""
        if self.state == REMOVED:
            return
        if self.reason != reason:
            log.warning("%s: endpoint %s is down: %s", self.service.name, self.address, reason)
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
        self.service.loop.create_task(self.link.stop())
        if session is not None:
            # As though the server had said goodbye: the session closes itself when nothing is in
            # flight.
            session.goodbye_received = True
            if session.inflight == 0:
                session.close()

    def status(self):
        """A plain dict for the status page."""
        return {
            "address": self.address, "state": STATES[self.state], "reason": self.reason,
            "weight": self.weight, "inflight": self.inflight,
            "credits": self.session.credits if self.session is not None else 0,
            "requests": self.requests, "replies": self.replies, "failures": self.failures,
            "breaker_open": self.breaker.open, "breaker_trips": self.breaker.trips,
            "latency_ms": round(self.ewma_us / 1000.0, 3),
        }


cdef class EndpointOwner(SessionOwner):
    """Carries a session's events to its endpoint and service."""

    cdef void on_ready(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.state == REMOVED:
            session.close()
            return
        endpoint.link.held()
        endpoint.session = session
        endpoint.state = READY
        endpoint.reason = None
        endpoint.inflight = 0
        endpoint.replied_us = endpoint.service.turn.wheel.clock_us()
        endpoint.breaker.success()
        log.info("%s: endpoint %s is ready", endpoint.service.name, endpoint.address)
        endpoint.service.changed()

    cdef void on_credit(self, ClientSession session):
        cdef Endpoint endpoint = self.endpoint
        if endpoint.session is session:
            endpoint.refresh()
            if endpoint.service.waiting.live:
                endpoint.service._drain_waiting()

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
            if endpoint.state != REMOVED:
                if endpoint.state != DRAINING:
                    log.warning("%s: %s", endpoint.service.name, session.failure)
                endpoint.state = DOWN
                endpoint.reason = str(session.failure)
            endpoint.service.changed()
        elif endpoint.state == CONNECTING:
            endpoint.state = DOWN
            endpoint.reason = str(session.failure)
            endpoint.service.changed()
        endpoint.link.lost()


cdef class ServiceCall(Call):
    """A request to a service. The submitter sets ``method``, ``body``, ``body_length``,
    ``body_owner`` (which must keep ``body`` alive), ``started_us`` and ``due_us``, then calls
    ``Service.submit``.
    """

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        """The reply, valid during this call."""

    cdef void on_failure(self, int code, str message):
        """It failed for good."""

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Endpoint endpoint = self.endpoint
        cdef Service service = self.service
        cdef int64_t now = endpoint.session.read_us
        self.ended_us = now
        endpoint.inflight -= 1
        endpoint.replies += 1
        endpoint.replied_us = now
        endpoint.ewma_us += (<double>(now - self.sent_us) - endpoint.ewma_us) * 0.0625
        # What was sent before the endpoint said that it serves nobody does not show that it does
        # again.
        if (endpoint.breaker.failures or endpoint.breaker.open) \
                and self.sent_us > endpoint.unavailable_us:
            service._recovered(endpoint)
        # The submitter may send its next request from within on_result.
        endpoint.refresh()
        self.endpoint = None
        service.turn.wheel.cancel(self)
        self.on_result(body, n, owner)

    cdef void on_error(self, int code, bint retry_safe, str message):
        cdef Endpoint endpoint = self.endpoint
        self.endpoint = None
        if endpoint.inflight > 0:
            endpoint.inflight -= 1
        self.service._failed(self, endpoint, code, retry_safe, message)

    cdef void on_due(self):
        """The deadline has passed."""
        cdef Endpoint endpoint = self.endpoint
        cdef Service service = self.service
        service.expired += 1
        if self.queue is not None:
            self.queue.withdraw(self)
            self.on_failure(C_DEADLINE, "deadline passed while waiting for a free provider")
            return
        if self.session is not None:
            self.session.abandon(self)
        if endpoint is not None:
            self.endpoint = None
            # The request still occupies the provider; its credit comes back with the server's
            # answer.
            endpoint.inflight -= 1
            service._missed(self, endpoint, service.turn.wheel.clock_us(), "deadlines passed")
        self.on_failure(C_DEADLINE, "deadline passed")

    cdef void withdraw(self):
        """The submitter no longer wants the result; neither ``on_result`` nor ``on_failure``
        follows.
        """
        self.service.turn.wheel.cancel(self)
        if self.queue is not None:
            self.queue.withdraw(self)
        if self.session is not None:
            self.session.abandon(self)
        if self.endpoint is not None:
            self.endpoint.inflight -= 1
            self.endpoint = None


class Options:
    """What a service is configured with. ``seed`` makes the random choices of policy and backoff
    repeatable.
    """

    def __init__(self, policy="demand", queue_max=1024, body_bytes_max=16777216, seed=None):
        self.policy = policy
        self.queue_max = queue_max
        self.body_bytes_max = body_bytes_max
        self.seed = seed


cdef class Service:
    """The endpoints of one service. ``key`` is its name on the wire, ``options`` an ``Options``."""

    def __init__(self, loop, bytes key not None, options):
        self.loop = loop
        self.turn = turn_of(loop)
        self.key = key
        self.name = key.decode()
        self._options = options
        self.policy = make_policy(options.policy, options.seed)
        self.waiting = WaitingQueue(options.queue_max)
        self.retries = RetryBudget()
        self.endpoints = {}
        self._ready = []
        self._watchdog = Watchdog()
        self._watchdog.service = self

    def update(self, registrations):
        """The registry's current list. New endpoints are connected to, those gone are let go."""
        cdef Endpoint endpoint
        wanted = {f"{r.host}:{r.port}": r for r in registrations}
        self.known = True
        for address in [a for a in self.endpoints if a not in wanted]:
            endpoint = self.endpoints.pop(address)
            endpoint.close()
        for address, registration in wanted.items():
            endpoint = self.endpoints.get(address)
            if endpoint is None:
                endpoint = Endpoint(self, registration)
                self.endpoints[address] = endpoint
                endpoint.link.start()
            else:
                if endpoint.registration != registration:
                    endpoint.registration = registration
                    endpoint.weight = registration.weight if registration.weight > 0 else 1.0
                if endpoint.state == DOWN:
                    endpoint.link.hurry()
        self.changed()
        if self._watchdog._wheel is None:
            self.turn.wheel.schedule(self._watchdog, self.turn.wheel.clock_us() + WATCH_US)

    cdef void changed(self):
        """An endpoint's state has changed: rebuild what the request path looks at."""
        cdef Endpoint endpoint
        self._ready = []
        self._hopes = 0
        for endpoint in self.endpoints.values():
            if endpoint.state == READY:
                self._ready.append(endpoint)
                endpoint.refresh()
                if not endpoint.breaker.open or endpoint._suspect:
                    self._hopes += 1
            elif endpoint.state == CONNECTING:
                self._hopes += 1
        if self.waiting.live:
            self._drain_waiting()
            if self._hopes == 0:
                self._fail_waiting()

    cdef void submit(self, ServiceCall call):
        """Send ``call`` to an endpoint, let it wait, or turn it away."""
        self.requests += 1
        self.retries.deposit()
        call.service = self
        call.attempts = 0
        self.turn.wheel.schedule(call, call.due_us)
        if self.waiting.live == 0 and self._send(call, call.started_us):
            return
        self._wait(call)

    cdef Endpoint _pick(self, Endpoint avoided, int64_t now):
        """The endpoint for the next request, or None when none has room.

        A policy may choose for several requests that come together (its quantum, at most a
        sixteenth of what the endpoint takes): they share a write here and a read there, and so do
        their replies, which keeps the cost of a request the same for one endpoint and a hundred.
        """
        cdef Py_ssize_t i
        cdef Endpoint endpoint = self._favoured
        cdef int room
        if avoided is not None:
            # Not where it has just failed, unless there is no other place.
            room = avoided.room
            avoided.room = 0
            i = self.policy.pick(self._ready)
            avoided.room = room
            if i < 0:
                i = self.policy.pick(self._ready)
            return <Endpoint>PyList_GET_ITEM(self._ready, i) if i >= 0 else None
        if self._quantum > 0 and endpoint.room > 0 and endpoint.session is not None \
                and endpoint.state == READY \
                and (endpoint.session._marked or now - self._favoured_us <= TOGETHER_US):
            self._quantum -= 1
            return endpoint
        i = self.policy.pick(self._ready)
        if i < 0:
            return None
        endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
        self._favoured = endpoint
        self._favoured_us = now
        self._quantum = min(self.policy.quantum, (endpoint.room + endpoint.inflight) // 16) - 1
        return endpoint

    cdef bint _send(self, ServiceCall call, int64_t now):
        """Send to the endpoint that the policy picks; False when none has room."""
        cdef Endpoint endpoint = self._pick(call.failed_at, now)
        cdef ClientSession session
        cdef int64_t left_us
        cdef uint16_t method
        if endpoint is None:
            return False
        session = endpoint.session
        if call.body_length > <Py_ssize_t>session.peer_body_bytes_max:
            self.turn.wheel.cancel(call)
            call.on_failure(C_TOO_LARGE, "the request is larger than the provider's agent accepts")
            return True
        try:
            method = session.method_id(call.method)
        except UsageError as error:
            self.turn.wheel.cancel(call)
            call.on_failure(C_MALFORMED, str(error))
            return True
        left_us = call.due_us - now
        if endpoint.inflight == 0:
            endpoint.replied_us = now
        call.endpoint = endpoint
        call.sent_us = now
        call.attempts += 1
        endpoint.inflight += 1
        endpoint.requests += 1
        session.submit(
            call, method, call.body, call.body_length,
            <uint32_t>(left_us // 1000) if left_us >= 1000 else 1,
        )
        # After a probe an open breaker lets no more through.
        endpoint.refresh()
        return True

    cdef void _wait(self, ServiceCall call):
        """Let ``call`` wait for credit, or turn it away."""
        if self._hopes == 0 and self.known:
            self.turn.wheel.cancel(call)
            if self._ready:
                call.on_failure(C_UNAVAILABLE, "every provider of this service has been set aside")
            elif self.endpoints:
                call.on_failure(C_UNAVAILABLE, "no provider of this service can be reached")
            else:
                call.on_failure(C_UNAVAILABLE, "no provider of this service is registered")
            return
        if not self.waiting.admit():
            self.shed += 1
            self.turn.wheel.cancel(call)
            call.on_failure(C_OVERLOAD, "too many requests are waiting for a free provider")
            return
        self.waiting.push(call, call.due_us)
        self._tell_waiting()

    cdef void _tell_waiting(self):
        """Tell the endpoints how many requests wait for credit, so that they can share it out."""
        cdef Endpoint endpoint
        for endpoint in self._ready:
            if endpoint.session is not None:
                endpoint.session.tell_waiting(<int>self.waiting.live)

    cdef void _drain_waiting(self):
        cdef ServiceCall call
        cdef int64_t now = 0
        while self.waiting.live:
            if not self._any_room():
                return
            if now == 0:
                now = self.turn.wheel.clock_us()
            call = <ServiceCall>self.waiting.pop()
            if not self._send(call, now):
                self.waiting.push(call, call.due_us)
                return
        self._tell_waiting()

    cdef bint _any_room(self):
        cdef Py_ssize_t i
        for i in range(PyList_GET_SIZE(self._ready)):
            if (<Endpoint>PyList_GET_ITEM(self._ready, i)).room > 0:
                return True
        return False

    cdef void _fail_waiting(self):
        cdef ServiceCall call
        while self.waiting.live and self._hopes == 0:
            call = <ServiceCall>self.waiting.pop()
            self.turn.wheel.cancel(call)
            call.on_failure(C_UNAVAILABLE, "no provider of this service can be reached")

    cdef void _failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    ):
        """An attempt failed at ``endpoint``: try elsewhere if that is safe, else end the call."""
        cdef bint was_open
        endpoint.replied_us = self.turn.wheel.clock_us()
        if code == C_DEADLINE:
            self._missed(call, endpoint, endpoint.replied_us, message)
        elif code == C_UNAVAILABLE:
            # Its own word for it that it serves nobody now: no need to try five times.
            endpoint.failures += 1
            endpoint.unavailable_us = endpoint.replied_us
            was_open = endpoint.breaker.open
            endpoint.breaker.trip_briefly(endpoint.replied_us, UNAVAILABLE_PAUSE_US)
            if not was_open:
                self._tripped(endpoint, message)
        elif code == C_UPSTREAM_LOST or code == C_UPSTREAM_PROTOCOL:
            endpoint.failures += 1
            if endpoint.breaker.failure(endpoint.replied_us):
                self._tripped(endpoint, message)
        if retry_safe and call.attempts < ATTEMPTS_MAX and code != C_DEADLINE \
                and endpoint.replied_us < call.due_us:
            # What never reached a provider is not a second try and costs no budget.
            if code == C_UPSTREAM_LOST or code == C_UNAVAILABLE or self.retries.withdraw():
                self.retried += 1
                call.failed_at = endpoint
                self.loop.call_soon(self._again, call)
                return
        self.turn.wheel.cancel(call)
        call.on_failure(code, message)

    cdef void _missed(self, ServiceCall call, Endpoint endpoint, int64_t now, str why):
        """A deadline passed at ``endpoint``, which is its failure only if it had a fair time."""
        cdef int64_t had_us = now - call.sent_us
        endpoint.failures += 1
        if had_us < FAIR_US or <double>had_us < FAIR_LATENCIES * endpoint.ewma_us:
            return
        if endpoint.breaker.failure(now):
            self._tripped(endpoint, why)

    def _again(self, ServiceCall call):
        """Submit a call once more, after the event that sent it back has been dealt with."""
        if call._wheel is None:
            # Withdrawn, or its deadline passed, in the meantime.
            return
        if self.waiting.live == 0 and self._send(call, self.turn.wheel.clock_us()):
            return
        self._wait(call)

    def _recovered(self, Endpoint endpoint):
        """A success: the endpoint takes part again."""
        cdef bint was_open = endpoint.breaker.open
        endpoint._suspect = False
        endpoint.breaker.success()
        if was_open:
            log.info("%s: endpoint %s takes part again", self.name, endpoint.address)
            self.changed()

    def _tripped(self, Endpoint endpoint, str why):
        """The endpoint is set aside."""
        log.warning("%s: endpoint %s is set aside: %s", self.name, endpoint.address, why)
        self.changed()

    cdef void _survey(self):
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
                    if self.waiting.live:
                        self._drain_waiting()
                continue
            if endpoint.inflight == 0 or endpoint.replies == 0:
                continue
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
                self._tripped(endpoint, f"silent for {(now - endpoint.replied_us) // 1000} ms")
                if endpoint.session is not None and endpoint.session.credits > 0:
                    endpoint.room = 1
        if self.waiting.live and self._hopes:
            self._drain_waiting()
        # Those who waited may have given up.
        self._tell_waiting()

    async def close(self):
        """Let all endpoints go; what waits fails."""
        for endpoint in list(self.endpoints.values()):
            (<Endpoint>endpoint).close()
        self.endpoints.clear()
        self.turn.wheel.cancel(self._watchdog)
        self.changed()

    def status(self):
        """A plain dict for the status page."""
        return {
            "service": self.name, "requests": self.requests, "waiting": self.waiting.live,
            "shed": self.shed, "retried": self.retried, "expired": self.expired,
            "endpoints": [endpoint.status() for endpoint in self.endpoints.values()],
        }


cdef class Watchdog(Timed):
    """Surveys a service's endpoints."""

    cdef void on_due(self):
        cdef Service service = self.service
        service._survey()
        if service.endpoints:
            service.turn.wheel.schedule(self, service.turn.wheel.clock_us() + WATCH_US)
