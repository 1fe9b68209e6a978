"""The calls of a service that wait for credit, in one queue or in the lane of their order key.

``cluster.service`` is built on this: a ``Line`` has the calls that wait and those under way, and
sends those that wait as endpoints get room. Calls with an order key go in lanes: all of a key to
one endpoint while any of them is under way or waits, else to the endpoint that the key belongs to
among those that take part.

Invariant: ``queued`` calls wait, in ``waiting`` or in a lane; none is sent past the service's own
bounds.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.balance.affinity cimport home
from dragoman.balance.merit cimport took
from dragoman.cluster.choice cimport Choice
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints
from dragoman.cluster.health cimport did_well, missed_deadline
from dragoman.cluster.lanes cimport Lane, Lanes
from dragoman.cluster.peer cimport Peer
from dragoman.cluster.refusal cimport unread, why_aside, why_away
from dragoman.flow.waiting cimport WaitingQueue
from dragoman.rpc.client_session cimport Call, ClientSession

from dragoman.cluster.options import NO_BOUND
from dragoman.errors import Code

# "Without end", in the waiting queue.
cdef int64_t NEVER_US = NO_BOUND

cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_DEADLINE = Code.DEADLINE


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
        cdef Line service = self.service
        endpoint.under_way -= 1
        endpoint.peer.inflight -= 1
        if endpoint.gone and endpoint.under_way == 0:
            service._leaving.discard(endpoint)
        service.calls -= 1
        service.bytes -= self.body_length
        if self.lane is not None:
            service.left_lane(self.lane)

    cdef void on_reply(self, const char* body, Py_ssize_t n, bytes owner):
        cdef Endpoint endpoint = self.endpoint
        cdef Peer peer = endpoint.peer
        cdef Line service = self.service
        cdef int64_t now = peer.session.read_us
        self.ended_us = now
        self._left(endpoint)
        endpoint.replies += 1
        service.replies += 1
        peer.replied_us = now
        took(endpoint, <double>(now - self.sent_us), now)
        service.choice.took(<double>(now - self.sent_us))
        if endpoint.breaker.open or peer.breaker.failures or peer.breaker.open or peer.missed \
                or endpoint.rejections:
            did_well(service, endpoint, self.sent_us)
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
        self.service.failed(self, endpoint, code, retry_safe, message)

    cdef void on_due(self):
        """The deadline has passed."""
        cdef Endpoint endpoint = self.endpoint
        cdef Line service = self.service
        service.expired += 1
        service.failures += 1
        self.again = False
        if self.in_line:
            service.leave_line(self)
            if service.known:
                self.on_failure(
                    C_DEADLINE, "deadline passed while waiting for a free provider"
                )
            else:
                self.on_failure(C_UNAVAILABLE, unread(service))
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
            missed_deadline(endpoint, self.sent_us, service.tick.wheel.clock_us())
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
            self.service.leave_line(self)
        if self.session is not None:
            self.session.abandon(self)
        if self.endpoint is not None:
            self.endpoint.withdrawn += 1
            self._left(self.endpoint)
            self.endpoint = None

    cdef object sender(self):
        return self.endpoint


cdef class Line(Endpoints):
    """The endpoints of one service, and its calls."""

    def __init__(self, loop, bytes key not None, options):
        Endpoints.__init__(self, loop, key, options)
        self.choice = Choice(options.policy, options.seed)
        self.waiting = WaitingQueue(options.queue_max)
        self._wait_on = options.on_full == "wait"
        self._calls_max = options.calls_max
        self._bytes_max = options.bytes_max
        self._lanes = Lanes()

    cdef void submit(self, ServiceCall call):
        """Send ``call`` to an endpoint, let it wait, or turn it away."""

    cdef bint send(self, ServiceCall call, int64_t now, bint newcomer):
        """Send to the endpoint that is chosen; whether there was one."""
        return False

    cdef void send_to(self, ServiceCall call, Endpoint endpoint, int64_t now):
        """Send to ``endpoint``, which has room."""

    cdef bint turned_away(self, ServiceCall call):
        """End ``call`` if it may not wait."""
        return False

    cdef void failed(
        self, ServiceCall call, Endpoint endpoint, int code, bint retry_safe, str message
    ):
        """An attempt failed at ``endpoint``."""

    cdef void changed(self):
        """An endpoint's state has changed: those that wait may go, or have nowhere to go."""
        Endpoints.changed(self)
        if self._lanes.by_key:
            self._place_lanes()
        if self.queued:
            self.drain_waiting(NEVER_US)
            if self._viable == 0 and not self._wait_on:
                self.fail_waiting()

    cdef void fed(self, int64_t most):
        if self.queued:
            self.drain_waiting(most)

    cdef bint busy(self):
        return self.calls > 0 or self.queued > 0

    cdef void probe(self, Endpoint endpoint):
        """Let a call that waits find out whether ``endpoint``, which is set aside, does again."""
        if self._lanes.unplaced and not self._taking_part:
            # Calls in lanes are probes too.
            self._lanes.move(<Lane>next(iter(self._lanes.unplaced)), endpoint)
        if self.queued:
            self.drain_waiting(NEVER_US)

    cdef bint survey(self):
        cdef bint more = Endpoints.survey(self)
        if self.queued and self._viable:
            self.drain_waiting(NEVER_US)
        # Those who waited may have given up.
        self.tell_waiting()
        return more

    cdef inline bint bounded(self, ServiceCall call):
        """Whether the service's own bounds keep ``call`` back."""
        return self.calls >= self._calls_max \
            or (self.bytes + call.body_length > self._bytes_max and self.calls > 0)

    cdef void end(self, ServiceCall call, int code, str message):
        """``call``, which is neither under way nor in line, fails for good."""
        cdef Lane lane = call.lane
        if call._wheel is not None:
            call._wheel.cancel(call)
        if lane is not None:
            call.lane = None
            self._lanes.tidy(lane)
        self.failures += 1
        call.on_failure(code, message)

    cdef void enter_line(self, ServiceCall call):
        """Count ``call`` among those that wait."""
        cdef Endpoint endpoint
        call.in_line = True
        if self.queued == 0:
            for endpoint in self._ready:
                endpoint.stand_in_line()
            if self.endpoints:
                self.watch()
                if not self._ready:
                    self.need()
        self.queued += 1
        self.waiting_bytes += call.body_length

    cdef void leave_line(self, ServiceCall call):
        """``call`` waits no longer, in the queue or in its lane."""
        cdef Lane lane = call.lane
        call.in_line = False
        self.queued -= 1
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

    cdef void take_turns(self):
        """A call waits although there is room, since others' turn came first: have them served."""
        cdef Endpoint endpoint
        cdef Py_ssize_t i
        self._yielded = False
        for i in range(PyList_GET_SIZE(self._ready)):
            endpoint = <Endpoint>PyList_GET_ITEM(self._ready, i)
            if endpoint.free() > 0:
                endpoint.peer.feed()
                return

    # Lanes

    cdef void submit_in_lane(self, ServiceCall call):
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
            if endpoint is not None and endpoint.free() > 0 and not self.bounded(call):
                if not endpoint.peer._line or not endpoint.peer.contested(endpoint):
                    self.send_to(call, endpoint, call.started_us)
                    return
                self._yielded = True
        if self.turned_away(call):
            return
        self.enter_line(call)
        lane.push(call, call.sequence)
        self._lanes.queue(lane)
        self.tell_waiting()
        if self._yielded:
            self.take_turns()

    cdef Endpoint _home(self, Lane lane):
        """The endpoint that a lane's key belongs to, among those that take part; None if none
        does.
        """
        cdef Py_ssize_t i = home(self._taking_part, lane.key)
        return <Endpoint>PyList_GET_ITEM(self._taking_part, i) if i >= 0 else None

    cdef void left_lane(self, Lane lane):
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
            if self.bounded(call):
                break
            del endpoint.lanes[lane]
            lane.remove(call.sequence)
            if lane.waiting:
                endpoint.lanes[lane] = None
            call.in_line = False
            self.queued -= 1
            self.waiting_bytes -= call.body_length
            self.send_to(call, endpoint, now)
            most -= 1
            sent += 1
        return sent

    cdef void rejoin(self, ServiceCall call):
        """A call of a lane comes back unsent: it takes its old place in line, if there is anybody
        left to wait for.
        """
        cdef Lane lane = self._lanes.by_key.get(call.order_key)
        if self._viable == 0 and not self._wait_on and self.turned_away(call):
            return
        if lane is None:
            lane = call.lane if call.lane is not None else Lane(call.order_key)
            self._lanes.by_key[lane.key] = lane
        call.lane = lane
        self.enter_line(call)
        lane.push(call, call.sequence)
        self._lanes.queue(lane)

    cdef void tell_waiting(self):
        """Tell the endpoints how many requests wait for credit, so that they can share it out."""
        cdef Endpoint endpoint
        cdef int64_t wanted
        for endpoint in self._ready:
            wanted = self.waiting.live + self.more
            if endpoint.lanes:
                wanted = self.queued + self.more
            endpoint.tell(min(wanted, <int64_t>self._calls_max - self.calls))

    cdef void drain_waiting(self, int64_t most):
        """Send up to ``most`` of those that wait, as far as there is room: half of it is for lanes,
        if others wait too.
        """
        cdef ServiceCall call
        cdef Endpoint endpoint
        cdef int64_t now = 0
        cdef bint lanes = self.queued > self.waiting.live
        if lanes:
            now = self.tick.wheel.clock_us()
            for endpoint in list(self._ready):
                if endpoint.lanes:
                    # An odd one goes to either in turn.
                    most -= self._drain_lanes(
                        endpoint, now,
                        min(most, (endpoint.free() + endpoint._odd_to_lanes) // 2)
                        if self.waiting.live else most,
                    )
                    endpoint._odd_to_lanes = not endpoint._odd_to_lanes
        while self.waiting.live and most > 0:
            if not self._any_room():
                break
            if self.bounded(<ServiceCall>self.waiting.head()):
                break
            if now == 0:
                now = self.tick.wheel.clock_us()
            call = <ServiceCall>self.waiting.pop()
            self.leave_line(call)
            if not self.send(call, now, False):
                self.enter_line(call)
                self.waiting.push(call, call.due_us if call.due_us else NEVER_US)
                break
            most -= 1
        if lanes:
            for endpoint in list(self._ready):
                most -= self._drain_lanes(endpoint, now, most)
        self.tell_waiting()

    cdef bint _any_room(self):
        cdef Py_ssize_t i
        for i in range(PyList_GET_SIZE(self._ready)):
            if (<Endpoint>PyList_GET_ITEM(self._ready, i)).free() > 0:
                return True
        return False

    cdef void fail_waiting(self):
        cdef ServiceCall call
        cdef Lane lane
        cdef str why = f"{self.name} is closed here" if self.closed \
            else why_aside(self) if self._ready else why_away(self)
        while self.waiting.live and self._viable == 0:
            call = <ServiceCall>self.waiting.pop()
            self.leave_line(call)
            self.end(call, C_UNAVAILABLE, why)
        for lane in list(self._lanes.by_key.values()):
            while lane.waiting and self._viable == 0:
                call = <ServiceCall>lane.first()
                self.leave_line(call)
                self.end(call, C_UNAVAILABLE, why)
