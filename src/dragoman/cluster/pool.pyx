"""A pool: every style of calling of ``rpc.client_base``, over all servers of a service.

``cluster.connect`` makes one. Beneath it is a ``Service``, the same that the consumer's agent uses:
a call goes to a server that has granted credit, chosen by the pool's policy; without credit it
waits or fails, as ``on_full`` says; what certainly never ran is sent elsewhere.

Invariants: a call ends exactly once; what is under way and what waits is bounded.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from dragoman.cluster.calls cimport Account, Batch, PoolCall
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.service cimport Service
from dragoman.rpc.batch cimport BatchReplies
from dragoman.rpc.client_base cimport NOTIFICATION, Style

import asyncio

from dragoman.forking import foreign
from dragoman.cluster.statistics import EndpointStatistics, PoolStatistics
from dragoman.options import milliseconds
from dragoman.rpc.arguments import method_name

# Names are looked up by the caller's own object; more than this many are not kept.
cdef Py_ssize_t NAMES_MAX = 4096


cdef class Pool(Account):
    """Pool(loop, service, *, timeout_ms=None, create_future=None)\n--\n
    All servers of one service. Get one from ``cluster.connect``; not thread-safe, like its loop.

    ``timeout_ms`` is what a call may take unless it says otherwise, or None. ``create_future``
    makes the futures of calls, the loop's own unless it is given: they need set_result,
    set_exception, done and cancelled.
    """

    def __init__(
        self, loop, Service service not None, *, timeout_ms=None, create_future=None,
    ):
        self._service = service
        self.name = service.name
        self.configure(timeout_ms, create_future)
        self._names = {}
        # That of no call.
        self._method = self._names

    # Calling

    cdef str what(self):
        return f"the pool of {self.name}"

    cdef int launch(
        self, Style style, to, method, bytes body, int64_t due_us, bytes order_key, bytes metadata
    ) except -1:
        cdef bytes name = self._name(method)
        # A notification may be in line when its caller has gone: it is not used again.
        cdef PoolCall call = <PoolCall>self.reused() if style != NOTIFICATION else None
        if call is None:
            call = PoolCall.__new__(PoolCall)
            call.account = self
            call.no_reply = style == NOTIFICATION
        call.style = style
        call.to = to
        self._launch(call, name, body, due_us, order_key, metadata)
        if style == NOTIFICATION and call.to is not None:
            raise call.to
        return 0

    cdef int launch_many(
        self, future, method, list bodies, Py_ssize_t largest, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1:
        cdef Batch batch = Batch.__new__(Batch)
        batch.account = self
        batch.gathered = BatchReplies(future, len(bodies), self._service.peers.budget)
        batch.method = self._name(method)
        batch.bodies = bodies
        batch.order_key = order_key
        batch.metadata = metadata
        batch.due_us = due_us
        self.watch()
        batch.begin()
        return 0

    cdef inline bytes _name(self, method):
        """A method's name as it travels."""
        cdef PyObject* known
        if method is self._method:
            return self._method_name
        if type(method) is not str:
            method_name(method)
        known = PyDict_GetItem(self._names, method)
        if known == NULL:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            self._names[method] = method_name(method)
            known = PyDict_GetItem(self._names, method)
        self._method = method
        self._method_name = <bytes>known
        return self._method_name

    @cython.final
    cdef int _launch(
        self, PoolCall call, bytes method, bytes body, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1:
        self.check_here()
        call.method = method
        call.body_owner = body
        call.body_length = PyBytes_GET_SIZE(body)
        call.order_key = order_key
        call.metadata = metadata
        call.due_us = due_us
        call.started_us = self.tick.now_us()
        self.watch()
        self._service.submit(call)
        return 0

    cdef void sweep_calls(self):
        self._service.sweep()
        self.sweep_again(self._service.calls + self._service.queued)

    # Life

    def update(self, endpoints):
        """The servers there are from now on: anything with an ``address`` and a ``weight``. Called
        with what the registry says; new ones are connected to, those gone are let go.
        """
        self._service.update(endpoints)

    def unread(self, why):
        """Have ``why()`` say why the registry has not told who serves, until it has."""
        self._service.why_unread = why

    @property
    def known(self):
        """Whether the registry has said who serves."""
        return self._service.known

    @property
    def closed(self):
        """Whether it has been closed."""
        return self._service.closed

    def ready(self):
        """How many servers are connected, and how many are still being connected to."""
        cdef Endpoint endpoint
        cdef int connected = 0, connecting = 0
        for endpoint in self._service.endpoints.values():
            if endpoint.ready():
                connected += 1
            elif endpoint.state == "connecting":
                connecting += 1
        return connected, connecting

    def reasons(self):
        """Why servers are not connected: the address and the reason of each."""
        cdef Endpoint endpoint
        return {
            endpoint.address: endpoint.reason or endpoint.state
            for endpoint in self._service.endpoints.values() if not endpoint.ready()
        }

    def on_close(self, closing):
        """Have ``closing()`` awaited first of all when the pool is closed."""
        self._closing = closing

    async def close(self, *, drain_ms=5000):
        """Close all connections, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail: with UnavailableError in
        line, else with LinkLostError. Later calls fail with UnavailableError.
        """
        cdef Service service = self._service
        milliseconds("drain_ms", drain_ms)
        if service.tick.foreign or self._closed:
            return
        self.check_here()
        closing = self._closing
        self._closing = None
        if closing is not None:
            await closing()
        if drain_ms and not service.closed:
            try:
                async with asyncio.timeout(drain_ms / 1000):
                    while service.calls or service.queued or service.more:
                        await asyncio.sleep(0.002)
            except TimeoutError:
                pass
        endpoints = list(service.endpoints.values())
        await service.close()
        service.abort()
        for endpoint in endpoints:
            # What was withdrawn, and not yet acknowledged, keeps no connection either.
            (<Endpoint>endpoint).abort()
        self.tick.wheel.cancel(self._sweep)
        self._closed = True

    def _told(self):
        """How it stands, for a person."""
        cdef Service service = self._service
        cdef Endpoint endpoint
        if service.tick.foreign:
            return "of another process"
        if service.closed:
            return "closed"
        endpoints = list(service.endpoints.values())
        connected = sum([1 for endpoint in endpoints if endpoint.ready()])
        return (
            f"{connected} of {len(endpoints)} servers connected, {service.calls} calls, "
            f"{service.queued} waiting"
        )

    def __repr__(self):
        return f"<{type(self).__name__} {self.name}, {self._told()}>"

    def statistics(self):
        """The pool's counters now, as a frozen PoolStatistics."""
        cdef Service service = self._service
        cdef Endpoint endpoint
        if service.tick.foreign:
            raise foreign(self.what())
        return PoolStatistics(
            requests=service.requests, replies=self.replies, failures=self.failures,
            refused=service.shed, retried=service.retried, expired=service.expired,
            calls=service.calls, bytes=service.bytes, waiting=service.queued,
            waiting_bytes=service.waiting_bytes,
            endpoints=tuple([
                EndpointStatistics(
                    address=endpoint.address, weight=endpoint.weight,
                    state=endpoint.state, reason=endpoint.reason,
                    set_aside=endpoint.set_aside(), calls=endpoint.under_way,
                    credits=endpoint.peer.session.credits
                    if endpoint.peer.session is not None else 0,
                    sent=endpoint.requests, replies=endpoint.replies, failures=endpoint.failures,
                    latency_ms=endpoint.ewma_us / 1000.0,
                )
                # A copy: a synchronous client's other threads ask too.
                for endpoint in list(service.endpoints.values())
            ]),
        )
