"""The way from any thread to a client's loop and back, for ``rpc.sync``.

A thread puts its call into the ``Inbox`` and waits for its ``Waiter``. The loop is woken once for
whatever has gathered; it makes the calls through the client as a program on the loop would, but the
client puts the replies straight into the waiters: no task, no asyncio future.

Invariants: what was put in ends exactly once; nothing is put in after the inbox was closed, and
nothing that was put in before stays there: compiled code keeps the interpreter's lock from looking
at ``_refusal`` to putting in, and what the loop could not be woken for ends with it (``end``).
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_SIZE
from cpython.pythread cimport PyThread_get_thread_ident

import threading
from collections import deque

from dragoman.errors import UsageError

# Waiters that are kept to be used again.
cdef Py_ssize_t FREE_MAX = 256
# A signal that comes as the thread is about to block does not wake it: it looks so often.
cdef double SIGNALS_S = 1.0
_new_lock = threading.Lock


cdef class Waiter:
    """A call that a thread waits for. The client takes it for the future of the call."""

    cdef object _lock
    cdef object _result
    cdef object _error
    cdef bint _done
    cdef bint _cancelled
    cdef object function
    cdef object method
    cdef object body
    cdef object timeout_ms
    cdef object order_key
    cdef object metadata
    cdef object future

    def __cinit__(self):
        self._lock = _new_lock()
        self._lock.acquire()

    # What the client does with a future, on the loop

    def done(self):
        """Whether it has ended."""
        return self._done or self._cancelled

    def cancelled(self):
        """Whether nobody waits any more."""
        return self._cancelled

    def set_result(self, result):
        """The reply, or the replies."""
        if not self._done:
            self._done = True
            self._result = result
            self._lock.release()

    def set_exception(self, error):
        """It has failed."""
        if not self._done:
            self._done = True
            self._error = error
            self._lock.release()

    # What the thread does

    def cancel(self):
        """Wait no more; the client withdraws the call within about 20 ms."""
        self._cancelled = True

    def wait(self):
        """The result, or raise the error, as soon as there is one. Once only. Whatever interrupts
        the waiting (a KeyboardInterrupt) cancels the call.
        """
        cdef object error
        try:
            while not self._lock.acquire(True, SIGNALS_S):
                PyErr_CheckSignals()
        except BaseException:
            self._cancelled = True
            raise
        if self._error is not None:
            error = self._error
            self._error = None
            raise error
        result = self._result
        self._result = None
        return result


cdef class Inbox:
    """Calls on their way to ``loop``. ``bind`` says to which client, on the loop."""

    cdef object _loop
    cdef object _wake
    cdef object _take_all
    cdef object _entries
    cdef bint _woken
    cdef object _client_call
    cdef object _client_call_many
    cdef object _client_notify
    cdef Waiter _launching
    cdef object _refusal
    cdef bint _ended
    cdef list _free
    cdef unsigned long _thread

    def __init__(self, loop):
        self._loop = loop
        self._wake = loop.call_soon_threadsafe
        self._take_all = self.take_all
        self._entries = deque()
        self._free = []

    def bind(self, client):
        """Calls go to ``client``, whose loop runs in this thread."""
        self._client_call = client.call
        self._client_call_many = client.call_many
        self._client_notify = client.notify
        self._thread = PyThread_get_thread_ident()

    def create_future(self):
        """The future of the call that is being made, for the client."""
        cdef Waiter waiter = self._launching
        if waiter is None:
            return self._loop.create_future()
        self._launching = None
        return waiter if waiter.future is None else waiter.future

    def close(self, make_error):
        """From now on whatever is put in fails with what ``make_error()`` gives."""
        self._refusal = make_error
        # The thread ends, and another may get its identity.
        self._thread = 0

    cdef int _put(self, Waiter waiter) except -1:
        if self._refusal is not None:
            raise self._refusal()
        self._entries.append(waiter)
        if not self._woken:
            self._woken = True
            try:
                self._wake(self._take_all)
            except RuntimeError:
                # The loop was closed meanwhile: to look at its own debug mode, or by a collection
                # of garbage, waking runs Python code. ``end`` ends what waits here.
                pass
        if self._ended:
            self.end()
        return 0

    def end(self):
        """The loop is closed: what has come too late to be taken fails."""
        cdef Waiter waiter
        self._ended = True
        entries = self._entries
        while entries:
            waiter = <Waiter>entries.popleft()
            (waiter if waiter.future is None else waiter.future).set_exception(self._refusal())

    cdef Waiter _waiter(self, function, method, body, timeout_ms, order_key, metadata=None):
        cdef Waiter waiter
        if PyList_GET_SIZE(self._free):
            waiter = <Waiter>self._free.pop()
            waiter._done = False
        else:
            waiter = Waiter.__new__(Waiter)
        waiter.function = function
        waiter.method = method
        waiter.body = body
        waiter.timeout_ms = timeout_ms
        waiter.order_key = order_key
        waiter.metadata = metadata
        return waiter

    cdef int _check_thread(self) except -1:
        if PyThread_get_thread_ident() == self._thread:
            raise UsageError("a callback on the client's own thread cannot wait for a call")
        return 0

    def call(self, method, body, timeout_ms, order_key, metadata=None):
        """``Client.call`` from any thread; waits for the reply."""
        cdef Waiter waiter
        self._check_thread()
        waiter = self._waiter(self._client_call, method, body, timeout_ms, order_key, metadata)
        self._put(waiter)
        reply = waiter.wait()
        if PyList_GET_SIZE(self._free) < FREE_MAX:
            self._free.append(waiter)
        return reply

    def call_many(self, method, bodies, timeout_ms, order_key, metadata=None):
        """``Client.call_many`` from any thread; waits for the replies."""
        cdef Waiter waiter
        self._check_thread()
        waiter = self._waiter(
            self._client_call_many, method, bodies, timeout_ms, order_key, metadata
        )
        self._put(waiter)
        return waiter.wait()

    def notify(self, method, body, timeout_ms, order_key, metadata=None):
        """``Client.notify`` from any thread; waits until the client has taken it."""
        cdef Waiter waiter
        self._check_thread()
        waiter = self._waiter(self._client_notify, method, body, timeout_ms, order_key, metadata)
        self._put(waiter)
        waiter.wait()

    def start(self, method, body, timeout_ms, order_key, metadata=None):
        """Begin a call; returns its Waiter."""
        cdef Waiter waiter
        waiter = self._waiter(self._client_call, method, body, timeout_ms, order_key, metadata)
        self._put(waiter)
        return waiter

    def submit(self, future, method, body, timeout_ms, order_key, metadata=None):
        """Begin a call that ends in ``future``, which must take a result after it was cancelled."""
        cdef Waiter waiter = Waiter.__new__(Waiter)
        waiter.function = self._client_call
        waiter.method = method
        waiter.body = body
        waiter.timeout_ms = timeout_ms
        waiter.order_key = order_key
        waiter.metadata = metadata
        waiter.future = future
        self._put(waiter)

    def take_all(self):
        """Make every call that is here; on the loop."""
        cdef Waiter waiter
        cdef object function
        self._woken = False
        entries = self._entries
        while entries:
            waiter = <Waiter>entries.popleft()
            if waiter._cancelled:
                continue
            function = waiter.function
            self._launching = waiter
            try:
                if waiter.metadata is None:
                    result = function(
                        waiter.method, waiter.body,
                        timeout_ms=waiter.timeout_ms, order_key=waiter.order_key,
                    )
                else:
                    result = function(
                        waiter.method, waiter.body, timeout_ms=waiter.timeout_ms,
                        order_key=waiter.order_key, metadata=waiter.metadata,
                    )
            except BaseException as error:
                (waiter if waiter.future is None else waiter.future).set_exception(error)
            else:
                if self._launching is waiter:
                    # It asked for no future: that was all.
                    waiter.set_result(result)
            self._launching = None
            waiter.body = None
            waiter.function = None
