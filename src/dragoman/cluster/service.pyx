"""The calls of one service on one loop: which endpoint gets the next, what waits, what is refused.

A ``Service`` has its ``cluster.choice`` pick an endpoint with credit, lets calls wait in its
``cluster.line`` when there is none, and retries elsewhere what certainly never ran; its endpoints
are kept by ``cluster.endpoints``. The consumer agent, ``cluster.pool`` and the SDK call ``submit``
with their own kind of ``ServiceCall``. It knows neither HTTP nor Dubbo.

Invariants: a submitted call ends exactly once, in ``on_result`` or ``on_failure`` (one without
reply may just be sent); nothing is sent without a credit; unless its options say so, a request
waits only while some endpoint may still take it.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.health cimport attempt_failed
from dragoman.cluster.lanes cimport Lane
from dragoman.cluster.line cimport Line, ServiceCall
from dragoman.cluster.peer cimport Peer
from dragoman.cluster.refusal cimport none_viable
from dragoman.flow.breaker cimport RetryBudget
from dragoman.rpc.client_session cimport ClientSession
from dragoman.wire.mesh cimport FEATURE_METADATA, FEATURE_NO_REPLY, FEATURE_ORDER

from itertools import islice

from dragoman.cluster.options import NO_BOUND
from dragoman.errors import Code, UsageError

cdef int ATTEMPTS_MAX = 4

# "Without end", in a request frame and in the waiting queue.
cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF
cdef int64_t NEVER_US = NO_BOUND

cdef int C_MALFORMED = Code.MALFORMED
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_TOO_LARGE = Code.TOO_LARGE
cdef int C_NOT_FOUND = Code.NOT_FOUND


cdef class Service(Line):
    """The endpoints of one service. ``key`` is its name on the wire, ``options`` an ``Options``."""

    def __init__(self, loop, bytes key not None, options):
        Line.__init__(self, loop, key, options)
        self.retries = RetryBudget()
        self._fail = options.on_full == "fail"

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
            self.submit_in_lane(call)
            return
        if self.waiting.live == 0 and self.send(call, call.started_us, True):
            return
        self._wait(call)

    cdef bint send(self, ServiceCall call, int64_t now, bint newcomer):
        """Send to the endpoint that the policy picks; False when none has room, or it has been
        waited for there by others, whom a newcomer does not pass.
        """
        cdef Endpoint endpoint
        if self.bounded(call):
            return False
        endpoint = self.choice.pick(self, call.failed_at, now)
        if endpoint is None:
            return False
        if newcomer and endpoint.peer._line and endpoint.peer.contested(endpoint):
            self._yielded = True
            return False
        self.send_to(call, endpoint, now)
        return True

    cdef void send_to(self, ServiceCall call, Endpoint endpoint, int64_t now):
        """Send to ``endpoint``, which has room."""
        cdef Peer peer = endpoint.peer
        cdef ClientSession session = peer.session
        cdef int64_t left_us
        cdef uint32_t timeout_ms = TIMEOUT_MS_NONE
        cdef uint16_t method
        if call.body_length > <Py_ssize_t>session.peer_body_bytes_max:
            self.end(
                call, C_TOO_LARGE,
                f"the request is larger than {endpoint.address} accepts",
            )
            return
        if not session.has_room(call.body_length):
            self.end(
                call, C_OVERLOAD, f"no memory is left for a body of {call.body_length} bytes"
            )
            return
        try:
            method = session.method_id(call.method)
        except UsageError as error:
            self.end(call, C_MALFORMED, str(error))
            return
        if call.order_key is not None and not session.peer_features & FEATURE_ORDER:
            self.end(call, C_MALFORMED, f"{endpoint.address} does not offer ordered calls")
            return
        if call.metadata is not None and not session.peer_features & FEATURE_METADATA:
            self.end(call, C_MALFORMED, f"{endpoint.address} does not take metadata")
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
            self.end(
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

    cdef void _wait(self, ServiceCall call):
        """Let ``call`` wait for credit, or turn it away."""
        if self.turned_away(call):
            return
        self.enter_line(call)
        self.waiting.push(call, call.due_us if call.due_us else NEVER_US)
        self.tell_waiting()
        if self._yielded:
            self.take_turns()

    cdef bint turned_away(self, ServiceCall call):
        """End ``call`` if it may not wait."""
        if self.closed:
            self.end(call, C_UNAVAILABLE, f"{self.name} is closed here")
            return True
        if self._wait_on:
            if not call.patient and (
                self.queued >= self._options.queue_max
                or self.waiting_bytes + call.body_length > self._options.waiting_bytes_max
            ):
                self.shed += 1
                self.end(
                    call, C_OVERLOAD,
                    f"{self.queued} calls with {self.waiting_bytes} bytes wait already",
                )
                return True
            return False
        if self._viable == 0 and (self.known or self._fail):
            code, why = none_viable(self)
            self.end(call, code, why)
            return True
        if call.patient:
            return False
        if self._fail:
            self._refuse(call)
            return True
        if not self.waiting.admit():
            self.shed += 1
            self.end(call, C_OVERLOAD, "too many requests are waiting for a free provider")
            return True
        return False

    cdef void _refuse(self, ServiceCall call):
        """``call`` finds no room and is not to wait for it."""
        cdef Endpoint endpoint
        self.shed += 1
        if self.bounded(call):
            self.end(
                call, C_OVERLOAD, f"{self.calls} calls with {self.bytes} bytes are under way"
            )
            return
        if not self._ready:
            self.end(call, C_UNAVAILABLE, "no provider of this service is connected yet")
            return
        for endpoint in self._ready:
            if endpoint.peer.session is not None and endpoint.peer.session.credits <= 0:
                # So that the server knows, and the next one fares better.
                endpoint.tell(max(1, endpoint._told))
        self.end(call, C_OVERLOAD, "no provider of this service has room")

    cdef void failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    ):
        """An attempt failed at ``endpoint``: try elsewhere if that is safe, else end the call."""
        cdef int64_t now = self.tick.wheel.clock_us()
        attempt_failed(
            self, self.choice, endpoint, call.sent_us, call.answered, code, message, now
        )
        if call.order_key is not None:
            # Only what never left may be sent anew: others of its sequence may have run since.
            if retry_safe and code == C_UPSTREAM_LOST and call.attempts < ATTEMPTS_MAX \
                    and not self.closed:
                self.retried += 1
                self.rejoin(call)
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
        self.end(call, code, message)

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
            return self.send(call, self.tick.wheel.clock_us(), True)
        barred = [endpoint for endpoint in call.lacking if not endpoint.barred]
        for endpoint in barred:
            endpoint.barred = True
        sent = self.send(call, self.tick.wheel.clock_us(), True)
        for endpoint in barred:
            endpoint.barred = False
            endpoint.refresh()
        return sent

    async def close(self):
        """Let all endpoints go; what waits fails, what is in flight may end."""
        self.let_go()
        self.fail_waiting()

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
        if self.queued:
            queued = [self.waiting.at(i) for i in range(self.waiting.live)]
            for lane in self._lanes.by_key.values():
                queued.extend(lane.calls())
            for call in queued:
                call.unwanted()
            if self.queued:
                self.drain_waiting(NEVER_US)

    def status(self, idle_max=None):
        """A plain dict for the status page: all endpoints, or of those without calls at most
        ``idle_max``, first those that take part.

        ``requests`` is the sum of ``replies``, ``failures``, ``withdrawn``, ``one_way``,
        ``inflight`` and ``waiting``; those of the endpoints count attempts.
        """
        return {
            "service": self.name, "requests": self.requests, "replies": self.replies,
            "failures": self.failures, "withdrawn": self.withdrawn, "one_way": self.one_way,
            "inflight": self.calls, "waiting": self.queued,
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
