"""The calls of one service on one loop: who gets the next request, who waits, who is turned away.

A ``Service`` asks its policy for an endpoint with credit, lets requests wait in a bounded queue
when there is none, and retries elsewhere what certainly never ran; its endpoints are kept by
``cluster.endpoints``. The consumer agent, ``cluster.pool`` and the SDK call ``submit`` with their
own kind of ``ServiceCall``. It knows neither HTTP nor Dubbo.

Calls with an order key go in lanes: all of a key to one endpoint while any of them is under way or
waits, else to the endpoint that the key belongs to among those that take part.

Invariants: a submitted call ends exactly once, in ``on_result`` or ``on_failure`` (one without
reply may just be sent); nothing is sent without a credit; unless its options say so, a request
waits only while some endpoint may still take it; ``lined`` calls wait, in ``waiting`` or in a lane.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.balance.affinity cimport home
from dragoman.balance.merit cimport did_badly, judge, took, worst_of
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints
from dragoman.cluster.lanes cimport Lane, Lanes
from dragoman.cluster.peer cimport Peer
from dragoman.flow.breaker cimport RetryBudget
from dragoman.flow.waiting cimport WaitingQueue
from dragoman.rpc.client_session cimport Call, ClientSession
from dragoman.wire.mesh cimport FEATURE_METADATA, FEATURE_NO_REPLY, FEATURE_ORDER

from dragoman.balance.policies import policy as make_policy
from dragoman.cluster.options import NO_BOUND
from itertools import islice

from dragoman.errors import OWN_CODES_FROM, Code, UsageError

# An agent whose provider is away is asked again this soon at first: its refusal costs it nothing.
cdef int64_t UNAVAILABLE_PAUSE_US = 50_000
# A deadline counts against an endpoint that had this long, and twice its usual latency: callers in
# too much of a hurry must not have it set aside for the others.
cdef int64_t FAIR_US = 100_000
cdef double FAIR_LATENCIES = 2.0
cdef int ATTEMPTS_MAX = 4
# Who rejects so many calls in a row, and does nothing else for so long (and twice its usual
# latency), is set aside.
cdef int REJECTED_MOST = 5
cdef int64_t REJECTED_US = 100_000
# How many calls go by until an endpoint that is shunned gets one.
cdef int TRICKLE = 256
# Requests within so short a time of each other count as coming together.
cdef int64_t TOGETHER_US = 500

# "Without end", in a request frame and in the waiting queue.
cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF
cdef int64_t NEVER_US = NO_BOUND

cdef int C_MALFORMED = Code.MALFORMED
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_TOO_LARGE = Code.TOO_LARGE
cdef int C_REMOTE = Code.REMOTE
cdef int C_NOT_FOUND = Code.NOT_FOUND
cdef int OWN_CODES = OWN_CODES_FROM


cdef class ServiceCall(Call):
    """A request to a service. The submitter sets ``method``, ``body``, ``body_length``,
    ``body_owner`` (which must keep ``body`` alive), ``started_us`` and ``due_us`` (0: no bound),
    then calls ``Service.submit``. It may set ``order_key``, ``no_reply`` and ``patient`` (it may
    wait whatever the bounds say) too; such calls, and those with large bodies, override ``put``.
    """

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        """The reply, valid during this call."""

    cdef void on_failure(self, int code, str message):
        """It failed for good; it certainly never ran if ``never_ran``."""

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        """Give the request to the session, which has room for it."""
        return session.submit(self, target, self.body, self.body_length, timeout_ms)

    cdef inline void _left(self, Endpoint endpoint):
        """It is under way at ``endpoint`` no longer."""
        cdef Service service = self.service
        endpoint.under_way -= 1
        endpoint.peer.inflight -= 1
        if endpoint.gone and endpoint.under_way == 0:
            service._leaving.discard(endpoint)
        service.calls -= 1
        service.bytes -= self.body_length
        if self.lane is not None:
            service._left_lane(self.lane)

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Endpoint endpoint = self.endpoint
        cdef Peer peer = endpoint.peer
        cdef Service service = self.service
        cdef int64_t now = peer.session.read_us
        self.ended_us = now
        self._left(endpoint)
        endpoint.replies += 1
        service.replies += 1
        peer.replied_us = now
        took(endpoint, <double>(now - self.sent_us), now)
        service._took(<double>(now - self.sent_us))
        if endpoint.breaker.open or peer.breaker.failures or peer.breaker.open or peer.missed \
                or endpoint.rejections:
            service._well(self, endpoint)
        # The submitter may send its next request from within on_result.
        endpoint.refresh()
        self.endpoint = None
        if self._wheel is not None:
            self._wheel.cancel(self)
        self.on_result(body, n, owner)

    cdef int64_t since(self):
        return self.sent_us

    cdef void on_error(self, int code, bint retry_safe, str message):
        cdef Endpoint endpoint = self.endpoint
        self.endpoint = None
        self._left(endpoint)
        self.service._failed(self, endpoint, code, retry_safe, message)

    cdef void on_due(self):
        """The deadline has passed."""
        cdef Endpoint endpoint = self.endpoint
        cdef Service service = self.service
        service.expired += 1
        service.failures += 1
        self.again = False
        if self.in_line:
            service._leave_line(self)
            if service.known:
                self.on_failure(
                    C_DEADLINE, "deadline passed while waiting for a free provider"
                )
            else:
                self.on_failure(C_UNAVAILABLE, service._unread())
            return
        if self.session is not None:
            self.session.abandon(self)
        if endpoint is not None:
            self.endpoint = None
            self.failed_at = endpoint
            # The request still occupies the provider; its credit comes back with the server's
            # answer.
            self.never_ran = False
            self._left(endpoint)
            endpoint.failures += 1
            service._missed(self, endpoint, service.tick.wheel.clock_us())
        self.on_failure(C_DEADLINE, "deadline passed")

    cdef void withdraw(self):
        """The submitter no longer wants the result; neither ``on_result`` nor ``on_failure``
        follows.
        """
        if self._wheel is not None:
            self._wheel.cancel(self)
        if self.service is not None and (self.again or self.in_line or self.endpoint is not None):
            self.service.withdrawn += 1
        self.again = False
        if self.in_line:
            self.service._leave_line(self)
        if self.session is not None:
            self.session.abandon(self)
        if self.endpoint is not None:
            self.endpoint.withdrawn += 1
            self._left(self.endpoint)
            self.endpoint = None

    cdef object sender(self):
        return self.endpoint


cdef class Service(Endpoints):
    """The endpoints of one service. ``key`` is its name on the wire, ``options`` an ``Options``."""

    def __init__(self, loop, bytes key not None, options):
        Endpoints.__init__(self, loop, key, options)
        self.policy = make_policy(options.policy, options.seed)
        self.waiting = WaitingQueue(options.queue_max)
        self.retries = RetryBudget()
        self._fail = options.on_full == "fail"
        self._wait_on = options.on_full == "wait"
        self._calls_max = options.calls_max
        self._bytes_max = options.bytes_max
        self._lanes = Lanes()

    cdef void changed(self):
        """An endpoint's state has changed: those that wait may go, or have nowhere to go."""
        Endpoints.changed(self)
        if self._lanes.by_key:
            self._place_lanes()
        if self.lined:
            self._drain_waiting(NEVER_US)
            if self._hopes == 0 and not self._wait_on:
                self._fail_waiting()

    cdef void fed(self, int64_t most):
        if self.lined:
            self._drain_waiting(most)

    cdef bint busy(self):
        return self.calls > 0 or self.lined > 0

    cdef void probe(self, Endpoint endpoint):
        """Let a call that waits find out whether ``endpoint``, which is set aside, does again."""
        if self._lanes.unplaced and not self._taking_part:
            # Calls in lanes are probes too.
            self._lanes.move(<Lane>next(iter(self._lanes.unplaced)), endpoint)
        if self.lined:
            self._drain_waiting(NEVER_US)

    cdef bint survey(self):
        cdef bint more = Endpoints.survey(self)
        if self.lined and self._hopes:
            self._drain_waiting(NEVER_US)
        # Those who waited may have given up.
        self._tell_waiting()
        return more

    cdef void submit(self, ServiceCall call):
        """Send ``call`` to an endpoint, let it wait, or turn it away."""
        self.requests += 1
        self.retries.deposit()
        call.service = self
        call.attempts = 0
        call.lacking = None
        call.never_ran = True
        if call.due_us:
            self.tick.wheel.schedule(call, call.due_us)
        if call.order_key is not None:
            self._submit_in_lane(call)
            return
        if self.waiting.live == 0 and self._send(call, call.started_us, True):
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
        cdef bint barred
        if self._charged:
            self._expire(now)
        if avoided is not None:
            # Not where it has just failed, unless there is no other place.
            barred = avoided.barred
            avoided.barred = True
            i = self._choose()
            avoided.barred = barred
            if i < 0:
                i = self._choose()
            return <Endpoint>PyList_GET_ITEM(self._ready, i) if i >= 0 else None
        if self._quantum > 0 and endpoint.offer() > 0 \
                and (endpoint.peer.session._marked or now - self._favoured_us <= TOGETHER_US):
            self._quantum -= 1
            return endpoint
        i = self._choose()
        if i < 0:
            return None
        endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
        if endpoint.shunned:
            self._quantum = 0
            return endpoint
        self._favoured = endpoint
        self._favoured_us = now
        self._quantum = min(
            self.policy.quantum, (endpoint.peer.room + endpoint.peer.inflight) // 16
        ) - 1
        return endpoint

    cdef Py_ssize_t _choose(self):
        """The policy's choice; one that is shunned gets what nobody else has room for, and one call
        in ``TRICKLE`` while it has none.
        """
        cdef Py_ssize_t i
        cdef Endpoint endpoint
        cdef list shunned
        if self._shunning:
            self._since_trickle += 1
            if self._since_trickle >= TRICKLE:
                for i in range(PyList_GET_SIZE(self._ready)):
                    endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
                    if endpoint.shunned and endpoint.under_way == 0 and endpoint.free() > 0:
                        self._since_trickle = 0
                        return i
        i = self.policy.pick(self._ready)
        if i < 0 and self._shunning:
            shunned = [endpoint for endpoint in self._ready if endpoint.shunned]
            for endpoint in shunned:
                endpoint.shunned = False
            i = self.policy.pick(self._ready)
            for endpoint in shunned:
                endpoint.shunned = True
        return i

    cdef void _expire(self, int64_t now):
        """Charges whose time has come count no longer."""
        cdef Endpoint endpoint
        cdef Py_ssize_t i
        self._charged = False
        for i in range(PyList_GET_SIZE(self._ready)):
            endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
            if endpoint.charged:
                endpoint.charged = endpoint.charges.expire(now)
                if endpoint.charged:
                    self._charged = True

    cdef bint _send(self, ServiceCall call, int64_t now, bint newcomer):
        """Send to the endpoint that the policy picks; False when none has room, or it has been
        waited for there by others, whom a newcomer does not pass.
        """
        cdef Endpoint endpoint
        if self._bounded(call):
            return False
        endpoint = self._pick(call.failed_at, now)
        if endpoint is None:
            return False
        if newcomer and endpoint.peer._line and endpoint.peer.contested(endpoint):
            self._yielded = True
            return False
        self._send_to(call, endpoint, now)
        return True

    cdef inline bint _bounded(self, ServiceCall call):
        """Whether the service's own bounds keep ``call`` back."""
        return self.calls >= self._calls_max \
            or (self.bytes + call.body_length > self._bytes_max and self.calls > 0)

    cdef void _send_to(self, ServiceCall call, Endpoint endpoint, int64_t now):
        """Send to ``endpoint``, which has room."""
        cdef Peer peer = endpoint.peer
        cdef ClientSession session = peer.session
        cdef int64_t left_us
        cdef uint32_t timeout_ms = TIMEOUT_MS_NONE
        cdef uint16_t method
        if call.body_length > <Py_ssize_t>session.peer_body_bytes_max:
            self._end(
                call, C_TOO_LARGE,
                f"the request is larger than {endpoint.address} accepts",
            )
            return
        if not session.has_room(call.body_length):
            self._end(
                call, C_OVERLOAD, f"no memory is left for a body of {call.body_length} bytes"
            )
            return
        try:
            method = session.method_id(call.method)
        except UsageError as error:
            self._end(call, C_MALFORMED, str(error))
            return
        if call.order_key is not None and not session.peer_features & FEATURE_ORDER:
            self._end(call, C_MALFORMED, f"{endpoint.address} does not offer ordered calls")
            return
        if call.metadata is not None and not session.peer_features & FEATURE_METADATA:
            self._end(call, C_MALFORMED, f"{endpoint.address} does not take metadata")
            return
        if call.due_us:
            left_us = call.due_us - now
            timeout_ms = <uint32_t>(left_us // 1000) if left_us >= 1000 else 1
        call.attempts += 1
        endpoint.requests += 1
        if call.no_reply:
            self._send_and_forget(call, endpoint, method, timeout_ms)
            return
        if peer.asked_us <= peer.replied_us:
            peer.asked_us = now
        if endpoint.under_way == 0 and self._watchdog._wheel is None:
            self.watch()
        call.endpoint = endpoint
        call.sent_us = now
        endpoint.under_way += 1
        peer.inflight += 1
        self.calls += 1
        self.bytes += call.body_length
        if call.lane is not None:
            call.lane.place = endpoint
            call.lane.under_way += 1
        call.put(session, method, timeout_ms)
        # After a probe an open breaker lets no more through.
        peer.window = False
        endpoint.refresh()

    cdef void _send_and_forget(
        self, ServiceCall call, Endpoint endpoint, uint16_t method, uint32_t timeout_ms
    ):
        """Send a request that has no reply: it has ended."""
        if not endpoint.peer.session.peer_features & FEATURE_NO_REPLY:
            self._end(
                call, C_MALFORMED, f"{endpoint.address} does not offer calls without reply"
            )
            return
        if call._wheel is not None:
            call._wheel.cancel(call)
        endpoint.one_way += 1
        self.one_way += 1
        call.put(endpoint.peer.session, method, timeout_ms)
        endpoint.refresh()
        if call.lane is not None:
            self._lanes.tidy(call.lane)
            call.lane = None

    cdef void _end(self, ServiceCall call, int code, str message):
        """``call``, which is neither under way nor in line, fails for good."""
        cdef Lane lane = call.lane
        if call._wheel is not None:
            call._wheel.cancel(call)
        if lane is not None:
            call.lane = None
            self._lanes.tidy(lane)
        self.failures += 1
        call.on_failure(code, message)

    cdef void _wait(self, ServiceCall call):
        """Let ``call`` wait for credit, or turn it away."""
        if self._turned_away(call):
            return
        self._enter_line(call)
        self.waiting.push(call, call.due_us if call.due_us else NEVER_US)
        self._tell_waiting()
        if self._yielded:
            self._take_turns()

    cdef void _take_turns(self):
        """A call waits although there is room, since others' turn came first: have them served."""
        cdef Endpoint endpoint
        cdef Py_ssize_t i
        self._yielded = False
        for i in range(PyList_GET_SIZE(self._ready)):
            endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
            if endpoint.free() > 0:
                endpoint.peer.feed()
                return

    cdef bint _turned_away(self, ServiceCall call):
        """End ``call`` if it may not wait."""
        if self.closed:
            self._end(call, C_UNAVAILABLE, f"{self.name} is closed here")
            return True
        if self._wait_on:
            if not call.patient and (
                self.lined >= self._options.queue_max
                or self.waiting_bytes + call.body_length > self._options.waiting_bytes_max
            ):
                self.shed += 1
                self._end(
                    call, C_OVERLOAD,
                    f"{self.lined} calls with {self.waiting_bytes} bytes wait already",
                )
                return True
            return False
        if self._hopes == 0 and (self.known or self._fail):
            if self._ready:
                self._end(
                    call, C_OVERLOAD if self._all_full() else C_UNAVAILABLE, self._why_aside()
                )
            elif self.endpoints:
                self._end(call, C_UNAVAILABLE, self._why_away())
            elif self.unusable:
                address, why = next(iter(self.unusable.items()))
                self._end(
                    call, C_UNAVAILABLE,
                    f"no provider of this service can be used: {address}: {why}",
                )
            elif self.known:
                self._end(call, C_UNAVAILABLE, "no provider of this service is registered")
            else:
                self._end(call, C_UNAVAILABLE, self._unread())
            return True
        if call.patient:
            return False
        if self._fail:
            self._refuse(call)
            return True
        if not self.waiting.admit():
            self.shed += 1
            self._end(call, C_OVERLOAD, "too many requests are waiting for a free provider")
            return True
        return False

    cdef str _unread(self):
        """Why it is not known who serves."""
        return self.why_unread() if self.why_unread else "the registry has not been read yet"

    cdef bint _all_full(self):
        """Whether it is by their own word that they are full that no endpoint takes part."""
        cdef Endpoint endpoint
        for endpoint in self._ready:
            if endpoint.peer.breaker.open or not endpoint.full:
                return False
        return True

    cdef str _why_aside(self):
        """Why none of the endpoints that are there takes part: what was said of one of them."""
        cdef Endpoint endpoint
        cdef str why
        for endpoint in self._ready:
            why = endpoint.why_aside()
            if why is not None:
                return (
                    "every provider of this service has been set aside: "
                    f"{endpoint.address}: {why}"
                )
        return "every provider of this service has been set aside"

    cdef str _why_away(self):
        """Why none of the endpoints can be reached: what was said of one of them."""
        cdef Endpoint endpoint
        for endpoint in self.endpoints.values():
            if endpoint.reason is not None:
                return (
                    "no provider of this service can be reached: "
                    f"{endpoint.address}: {endpoint.reason}"
                )
        return "no provider of this service can be reached"

    cdef void _refuse(self, ServiceCall call):
        """``call`` finds no room and is not to wait for it."""
        cdef Endpoint endpoint
        self.shed += 1
        if self._bounded(call):
            self._end(
                call, C_OVERLOAD, f"{self.calls} calls with {self.bytes} bytes are under way"
            )
            return
        if not self._ready:
            self._end(call, C_UNAVAILABLE, "no provider of this service is connected yet")
            return
        for endpoint in self._ready:
            if endpoint.peer.session is not None and endpoint.peer.session.credits <= 0:
                # So that the server knows, and the next one fares better.
                endpoint.tell(max(1, endpoint._told))
        self._end(call, C_OVERLOAD, "no provider of this service has room")

    cdef void _enter_line(self, ServiceCall call):
        """Count ``call`` among those that wait."""
        cdef Endpoint endpoint
        call.in_line = True
        if self.lined == 0:
            for endpoint in self._ready:
                endpoint.stand_in_line()
            if self.endpoints:
                self.watch()
                if not self._ready:
                    self.need()
        self.lined += 1
        self.waiting_bytes += call.body_length

    cdef void _leave_line(self, ServiceCall call):
        """``call`` waits no longer, in the queue or in its lane."""
        cdef Lane lane = call.lane
        call.in_line = False
        self.lined -= 1
        self.waiting_bytes -= call.body_length
        if call.queue is not None:
            call.queue.withdraw(call)
        elif lane is not None:
            call.lane = None
            lane.remove(call.sequence)
            if lane.waiting == 0:
                self._lanes.unqueue(lane)
                self._lanes.tidy(lane)

    # Lanes

    cdef void _submit_in_lane(self, ServiceCall call):
        """``submit`` for a call with an order key."""
        cdef Lane lane = self._lanes.of(call.order_key)
        cdef Endpoint endpoint
        self._sequence += 1
        call.sequence = self._sequence
        call.lane = lane
        if lane.waiting == 0:
            if lane.under_way == 0:
                lane.place = self._home(lane)
            endpoint = lane.place
            if endpoint is not None and endpoint.free() > 0 and not self._bounded(call):
                if not endpoint.peer._line or not endpoint.peer.contested(endpoint):
                    self._send_to(call, endpoint, call.started_us)
                    return
                self._yielded = True
        if self._turned_away(call):
            return
        self._enter_line(call)
        lane.push(call, call.sequence)
        self._lanes.queue(lane)
        self._tell_waiting()
        if self._yielded:
            self._take_turns()

    cdef Endpoint _home(self, Lane lane):
        """The endpoint that a lane's key belongs to, among those that take part; None if none
        does.
        """
        cdef Py_ssize_t i = home(self._taking_part, lane.key)
        return <Endpoint>PyList_GET_ITEM(self._taking_part, i) if i >= 0 else None

    cdef void _left_lane(self, Lane lane):
        """A call of ``lane`` is under way no longer."""
        cdef Endpoint endpoint = lane.place
        lane.under_way -= 1
        if lane.under_way:
            return
        if lane.waiting == 0:
            self._lanes.tidy(lane)
        elif not endpoint.ready() or endpoint.set_aside():
            # It stayed only for what was under way there.
            endpoint = self._home(lane)
            self._lanes.move(lane, endpoint)
            if endpoint is not None:
                self._drain_lanes(endpoint, self.tick.wheel.clock_us(), NEVER_US)

    cdef void _place_lanes(self):
        """The endpoints have changed: lanes with nothing under way go where they belong now."""
        cdef Lane lane
        for lane in list(self._lanes.by_key.values()):
            if lane.waiting and lane.under_way == 0:
                self._lanes.move(lane, self._home(lane))

    cdef int64_t _drain_lanes(self, Endpoint endpoint, int64_t now, int64_t most):
        """Send up to ``most`` of the calls that wait in lanes for ``endpoint``, lane by lane; how
        many were sent.
        """
        cdef int64_t sent = 0
        cdef Lane lane
        cdef ServiceCall call
        while most > 0 and endpoint.lanes and endpoint.free() > 0:
            lane = <Lane>next(iter(endpoint.lanes))
            call = <ServiceCall>lane.first()
            if self._bounded(call):
                break
            del endpoint.lanes[lane]
            lane.remove(call.sequence)
            if lane.waiting:
                endpoint.lanes[lane] = None
            call.in_line = False
            self.lined -= 1
            self.waiting_bytes -= call.body_length
            self._send_to(call, endpoint, now)
            most -= 1
            sent += 1
        return sent

    cdef void _rejoin(self, ServiceCall call):
        """A call of a lane comes back unsent: it takes its old place in line, if there is anybody
        left to wait for.
        """
        cdef Lane lane = self._lanes.by_key.get(call.order_key)
        if self._hopes == 0 and not self._wait_on and self._turned_away(call):
            return
        if lane is None:
            lane = call.lane if call.lane is not None else Lane(call.order_key)
            self._lanes.by_key[lane.key] = lane
        call.lane = lane
        self._enter_line(call)
        lane.push(call, call.sequence)
        self._lanes.queue(lane)

    cdef void _tell_waiting(self):
        """Tell the endpoints how many requests wait for credit, so that they can share it out."""
        cdef Endpoint endpoint
        cdef int64_t wanted
        for endpoint in self._ready:
            wanted = self.waiting.live + self.more
            if endpoint.lanes:
                wanted = self.lined + self.more
            endpoint.tell(min(wanted, <int64_t>self._calls_max - self.calls))

    cdef void _drain_waiting(self, int64_t most):
        """Send up to ``most`` of those that wait, as far as there is room: half of it is for lanes,
        if others wait too.
        """
        cdef ServiceCall call
        cdef Endpoint endpoint
        cdef int64_t now = 0
        cdef bint lanes = self.lined > self.waiting.live
        if lanes:
            now = self.tick.wheel.clock_us()
            for endpoint in list(self._ready):
                if endpoint.lanes:
                    # An odd one goes to either in turn.
                    most -= self._drain_lanes(
                        endpoint, now,
                        min(most, (endpoint.free() + endpoint._odd) // 2)
                        if self.waiting.live else most,
                    )
                    endpoint._odd = not endpoint._odd
        while self.waiting.live and most > 0:
            if not self._any_room():
                break
            if self._bounded(<ServiceCall>self.waiting.head()):
                break
            if now == 0:
                now = self.tick.wheel.clock_us()
            call = <ServiceCall>self.waiting.pop()
            self._leave_line(call)
            if not self._send(call, now, False):
                self._enter_line(call)
                self.waiting.push(call, call.due_us if call.due_us else NEVER_US)
                break
            most -= 1
        if lanes:
            for endpoint in list(self._ready):
                most -= self._drain_lanes(endpoint, now, most)
        self._tell_waiting()

    cdef bint _any_room(self):
        cdef Py_ssize_t i
        for i in range(PyList_GET_SIZE(self._ready)):
            if (<Endpoint>PyList_GET_ITEM(self._ready, i)).free() > 0:
                return True
        return False

    cdef void _fail_waiting(self):
        cdef ServiceCall call
        cdef Lane lane
        cdef str why = f"{self.name} is closed here" if self.closed \
            else self._why_aside() if self._ready else self._why_away()
        while self.waiting.live and self._hopes == 0:
            call = <ServiceCall>self.waiting.pop()
            self._leave_line(call)
            self._end(call, C_UNAVAILABLE, why)
        for lane in list(self._lanes.by_key.values()):
            while lane.waiting and self._hopes == 0:
                call = <ServiceCall>lane.first()
                self._leave_line(call)
                self._end(call, C_UNAVAILABLE, why)

    cdef void _failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    ):
        """An attempt failed at ``endpoint``: try elsewhere if that is safe, else end the call."""
        cdef Peer peer = endpoint.peer
        cdef int64_t now = self.tick.wheel.clock_us()
        cdef double worst_us
        endpoint.failures += 1
        if self._is_sign_of_life(call, code):
            peer.replied_us = now
            self._well(call, endpoint)
            # However soon it was thrown: it attracts no more than others do who do the work.
            self._charge(endpoint, call.sent_us + <int64_t>self._usual_us, now)
        elif code == C_DEADLINE:
            self._missed(call, endpoint, now)
        elif code == C_OVERLOAD or code == C_UNAVAILABLE or code == C_UPSTREAM_LOST \
                or code == C_UPSTREAM_PROTOCOL:
            worst_us = worst_of(self._ready, self._usual_us)
            self._charge(endpoint, call.sent_us + <int64_t>worst_us, now)
            did_badly(endpoint, worst_us, code == C_OVERLOAD)
            if code == C_OVERLOAD:
                self._rejected(endpoint, now, message)
            elif code == C_UNAVAILABLE:
                # Its own word for it that it serves nobody now: no need to try five times.
                endpoint.unavailable_us = now
                endpoint.full = False
                self._refused(endpoint, now, message)
            elif not endpoint.gone:
                peer.failed(now, message)
        if call.order_key is not None:
            # Only what never left may be sent anew: others of its sequence may have run since.
            if retry_safe and code == C_UPSTREAM_LOST and call.attempts < ATTEMPTS_MAX \
                    and not self.closed:
                self.retried += 1
                self._rejoin(call)
                return
        elif retry_safe and code != C_DEADLINE \
                and (call.due_us == 0 or now < call.due_us):
            if code == C_NOT_FOUND:
                # Each is asked once: those that run an older program may lack what others have.
                if call.lacking is None:
                    call.lacking = []
                call.lacking.append(endpoint)
            if _may_try_again(self, call, endpoint, code):
                self.retried += 1
                call.failed_at = endpoint
                call.again = True
                self.loop.call_soon(self._again, call)
                return
        call.failed_at = endpoint
        call.never_ran = retry_safe
        self._end(call, code, message)

    cdef void _missed(self, ServiceCall call, Endpoint endpoint, int64_t now):
        """A deadline passed at ``endpoint``, which may be its failure if it had a fair time."""
        cdef int64_t had_us = now - call.sent_us
        if had_us >= FAIR_US and <double>had_us >= FAIR_LATENCIES * endpoint.ewma_us:
            endpoint.peer.missed_one(call.sent_us, now)

    cdef void _well(self, ServiceCall call, Endpoint endpoint):
        """``endpoint`` has answered: it is well.

        What was sent before it said that it serves nobody does not show that it does again.
        """
        if endpoint.set_aside():
            # How it did before it was set aside is past.
            endpoint.samples = 0
        if endpoint.rejections:
            endpoint.rejections = 0
            self._shunning = judge(self._ready)
        self.recovered(endpoint, call.sent_us > endpoint.unavailable_us)

    cdef void _rejected(self, Endpoint endpoint, int64_t now, str why):
        """``endpoint`` had no place for a call. One that serves others meanwhile is merely full;
        one that does nothing but reject for a while is set aside.
        """
        if endpoint.rejections == 1:
            endpoint.rejecting_us = now
        self._shunning = judge(self._ready)
        if endpoint.breaker.open or (
            endpoint.rejections >= REJECTED_MOST
            and now - max(endpoint.rejecting_us, endpoint.peer.replied_us)
            > max(REJECTED_US, <int64_t>(2 * endpoint.ewma_us))
        ):
            endpoint.full = True
            self._refused(endpoint, now, why)

    cdef void _refused(self, Endpoint endpoint, int64_t now, str why):
        """By its own word ``endpoint`` is not to be asked for a moment."""
        cdef bint was_open = endpoint.breaker.open
        endpoint.aside = why
        endpoint.breaker.trip_briefly(now, UNAVAILABLE_PAUSE_US)
        if not was_open:
            self.tripped(endpoint, why)

    cdef void _charge(self, Endpoint endpoint, int64_t until_us, int64_t now):
        """A call that has ended counts for the balance until then."""
        if until_us > now:
            endpoint.charge(until_us)
            self._charged = True

    cdef void _took(self, double us) noexcept:
        """A call has been served in that time: what is usual follows."""
        if self._usual_us == 0.0:
            self._usual_us = us
        elif us > 4.0 * self._usual_us + 1000.0:
            us = 4.0 * self._usual_us + 1000.0
        self._usual_us += (us - self._usual_us) * 0.03125

    cdef bint _is_sign_of_life(self, ServiceCall call, int code) noexcept:
        """Whether an error is a reply of the callee, which lives: it concerns that call alone.

        What stands on the way to it (an agent, say) may answer too, and that says nothing. That
        the callee is full or leaving is its own word against itself.
        """
        if code == C_OVERLOAD or code == C_UNAVAILABLE:
            return False
        if call.answered or code == C_REMOTE or code == C_NOT_FOUND or code >= OWN_CODES:
            return True
        # Where nobody stands on the way, all but the end of the session is the callee's answer.
        return self._pings and code != C_UPSTREAM_LOST and code != C_UPSTREAM_PROTOCOL \
            and code != C_DEADLINE

    def _again(self, ServiceCall call):
        """Submit a call once more, after the event that sent it back has been dealt with."""
        if not call.again:
            # Withdrawn, or its deadline passed, in the meantime.
            return
        call.again = False
        if self.waiting.live == 0 and self._send_elsewhere(call):
            return
        self._wait(call)

    cdef bint _send_elsewhere(self, ServiceCall call):
        """``_send``, but to nobody who has said that he lacks what is called."""
        cdef Endpoint endpoint
        cdef list barred
        cdef bint sent
        if call.lacking is None:
            return self._send(call, self.tick.wheel.clock_us(), True)
        barred = [endpoint for endpoint in call.lacking if not endpoint.barred]
        for endpoint in barred:
            endpoint.barred = True
        sent = self._send(call, self.tick.wheel.clock_us(), True)
        for endpoint in barred:
            endpoint.barred = False
            endpoint.refresh()
        return sent

    async def close(self):
        """Let all endpoints go; what waits fails, what is in flight may end."""
        self.let_go()
        self._fail_waiting()

    cdef void sweep(self):
        """Withdraw the calls that nobody waits for any more (``Call.unwanted``)."""
        cdef Endpoint endpoint
        cdef ServiceCall call
        cdef Lane lane
        cdef Py_ssize_t i
        for endpoint in list(self.endpoints.values()) + list(self._leaving):
            if endpoint.peer.session is not None:
                endpoint.peer.session.sweep()
                endpoint.refresh()
        if self.lined:
            lined = [self.waiting.at(i) for i in range(self.waiting.live)]
            for lane in self._lanes.by_key.values():
                lined.extend(lane.calls())
            for call in lined:
                call.unwanted()
            if self.lined:
                self._drain_waiting(NEVER_US)

    def status(self, idle_max=None):
        """A plain dict for the status page: all endpoints, or of those without calls at most
        ``idle_max``, first those that take part.

        ``requests`` is the sum of ``replies``, ``failures``, ``withdrawn``, ``one_way``,
        ``inflight`` and ``waiting``; those of the endpoints count attempts.
        """
        return {
            "service": self.name, "requests": self.requests, "replies": self.replies,
            "failures": self.failures, "withdrawn": self.withdrawn, "one_way": self.one_way,
            "inflight": self.calls, "waiting": self.lined,
            "shed": self.shed, "retried": self.retried, "expired": self.expired,
            "endpoints_known": len(self.endpoints),
            "endpoints": [endpoint.status() for endpoint in self._shown(idle_max)],
            "unusable": [
                {"address": address, "reason": why}
                for address, why in islice(self.unusable.items(), idle_max)
            ],
        }

    cdef list _shown(self, idle_max):
        """The endpoints for the status page."""
        cdef Endpoint endpoint
        cdef list shown, idle
        if idle_max is None or len(self.endpoints) <= idle_max:
            return list(self.endpoints.values())
        shown, idle = [], []
        for endpoint in self.endpoints.values():
            (shown if endpoint.requests or endpoint.ready() else idle).append(endpoint)
        return shown + idle[:max(0, idle_max - len(shown))]


cdef bint _may_try_again(Service service, ServiceCall call, Endpoint failed, int code):
    """Whether a call that never ran at ``failed`` may be tried once more: what never reached a
    provider is not a second try and costs no budget.
    """
    cdef Endpoint other
    cdef Py_ssize_t i
    if call.attempts >= ATTEMPTS_MAX:
        return False
    if code == C_NOT_FOUND:
        # Until all of them have said so, and never on credit.
        return any([other not in call.lacking for other in service._ready]) \
            and service.retries.withdraw()
    if code == C_UPSTREAM_LOST or code == C_UNAVAILABLE or service.retries.withdraw():
        return True
    for i in range(PyList_GET_SIZE(service._ready)):
        other = <Endpoint>PyList_GET_ITEM(service._ready, i)
        if other is not failed and other.offer() > 0 and other.rejections == 0:
            return service.retries.borrow()
    return False
