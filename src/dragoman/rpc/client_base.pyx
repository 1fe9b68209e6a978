"""Every style of calling, for ``rpc.Client`` and ``cluster.Pool`` alike.

A call ends as its ``Style`` says: its future gets the reply, its callback is called with it, or it
is a notification. ``ClientBase`` looks at the arguments, makes the future and retains ended calls;
what is built on it sends: ``rpc.client`` over one connection, ``cluster.pool`` to any server of a
service. No coroutine and no task stands behind a call: ``call`` returns a plain future.

Invariant: a call is used again only after it has ended.
"""

from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport int64_t

from dragoman.rpc.client_session cimport SessionOwner
from dragoman.rpc.tick cimport tick_of
from dragoman.timers cimport Timed

import asyncio
from asyncio import InvalidStateError

from dragoman.rpc.arguments import (
    body_bytes, check_callback, check_map, listed, order_key_bytes, timeout_us,
)
from dragoman.rpc.ending import reported
from dragoman.rpc.iteration import replies_in_order
from dragoman.rpc.metadata import metadata_bytes
from dragoman.rpc.stub import async_stub


cdef class ClientBase(SessionOwner):
    """What a client and a pool have in common. That it may own a session concerns the client only.
    """

    def __cinit__(self, loop, *args, **kwargs):
        self.loop = loop
        self.tick = tick_of(loop)
        self._sweep = Sweep()
        self._sweep.client = self

    cdef int configure(self, timeout_ms, create_future) except -1:
        """``timeout_ms`` is what a call may take unless it says otherwise, or None.
        ``create_future`` makes the futures of calls, which need set_result, set_exception, done and
        cancelled; None: the loop's own.
        """
        self._timeout_us = 0 if timeout_ms is None else timeout_us(timeout_ms)
        self._future = create_future or asyncio.Future
        self._future_with = {} if create_future else {"loop": self.loop}
        return 0

    def call(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` with ``body``; returns a future of the reply (bytes).

        The future fails with a DragomanError: the callee's (RemoteError, NotFoundError, ...),
        DeadlineError, OverloadError (no room, or no place in line), LinkLostError, of a client
        ConnectError, of a pool UnavailableError (no server); ``retry_safe`` tells whether the call
        certainly never ran. Cancelling the future withdraws the call. ``timeout_ms`` bounds the
        whole call, with waiting and retries, and travels to the server (None: no bound). Calls with
        the same ``order_key`` (bytes or str) are handled in the order made; those of a pool go to
        one server while it lives. ``metadata``, a small mapping of texts, is in the handler's
        ``rpc.current_request()``. Raises UsageError for arguments that cannot be sent, and nothing
        else.
        """
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        cdef object future = self.new_future()
        self.launch(AWAITED, future, method, data, due_us, key, beside)
        return future

    def call_soon(self, method, body, callback, *, timeout_ms=..., order_key=None, metadata=None):
        """``call`` without a future: ``callback(reply, error)`` is called once, one of the two is
        None. It runs on the loop, perhaps before this returns when the call fails at once.
        """
        if not callable(callback):
            check_callback(callback)
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        if order_key is None and metadata is None:
            # Nothing is counted for what is not there: it would be None's count each time.
            self.launch(CALLBACK, callback, method, data, due_us, None, None)
            return
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        self.launch(CALLBACK, callback, method, data, due_us, key, beside)

    def call_many(self, method, bodies, *, timeout_ms=..., order_key=None, metadata=None):
        """Call ``method`` once for each of ``bodies``, a pool each on a server of its own choice;
        returns one future of the list of replies, in the order of ``bodies``.

        Fails with BatchError if a call that was sent failed: it has each error by its index, and
        the other calls' replies; with the plain error if nothing was sent. A batch larger than the
        room goes out in portions, whatever ``on_full`` says, and counts as one in line, unless it
        is a pool's with an ``order_key``; its bodies are the caller's. With ``on_full="fail"`` it
        is refused if there is no room at all. A client refuses them all if a body is larger than
        the server takes.
        """
        cdef list data = listed(bodies)
        cdef Py_ssize_t i, n, largest = 0
        cdef int64_t due_us = self._due(timeout_ms)
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        cdef object future
        for i in range(PyList_GET_SIZE(data)):
            if not PyBytes_CheckExact(<object>PyList_GET_ITEM(data, i)):
                data[i] = body_bytes(data[i], i)
            n = PyBytes_GET_SIZE(<object>PyList_GET_ITEM(data, i))
            if n > largest:
                largest = n
        self.check_here()
        future = self.new_future()
        if PyList_GET_SIZE(data) == 0:
            future.set_result([])
        else:
            self.launch_many(future, method, data, largest, due_us, key, beside)
        return future

    def notify(self, method, body=b"", *, timeout_ms=..., order_key=None, metadata=None):
        """Have ``method`` run with ``body``, without a reply: nobody hears of its outcome, nor of
        its loss with the connection.

        Raises OverloadError, or a client ConnectError and a pool UnavailableError, when it cannot
        be sent or queued now, UsageError when the server does not offer such requests.
        """
        cdef bytes data = body if PyBytes_CheckExact(body) else body_bytes(body)
        cdef int64_t due_us = self._due(timeout_ms)
        cdef bytes key = None if order_key is None else order_key_bytes(order_key)
        cdef bytes beside = None if metadata is None else metadata_bytes(metadata)
        self.launch(NOTIFICATION, None, method, data, due_us, key, beside)

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
        awaited: a pool sends each call to a server of its own choice. The options are those of its
        calls.
        """
        return async_stub(self, declared, timeout_ms, order_key, metadata)

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        # After an error of the caller's own nobody waits for what is under way.
        await self.close(drain_ms=5000 if kind is None else 0)

    cdef int launch(
        self, Style style, to, method, bytes body, int64_t due_us, bytes order_key, bytes metadata
    ) except -1:
        """Send a call, line it up, or have it fail; it ends with ``end_call(style, to)``. Raises
        the error of a notification that failed at once.
        """
        return 0

    cdef int launch_many(
        self, future, method, list bodies, Py_ssize_t largest, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1:
        """``launch`` for a batch, whose largest body has ``largest`` bytes."""
        return 0

    cdef str what(self):
        """What it is, for a person."""
        return ""

    cdef int64_t _due(self, timeout_ms) except -1:
        """The time when a call made now must have ended, or 0."""
        if timeout_ms is ...:
            return self.tick.now_us() + self._timeout_us if self._timeout_us else 0
        if timeout_ms is None:
            return 0
        return self.tick.now_us() + <int64_t>timeout_us(timeout_ms)

    cdef void sweep_calls(self):
        """Notice the calls that were cancelled."""

    cdef void sweep_again(self, int64_t count):
        """There are ``count`` calls: with many of them the sweeps are further apart."""
        if count:
            self.tick.wheel.schedule(
                self._sweep, self.tick.wheel.clock_us() + SWEEP_US * (1 + count // 5000)
            )


cdef int end_call(loop, Style style, to, bytes reply, error) except -1:
    """Tell a call's caller ``reply``, or ``error`` unless it is None."""
    if style == CALLBACK:
        try:
            to(reply, error)
        except BaseException as raised:
            # It concerns nobody else.
            reported(loop, "a call's callback raised", raised)
    elif error is not None:
        if not to.done():
            to.set_exception(error)
    else:
        try:
            to.set_result(reply)
        except InvalidStateError:
            # Cancelled a moment ago.
            pass
    return 0


cdef class Sweep(Timed):
    """Looks after cancelled calls while there are calls."""

    cdef void on_due(self):
        self.client.sweep_calls()
