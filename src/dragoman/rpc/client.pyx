"""A client: one kept connection to a server, and every style of calling over it.

``rpc.connect`` makes one. Calls go out as the server's credits and the client's own limits allow;
beyond these they fail at once or wait in line, as ``on_full`` says. No coroutine and no task stands
behind a call: ``call`` returns a plain future of the loop.

Invariants: a call ends exactly once; what is outstanding and what waits is bounded; calls are sent
in the order in which they were made.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject, PyObject_Call
from libc.stdint cimport int64_t, uint16_t, uint32_t

from dragoman.budget cimport Budget
from dragoman.rpc.calls cimport (
    Account, BatchCall, CallbackCall, ClientCall, FutureCall, Notification,
)
from dragoman.rpc.client_session cimport ClientSession
from dragoman.timers cimport Timed
from dragoman.wire.mesh cimport FEATURE_METADATA, FEATURE_NO_REPLY, FEATURE_ORDER

import asyncio
import logging
import os

from dragoman.errors import (
    ConnectError, LimitError, LinkLostError, OverloadError, UnavailableError, UsageError, marked,
)
from dragoman.forking import foreign
from dragoman.observe.faults import log_fault
from dragoman.options import milliseconds
from dragoman.rpc.arguments import (
    body_bytes, check_callback, check_map, listed, method_name, order_key_bytes, timeout_us,
)
from dragoman.rpc.iteration import replies_in_order
from dragoman.rpc.link import Link
from dragoman.rpc.metadata import metadata_bytes
from dragoman.rpc.statistics import ClientStatistics
from dragoman.rpc.stub import async_stub

log = logging.getLogger("dragoman.rpc")

# "As the client was told when it was made". A literal, so that signatures may say so.
DEFAULT = ...
cdef uint32_t TIMEOUT_MS_NONE = 0xFFFFFFFF
# How long a cancelled call may go unnoticed.
cdef int64_t SWEEP_US = 20_000


cdef class Client(Account):
    """Client(loop, options, create_future=None)\n--\n
    A connection to a server. Get one from ``rpc.connect``; not thread-safe, like its loop."""

    def __init__(self, loop, options, create_future=None):
        self._options = options
        limits = options.limits
        self.address = options.address
        self.endpoint = str(options.address)
        # What makes the future of a call; it needs set_result, set_exception, done and cancelled.
        # Called with a dictionary that is there already, which costs less than any method.
        self._future = create_future or asyncio.Future
        self._future_with = {} if create_future else {"loop": loop}
        self._reconnect = options.reconnect
        self._wait = limits.on_full == "wait"
        self._calls_max = limits.calls_max
        self._bytes_max = limits.bytes_max
        self._waiting_max = limits.waiting_max
        self._waiting_bytes_max = limits.waiting_bytes_max
        self.budget = Budget(limits.held_bytes_max)
        self._timeout_us = 0 if limits.timeout_ms is None else limits.timeout_ms * 1000
        self._identity = os.urandom(16)
        self._ids = {}
        self._sweep = Sweep()
        self._sweep.client = self
        self._link = Link(
            loop, options.address, self._new_session, self._on_down,
            tls=options.tls, server_hostname=options.server_hostname,
        )

    # Calling

    def call(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` with ``body``; returns a future of the reply (bytes).

        The future fails with a DragomanError: the callee's (RemoteError, NotFoundError, ...),
        DeadlineError, OverloadError (no room, or no place in line), LinkLostError or ConnectError;
        ``retry_safe`` tells whether the call certainly never ran. Cancelling the future withdraws
        the call. ``timeout_ms`` bounds the whole call and travels to the server (None: no bound);
        calls with the same ``order_key`` (bytes or str) are handled in the order made;
        ``metadata``, a small mapping of texts, is in the handler's ``rpc.current_request()``.
        Raises UsageError for arguments that cannot be sent, and nothing else.
        """
        cdef FutureCall call
        cdef object future
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        if self._free_futures is not None:
            call = self._free_futures
            self._free_futures = <FutureCall>call._behind
            self._free -= 1
            call._behind = None
        else:
            call = FutureCall.__new__(FutureCall)
        if order_key is not None:
            call.order_key = order_key_bytes(order_key)
        if metadata is not None:
            call.metadata = metadata_bytes(metadata)
        future = PyObject_Call(self._future, (), self._future_with)
        call.future = future
        call.body = data
        self._launch(call, method, PyBytes_GET_SIZE(data), 1, due_us)
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
        if self._free_callbacks is not None:
            call = self._free_callbacks
            self._free_callbacks = <CallbackCall>call._behind
            self._free -= 1
            call._behind = None
        else:
            call = CallbackCall.__new__(CallbackCall)
        if order_key is not None:
            call.order_key = order_key_bytes(order_key)
        if metadata is not None:
            call.metadata = metadata_bytes(metadata)
        call.callback = callback
        call.body = data
        self._launch(call, method, PyBytes_GET_SIZE(data), 1, due_us)

    def call_many(self, method, bodies, *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` once for each of ``bodies``; returns one future of the list of replies,
        in the order of ``bodies``.

        Fails with BatchError if a call that was sent failed: it has each error by its index, and
        the other calls' replies; with the plain error if nothing was sent. A batch larger than the
        room goes out in portions, whatever ``on_full`` says, and counts as one in line; its bodies
        are the caller's. With ``on_full="fail"`` it is refused if there is no room at all. A body
        larger than the server takes refuses them all.
        """
        cdef BatchCall call = BatchCall.__new__(BatchCall)
        cdef list data = listed(bodies)
        cdef Py_ssize_t i
        cdef int64_t due_us = self._due(timeout_ms)
        for i in range(PyList_GET_SIZE(data)):
            if not PyBytes_CheckExact(<object>PyList_GET_ITEM(data, i)):
                data[i] = body_bytes(data[i], i)
            if PyBytes_GET_SIZE(<object>PyList_GET_ITEM(data, i)) > call.largest:
                call.largest = PyBytes_GET_SIZE(<object>PyList_GET_ITEM(data, i))
        if order_key is not None:
            call.order_key = order_key_bytes(order_key)
        if metadata is not None:
            call.metadata = metadata_bytes(metadata)
        future = PyObject_Call(self._future, (), self._future_with)
        call.future = future
        call.bodies = data
        call.replies = [None] * PyList_GET_SIZE(data)
        call.unanswered = PyList_GET_SIZE(data)
        if call.unanswered == 0:
            future.set_result([])
            return future
        self._launch(call, method, 0, call.unanswered, due_us)
        return future

    def notify(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Have ``method`` run with ``body``, without a reply: nobody hears of its outcome, nor of
        its loss with the connection.

        Raises OverloadError or ConnectError when it cannot be sent or lined up now, UsageError when
        the server does not offer such requests.
        """
        cdef Notification call = Notification.__new__(Notification)
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        if order_key is not None:
            call.order_key = order_key_bytes(order_key)
        if metadata is not None:
            call.metadata = metadata_bytes(metadata)
        call.body = data
        self._launch(call, method, PyBytes_GET_SIZE(data), 1, due_us)
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
        awaited. The options are those of its calls.
        """
        return async_stub(self, declared, timeout_ms, order_key, metadata)

    cdef inline int64_t _due(self, timeout_ms) except -1:
        """When a call made now must have ended, or 0."""
        if timeout_ms is ...:
            return self.tick.now_us() + self._timeout_us if self._timeout_us else 0
        if timeout_ms is None:
            return 0
        return self.tick.now_us() + <int64_t>timeout_us(timeout_ms)

    cdef inline bint _fits(self, Py_ssize_t n):
        """Whether a call with ``n`` bytes may go out now."""
        return self.session is not None and self.calls < self._calls_max \
            and (self.bytes + n <= self._bytes_max or self.calls == 0) and self.session.room() > 0

    cdef int _launch(
        self, ClientCall call, method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ) except -1:
        """Send a call, line it up, or have it fail. It has ``count`` requests and is charged with
        ``n`` bytes.
        """
        cdef ClientSession session
        if not self.tick.here():
            raise self.tick.misplaced(f"the client of {self.endpoint}")
        if type(method) is not str or (method is not self._method and method not in self._ids):
            method_name(method)
        call.begin(self, method, n, count, due_us)
        if not self._sweep.armed():
            self.tick.wheel.schedule(self._sweep, self.tick.now_us() + SWEEP_US)
        if self._first is None and not self._closing and self._fits(n):
            if self.calls == 0 and count == 1 and type(call) is not Notification:
                session = self.session
                session.at_once()
                try:
                    self._send(call)
                finally:
                    session.sent_at_once()
                return 0
            self._send(call)
            if call.unsent == 0 or call.done:
                return 0
        else:
            error = self._refusal(n)
            if error is not None:
                call.refuse(error)
                return 0
        self.line_up(call)
        if self.session is not None:
            self._tell_wanted()
        return 0

    cdef void _tell_wanted(self):
        """Tell the server how many requests wait for its credit."""
        self.session.tell_waiting(min(self.wanted, self._calls_max - self.calls))

    cdef object _refusal(self, Py_ssize_t n):
        """Why a call with ``n`` bytes cannot even wait, as an error, or None."""
        if self._closing or self.closed:
            return LinkLostError(
                f"the client of {self.endpoint} is closed", endpoint=self.endpoint, retry_safe=True
            )
        if self.session is None and not (self._wait and self._reconnect):
            return ConnectError(
                f"not connected to {self.endpoint}: {self.reason or 'connecting'}",
                endpoint=self.endpoint,
            )
        if not self._wait:
            if self.session.credits <= 0:
                # So that the server knows, and the next one fares better.
                self.session.tell_waiting(1)
                return OverloadError(f"{self.endpoint} has no credit", endpoint=self.endpoint)
            return OverloadError(
                f"{self.calls} calls with {self.bytes} bytes are outstanding at {self.endpoint}",
                endpoint=self.endpoint,
            )
        if self.waiting >= self._waiting_max or (
            self.waiting and self.waiting_bytes + n > self._waiting_bytes_max
        ):
            return OverloadError(
                f"{self.waiting} calls with {self.waiting_bytes} bytes wait for {self.endpoint}",
                endpoint=self.endpoint,
            )
        return None

    cdef uint16_t _method_id(self, method) except 0:
        cdef PyObject* known
        if method is self._method:
            return self._target
        known = PyDict_GetItem(self._ids, method)
        if known == NULL:
            self._ids[method] = self.session.method_id(method.encode())
            known = PyDict_GetItem(self._ids, method)
        self._target = <object>known
        self._method = method
        return self._target

    cdef int _send(self, ClientCall call) except -1:
        """Send a call, or as much of it as there is room for, or have it fail."""
        cdef ClientSession session = self.session
        cdef uint32_t timeout_ms = TIMEOUT_MS_NONE
        cdef int64_t left_us
        cdef uint16_t target
        cdef Py_ssize_t largest = max(call.body_bytes, call.largest)
        if largest > <Py_ssize_t>session.peer_body_bytes_max:
            call.refuse(LimitError(
                f"a body of {largest} bytes, {self.endpoint} takes {session.peer_body_bytes_max}",
                endpoint=self.endpoint, retry_safe=True,
            ))
            return 0
        if not session.has_room(largest):
            call.refuse(OverloadError(
                f"no memory is left for a body of {largest} bytes to {self.endpoint}",
                endpoint=self.endpoint, retry_safe=True,
            ))
            return 0
        if call.order_key is not None and not session.peer_features & FEATURE_ORDER:
            call.refuse(UsageError(f"{self.endpoint} does not offer ordered calls"))
            return 0
        if call.metadata is not None and not session.peer_features & FEATURE_METADATA:
            call.refuse(UsageError(f"{self.endpoint} does not take metadata"))
            return 0
        if type(call) is Notification and not session.peer_features & FEATURE_NO_REPLY:
            call.refuse(UsageError(f"{self.endpoint} does not offer calls without reply"))
            return 0
        if call.due_us:
            left_us = call.due_us - self.tick.now_us()
            timeout_ms = <uint32_t>(left_us // 1000) if left_us >= 1000 else 1
        try:
            target = self._method_id(call.method)
        except UsageError as error:
            # There are no ids left. Whoever stands in line behind this call is not to suffer.
            call.refuse(error)
            return 0
        return call.send(session, target, timeout_ms)

    cdef void _drain(self):
        """Send those that wait in line, in their order, as far as there is room."""
        cdef ClientCall call
        cdef Py_ssize_t unsent
        if self._in_drain:
            return
        self._in_drain = True
        try:
            while self._first is not None and self._fits(self._first.body_bytes):
                call = self._first
                call.unwanted()
                if not call.in_line:
                    # It was cancelled a moment ago.
                    continue
                unsent = call.unsent
                self._send(call)
                if call.in_line and call.unsent == unsent:
                    # A batch, for whose next body there is no room.
                    break
        except Exception as error:
            log_fault(log, error, "%s: calls that wait could not be sent", self.endpoint)
        finally:
            self._in_drain = False
        if self.session is not None:
            self._tell_wanted()

    cdef void _sweep_calls(self):
        """Notice the calls that were cancelled."""
        cdef ClientCall call = self._first
        cdef ClientCall behind
        cdef ClientSession session
        while call is not None:
            behind = call._behind
            call.unwanted()
            call = behind
        for session in self._leaving:
            session.sweep()
        if self.session is not None:
            self.session.sweep()
            self._drain()
        if self.calls or self.waiting:
            # With many of them the sweeps are further apart.
            self.tick.wheel.schedule(
                self._sweep,
                self.tick.wheel.clock_us() + SWEEP_US * (1 + (self.calls + self.waiting) // 5000),
            )
        self._check_idle()

    cdef void _check_idle(self):
        """Whoever closes the client waits for this."""
        if self._idle is not None and self.calls == 0 and self.waiting == 0 \
                and not self._idle.done():
            self._idle.set_result(None)

    # The connection

    def _new_session(self):
        return ClientSession(
            self.loop, self, name=self._options.name, identity=self._identity,
            body_bytes_max=self._options.limits.body_bytes_max,
            heartbeat_s=self._options.limits.heartbeat_ms / 1000, budget=self.budget,
        )

    def _on_down(self, str reason):
        """No connection could be made."""
        self._down(ConnectError(f"{self.endpoint}: {reason}", endpoint=self.endpoint), reason)

    cdef void _down(self, error, str reason):
        """There is no connection, for this reason."""
        if self.reason != reason:
            log.warning("%s: %s", self.endpoint, reason)
        self.reason = reason
        if self._first_up is not None and not self._first_up.done():
            self._first_up.set_exception(error)
        if not self._reconnect:
            self.closed = True
            self._link.abandon()
            self._fail_line(error)

    cdef void _fail_line(self, error):
        """Every call in line fails with ``error``; none of it, or of a batch its rest, was sent."""
        cdef ClientCall call
        error = marked(error, retry_safe=True)
        while self._first is not None:
            # Held here: once it has left the line perhaps nobody else does.
            call = self._first
            call.refuse(error)
        self._check_idle()

    cdef void on_ready(self, ClientSession session):
        if self.closed:
            session.close()
            return
        self._ids.clear()
        self._method = None
        self.session = session
        self._up = False

    cdef void on_credit(self, ClientSession session):
        if session is self.session and not session.closed:
            if not self._up:
                # Only now is it sure that the server does not send us away.
                self._up = True
                self.reason = None
                self.connections += 1
                self._link.held()
                if self._first_up is not None and not self._first_up.done():
                    self._first_up.set_result(None)
            if self._first is not None:
                self._drain()
            elif session._told_waiting:
                session.tell_waiting(0)
        if self._idle is not None:
            self._check_idle()

    cdef void on_goodbye(self, ClientSession session):
        cdef str why = session.goodbye_reason or "the server shuts down"
        if session is self.session:
            # Others take its place; what is under way there is still answered.
            self.session = None
            self._leaving.add(session)
            self._down(UnavailableError(f"{self.endpoint}: {why}", endpoint=self.endpoint), why)
            self._link.lost()

    cdef void on_lost(self, ClientSession session):
        cdef object failure = session.failure
        if session in self._leaving:
            self._leaving.discard(session)
        else:
            if session is self.session:
                self.session = None
            elif type(failure) is LinkLostError:
                # It never came to a session.
                failure = ConnectError(str(failure), endpoint=self.endpoint)
            if not self._closing or not self._reconnect:
                self._down(failure, str(failure))
            self._link.lost()
        self._check_idle()

    async def start(self, timeout_ms):
        """Connect; used by ``rpc.connect``."""
        self._first_up = self.loop.create_future()
        self._link.connect_timeout_s = max(self._link.connect_timeout_s, timeout_ms / 1000)
        self._link.start()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._first_up
        except TimeoutError:
            await self.close(drain_ms=0)
            raise ConnectError(
                f"{self.endpoint}: no connection within {timeout_ms} ms", endpoint=self.endpoint
            ) from None
        except BaseException:
            await self.close(drain_ms=0)
            raise

    async def close(self, *, drain_ms=5000):
        """Close the connection, once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail with LinkLostError.
        """
        cdef ClientSession session
        milliseconds("drain_ms", drain_ms)
        if self.tick.foreign or (self.closed and self._link.stopped and not self._leaving):
            return
        self.tick.check(f"the client of {self.endpoint}")
        self._closing = True
        if self.session is not None and not self.waiting:
            self.session.goodbye()
        if drain_ms and (self.calls or self.waiting):
            if self._idle is None or self._idle.done():
                self._idle = self.loop.create_future()
            try:
                async with asyncio.timeout(drain_ms / 1000):
                    await asyncio.shield(self._idle)
            except TimeoutError:
                pass
        self.closed = True
        await self._link.stop()
        session = self.session
        if session is None and self._link.transport is not None:
            # Its handshake is not done, and nobody waits for that any more.
            self._link.transport.abort()
        if session is not None:
            session.close()
        for session in list(self._leaving):
            session.close()
        self.session = None
        self._fail_line(LinkLostError(
            f"the client of {self.endpoint} was closed", endpoint=self.endpoint, retry_safe=True
        ))
        self.tick.wheel.cancel(self._sweep)

    def _told(self):
        """How it stands, for a person."""
        if self.tick.foreign:
            return "of another process"
        if self.closed:
            return "closed"
        state = "connected" if self.session is not None else \
            f"not connected ({self.reason or 'connecting'})"
        return f"{state}, {self.calls} calls, {self.waiting} waiting"

    def __repr__(self):
        return f"<Client {self.endpoint}, {self._told()}>"

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        # After an error of the caller's own nobody waits for what is under way.
        await self.close(drain_ms=5000 if kind is None else 0)

    def statistics(self):
        """The client's counters now, as a frozen ClientStatistics."""
        if self.tick.foreign:
            raise foreign(f"the client of {self.endpoint}")
        return ClientStatistics(
            connected=self.session is not None, connections=self.connections, sent=self.sent,
            replies=self.replies, failures=self.failures, refused=self.refused, calls=self.calls,
            bytes=self.bytes, waiting=self.waiting, waiting_bytes=self.waiting_bytes,
            credits=self.session.credits if self.session is not None else 0,
            buffers_bytes=self.budget.used,
        )


cdef class Sweep(Timed):
    """Looks after cancelled calls while there are calls."""

    cdef inline bint armed(self):
        return self._wheel is not None

    cdef void on_due(self):
        self.client._sweep_calls()
