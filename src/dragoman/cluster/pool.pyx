"""A pool: every style of calling of ``rpc.Client``, over all servers of a service.

``cluster.connect`` makes one. Beneath it is a ``Service``, the same that the consumer's agent uses:
a call goes to a server that has granted credit, chosen by the pool's policy; without credit it
waits or fails, as ``on_full`` says; what certainly never ran is sent elsewhere. No coroutine and no
task stands behind a call: ``call`` returns a plain future of the loop.

Invariants: a call ends exactly once; what is under way and what waits is bounded.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from dragoman.cluster.calls cimport (
    Account, Batch, CallbackCall, FutureCall, Notification, PoolCall,
)
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.service cimport Service
from dragoman.timers cimport Timed

import asyncio

from dragoman.forking import foreign
from dragoman.cluster.statistics import EndpointStatistics, PoolStatistics
from dragoman.options import milliseconds
from dragoman.rpc.arguments import (
    body_bytes, check_callback, check_map, listed, method_name, order_key_bytes, timeout_us,
)
from dragoman.rpc.iteration import replies_in_order
from dragoman.rpc.metadata import metadata_bytes
from dragoman.rpc.stub import async_stub

# How long a cancelled call may go unnoticed.
cdef int64_t SWEEP_US = 20_000
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
        self._create_future = loop.create_future if create_future is None else create_future
        self._timeout_us = 0 if timeout_ms is None else timeout_us(timeout_ms)
        self._names = {}
        # That of no call.
        self._method = self._names
        self._sweep = Sweep()
        self._sweep.pool = self

    # Calling

    def call(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` with ``body`` on one of the servers; returns a future of the reply
        (bytes).

        The future fails with a DragomanError: the callee's (RemoteError, NotFoundError, ...),
        DeadlineError, OverloadError (no room, or no place in line), UnavailableError (no server),
        or LinkLostError; ``retry_safe`` tells whether the call certainly never ran. Cancelling the
        future withdraws the call. ``timeout_ms`` bounds the whole call, with waiting and retries,
        and travels to the server (None: no bound). Calls with the same ``order_key`` (bytes or
        str) go to one server while it lives, and are handled in the order made. ``metadata``, a
        small mapping of texts, is in the handler's ``rpc.current_request()``. Raises UsageError for
        arguments that cannot be sent, and nothing else.
        """
        cdef FutureCall call
        cdef object future
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        cdef bytes name = self._name(method)
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        if PyList_GET_SIZE(self._futures):
            call = <FutureCall>self._futures.pop()
        else:
            call = FutureCall.__new__(FutureCall)
            call.account = self
        future = self._create_future()
        call.future = future
        self._launch(call, name, data, due_us, key, beside)
        return future

    def call_soon(self, method, body, callback, *, timeout_ms=..., order_key=None, metadata=None):
        """``call`` without a future: ``callback(reply, error)`` is called once, one of the two is
        None. It runs on the loop, perhaps before this returns when the call fails at once.
        """
        cdef CallbackCall call
        if not callable(callback):
            check_callback(callback)
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        cdef bytes name = self._name(method)
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        if PyList_GET_SIZE(self._callbacks):
            call = <CallbackCall>self._callbacks.pop()
        else:
            call = CallbackCall.__new__(CallbackCall)
            call.account = self
        call.callback = callback
        self._launch(call, name, data, due_us, key, beside)

    def call_many(self, method, bodies, *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` once for each of ``bodies``, each on a server of its own choice; returns
        one future of the list of replies, in the order of ``bodies``.

        Fails with BatchError if any call failed: it has each error by its index, and the other
        calls' replies. A batch larger than the room goes out in portions, whatever ``on_full``
        says, and counts as one in line, unless it has an ``order_key``; its bodies are the
        caller's. It is refused as a whole, with the error alone, if its first call is.
        """
        cdef Batch batch = Batch.__new__(Batch)
        cdef list data = listed(bodies)
        cdef Py_ssize_t i
        for i in range(PyList_GET_SIZE(data)):
            if not PyBytes_CheckExact(<object>PyList_GET_ITEM(data, i)):
                data[i] = body_bytes(data[i], i)
        batch.account = self
        batch.bodies = data
        batch.due_us = self._due(timeout_ms)
        batch.method = self._name(method)
        batch.order_key = None if order_key is None else order_key_bytes(order_key)
        batch.metadata = None if metadata is None else metadata_bytes(metadata)
        self._check_mine()
        batch.future = future = self._create_future()
        if PyList_GET_SIZE(data) == 0:
            future.set_result([])
            return future
        self._watch()
        batch.begin()
        return future

    def notify(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Have ``method`` run with ``body`` on one of the servers, without a reply: nobody hears of
        its outcome, nor of its loss with the connection.

        Raises OverloadError or UnavailableError when it cannot be sent or queued now, UsageError
        when the server does not offer such requests.
        """
        cdef Notification call = Notification.__new__(Notification)
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        call.account = self
        call.no_reply = True
        self._launch(
            call, self._name(method), data, due_us,
            None if order_key is None else order_key_bytes(order_key),
            None if metadata is None else metadata_bytes(metadata),
        )
        if call.error is not None:
            raise call.error

    def map(self, method, bodies, *, in_flight=100, timeout_ms=...):
        """Iterate (``async for``) over the replies to ``bodies``, in their order, with at most
        ``in_flight`` calls under way: bodies are taken from their iterable (or asynchronous
        iterable) only as replies are taken here. A call that fails raises its error in its place;
        ending the iteration withdraws what is under way.
        """
        check_map(bodies, in_flight)
        return replies_in_order(self, method, bodies, in_flight, timeout_ms)

    def service(self, declared, *, timeout_ms=..., order_key=..., metadata=...):
        """An object with the methods of the service that the class ``declared`` declares, to be
        awaited: each call goes to a server of its own choice. The options are those of its calls.
        """
        return async_stub(self, declared, timeout_ms, order_key, metadata)

    cdef inline int64_t _due(self, timeout_ms) except -1:
        """The time when a call made now must have ended, or 0."""
        if timeout_ms is ...:
            return self._service.tick.now_us() + self._timeout_us if self._timeout_us else 0
        if timeout_ms is None:
            return 0
        return self._service.tick.now_us() + <int64_t>timeout_us(timeout_ms)

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

    cdef inline int _launch(
        self, PoolCall call, bytes method, bytes body, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1:
        self._check_mine()
        call.method = method
        call.body_owner = body
        call.body_length = PyBytes_GET_SIZE(body)
        call.order_key = order_key
        call.metadata = metadata
        call.due_us = due_us
        call.started_us = self._service.tick.now_us()
        self._watch()
        self._service.submit(call)
        return 0

    cdef inline int _check_mine(self) except -1:
        if not self._service.tick.here():
            raise self._service.tick.misplaced(f"the pool of {self.name}")
        return 0

    cdef inline void _watch(self):
        """Look after cancelled calls from now on."""
        if not self._sweep.armed():
            self._service.tick.wheel.schedule(
                self._sweep, self._service.tick.now_us() + SWEEP_US
            )

    cdef void _sweep_calls(self):
        """Notice the calls that were cancelled."""
        cdef Service service = self._service
        service.sweep()
        if service.calls or service.queued:
            # With many of them the sweeps are further apart.
            service.tick.wheel.schedule(
                self._sweep,
                service.tick.wheel.clock_us()
                + SWEEP_US * (1 + (service.calls + service.queued) // 5000),
            )

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
        self._check_mine()
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
        if self._sweep.armed():
            service.tick.wheel.cancel(self._sweep)
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

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        # After an error of the caller's own nobody waits for what is under way.
        await self.close(drain_ms=5000 if kind is None else 0)

    def statistics(self):
        """The pool's counters now, as a frozen PoolStatistics."""
        cdef Service service = self._service
        cdef Endpoint endpoint
        if service.tick.foreign:
            raise foreign(f"the pool of {self.name}")
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


cdef class Sweep(Timed):
    """Looks after cancelled calls while there are calls."""

    cdef inline bint armed(self):
        return self._wheel is not None

    cdef void on_due(self):
        self.pool._sweep_calls()
