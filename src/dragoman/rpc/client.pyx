"""A client: every style of calling over one kept connection to a server (``rpc.connection``).

``rpc.connect`` makes one; the styles are ``rpc.client_base``'s. Calls go out as the server's
credits and the client's own limits allow; beyond these they fail at once or wait in line, as
``on_full`` says.

Invariants: a call ends exactly once; what is outstanding and what waits is bounded; calls are sent
in the order in which they were made.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport int64_t

from dragoman.rpc.batch cimport BatchReplies
from dragoman.rpc.calls cimport BatchCall, ClientCall
from dragoman.rpc.client_base cimport NOTIFICATION, Style
from dragoman.rpc.client_session cimport ClientSession
from dragoman.rpc.connection cimport Connection

import asyncio

from dragoman.errors import ConnectError, LinkLostError, OverloadError
from dragoman.forking import foreign
from dragoman.options import milliseconds
from dragoman.rpc.arguments import method_name
from dragoman.rpc.statistics import ClientStatistics

# "As the client was told when it was made". A literal, so that signatures may say so.
DEFAULT = ...


cdef class Client(Connection):
    """Client(loop, options, create_future=None)\n--\n
    A connection to a server. Get one from ``rpc.connect``; not thread-safe, like its loop."""

    def __init__(self, loop, options, create_future=None):
        Connection.__init__(self, loop, options)
        limits = options.limits
        self.configure(limits.timeout_ms, create_future)
        self._wait = limits.on_full == "wait"
        self._waiting_max = limits.waiting_max
        self._waiting_bytes_max = limits.waiting_bytes_max

    # Calling

    cdef str what(self):
        return f"the client of {self.endpoint}"

    cdef int launch(
        self, Style style, to, method, bytes body, int64_t due_us, bytes order_key, bytes metadata
    ) except -1:
        # A notification may be in line when its caller has gone: it is not used again.
        cdef ClientCall call = <ClientCall>self.reused() if style != NOTIFICATION else None
        if call is None:
            call = ClientCall.__new__(ClientCall)
        call.style = style
        call.to = to
        call.body = body
        if order_key is not None:
            call.order_key = order_key
        if metadata is not None:
            call.metadata = metadata
        self._launch(call, method, PyBytes_GET_SIZE(body), 1, due_us)
        if style == NOTIFICATION and call.to is not None:
            raise call.to
        return 0

    cdef int launch_many(
        self, future, method, list bodies, Py_ssize_t largest, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1:
        cdef BatchCall call = BatchCall.__new__(BatchCall)
        call.gathered = BatchReplies(future, PyList_GET_SIZE(bodies), self.budget)
        call.bodies = bodies
        call.largest = largest
        call.order_key = order_key
        call.metadata = metadata
        return self._launch(call, method, 0, PyList_GET_SIZE(bodies), due_us)

    @cython.final
    cdef int _launch(
        self, ClientCall call, method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ) except -1:
        """Send a call, line it up, or have it fail. It has ``count`` requests and is charged with
        ``n`` bytes.
        """
        cdef ClientSession session
        self.check_here()
        if type(method) is not str or (method is not self._method and method not in self._ids):
            method_name(method)
        call.begin(self, method, n, count, due_us)
        self.watch()
        if self._first is None and not self._closing and self.fits(n):
            if self.calls == 0 and count == 1 and call.style != NOTIFICATION:
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
        self.tick.check(self.what())
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

    def statistics(self):
        """The client's counters now, as a frozen ClientStatistics."""
        if self.tick.foreign:
            raise foreign(self.what())
        return ClientStatistics(
            connected=self.session is not None, connections=self.connections, sent=self.sent,
            replies=self.replies, failures=self.failures, refused=self.refused, calls=self.calls,
            bytes=self.bytes, waiting=self.waiting, waiting_bytes=self.waiting_bytes,
            credits=self.session.credits if self.session is not None else 0,
            buffers_bytes=self.budget.used,
        )
