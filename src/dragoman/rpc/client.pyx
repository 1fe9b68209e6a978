"""A client: every style of calling over one kept connection to a server (``rpc.connection``).

``rpc.connect`` makes one. Calls go out as the server's credits and the client's own limits allow;
beyond these they fail at once or wait in line, as ``on_full`` says. No coroutine and no task stands
behind a call: ``call`` returns a plain future of the loop.

Invariants: a call ends exactly once; what is outstanding and what waits is bounded; calls are sent
in the order in which they were made.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject_Call
from libc.stdint cimport int64_t

from dragoman.rpc.calls cimport BatchCall, CallbackCall, ClientCall, FutureCall, Notification
from dragoman.rpc.client_session cimport ClientSession
from dragoman.rpc.connection cimport SWEEP_US, Connection

import asyncio

from dragoman.errors import ConnectError, LinkLostError, OverloadError
from dragoman.forking import foreign
from dragoman.options import milliseconds
from dragoman.rpc.arguments import (
    body_bytes, check_callback, check_map, listed, method_name, order_key_bytes, timeout_us,
)
from dragoman.rpc.iteration import replies_in_order
from dragoman.rpc.metadata import metadata_bytes
from dragoman.rpc.statistics import ClientStatistics
from dragoman.rpc.stub import async_stub

# "As the client was told when it was made". A literal, so that signatures may say so.
DEFAULT = ...


cdef class Client(Connection):
    """Client(loop, options, create_future=None)\n--\n
    A connection to a server. Get one from ``rpc.connect``; not thread-safe, like its loop."""

    def __init__(self, loop, options, create_future=None):
        Connection.__init__(self, loop, options)
        limits = options.limits
        # What makes the future of a call; it needs set_result, set_exception, done and cancelled.
        # Called with a dictionary that is there already, which costs less than any method.
        self._future = create_future or asyncio.Future
        self._future_with = {} if create_future else {"loop": loop}
        self._wait = limits.on_full == "wait"
        self._waiting_max = limits.waiting_max
        self._waiting_bytes_max = limits.waiting_bytes_max
        self._timeout_us = 0 if limits.timeout_ms is None else limits.timeout_ms * 1000

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

        Raises OverloadError or ConnectError when it cannot be sent or queued now, UsageError when
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
        """The time when a call made now must have ended, or 0."""
        if timeout_ms is ...:
            return self.tick.now_us() + self._timeout_us if self._timeout_us else 0
        if timeout_ms is None:
            return 0
        return self.tick.now_us() + <int64_t>timeout_us(timeout_ms)

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
        if self._first is None and not self._closing and self.fits(n):
            if self.calls == 0 and count == 1 and type(call) is not Notification:
                session = self.session
                session.at_once()
                try:
                    self.send(call)
                finally:
                    session.sent_at_once()
                return 0
            self.send(call)
            if call.unsent == 0 or call.done:
                return 0
        else:
            error = self._refusal(n)
            if error is not None:
                call.refuse(error)
                return 0
        self.line_up(call)
        if self.session is not None:
            self.tell_wanted()
        return 0

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

    # Life

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
        self.fail_line(LinkLostError(
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
