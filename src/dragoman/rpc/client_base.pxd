cimport cython
from cpython.object cimport PyObject_Call
from libc.stdint cimport int64_t, uint64_t

from dragoman.rpc.client_session cimport Call, SessionOwner
from dragoman.rpc.tick cimport Tick
from dragoman.timers cimport Timed

cdef enum:
    # How long a cancelled call may go unnoticed.
    SWEEP_US = 20_000
    # Ended calls that a client or a pool retains, to use them again.
    FREE_MAX = 4096


cdef enum Style:
    # How a call ends: its future gets the reply, its callback is called with it, or there is none.
    AWAITED
    CALLBACK
    NOTIFICATION


cdef class ClientBase(SessionOwner):
    cdef object __weakref__
    cdef readonly object loop
    cdef Tick tick
    cdef readonly uint64_t replies
    cdef readonly uint64_t failures
    cdef object _future
    cdef dict _future_with
    cdef int64_t _timeout_us
    # Ended calls that are used again, each with the next one.
    cdef Call _free
    cdef int _free_count
    cdef Sweep _sweep

    cdef int configure(self, timeout_ms, create_future) except -1
    cdef int launch(
        self, Style style, to, method, bytes body, int64_t due_us, bytes order_key, bytes metadata
    ) except -1
    cdef int launch_many(
        self, future, method, list bodies, Py_ssize_t largest, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1
    cdef str what(self)
    cdef int64_t _due(self, timeout_ms) except -1
    cdef void sweep_calls(self)
    cdef void sweep_again(self, int64_t count)

    @cython.final
    cdef inline int check_here(self) except -1:
        if not self.tick.here():
            raise self.tick.misplaced(self.what())
        return 0

    @cython.final
    cdef inline object new_future(self):
        # With a dictionary that is there already, which costs less than any method.
        return PyObject_Call(self._future, (), self._future_with)

    @cython.final
    cdef inline Call reused(self):
        """A call that has ended, to be used again, or None."""
        cdef Call call = self._free
        if call is not None:
            self._free = call.next_free
            call.next_free = None
            self._free_count -= 1
        return call

    @cython.final
    cdef inline void recycle(self, Call call) noexcept:
        """``call`` has ended, and nobody else holds it."""
        if self._free_count < FREE_MAX:
            self._free_count += 1
            call.next_free = self._free
            self._free = call

    @cython.final
    cdef inline void watch(self):
        """Look after cancelled calls from now on."""
        if self._sweep._wheel is None:
            self.tick.wheel.schedule(self._sweep, self.tick.now_us() + SWEEP_US)


cdef int end_call(loop, Style style, to, bytes reply, error) except -1


cdef class Sweep(Timed):
    cdef ClientBase client
