"""One timer wheel a loop: a deadline for every request at the cost of two pointer writes.

The loop's own timers cost a heap operation and an object each; nearly all of ours are cancelled
before they are due. Here each is a node of a doubly linked list hung into the slot of its tick, and
one loop timer drives the wheel, from one used slot to the next. The grain is 5 ms: a timer fires
within two grains after it is due (and what the loop itself is late), never before. Called by
sessions, links and the agents' connections.

Invariant: a ``Timed`` is armed exactly while ``_wheel`` is not None, and then the wheel owns a
reference.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef int64_t TICK_US = 5000
cdef Py_ssize_t SLOTS = 4096  # times 5 ms: 20 s a round; what is due later waits in its slot
cdef Py_ssize_t MASK = 4095
cdef int64_t AHEAD = 2000  # ticks: ten seconds
cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF


cdef int64_t now_us() noexcept nogil:
    """Microseconds of CLOCK_MONOTONIC."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000 + t.tv_nsec // 1000


cdef class Timed:
    """Something that may be due. Subclasses override ``on_due``; it must not raise."""

    def __cinit__(self):
        self._previous = NULL
        self._next = NULL

    cdef void on_due(self):
        """Called once when the time has come; the timer is no longer armed then."""


cdef class Wheel:
    """The timers of one loop. Not thread-safe, like its loop."""

    def __cinit__(self, loop):
        self._loop = loop
        self._handle = None
        self._tick_method = self._on_tick
        self._slots = <PyObject**>calloc(SLOTS, sizeof(PyObject*))
        if self._slots == NULL:
            raise MemoryError
        self._firing = NULL
        self.armed = 0
        # A loop of simulated time brings its own clock; every other runs on CLOCK_MONOTONIC.
        self._virtual = getattr(loop, "virtual_time", False)
        self._tick = self.clock_us() // TICK_US
        self._wake_tick = NEVER

    def __dealloc__(self):
        free(self._slots)

    cdef int64_t clock_us(self):
        """The time in microseconds on this loop's clock."""
        if self._virtual:
            return <int64_t>(<double>self._loop.time() * 1e6)
        return now_us()

    cdef void schedule(self, Timed timed, int64_t due_us):
        """Arm ``timed`` (or move it, if armed already) to fire at ``due_us`` of this clock."""
        cdef int64_t due_tick = due_us // TICK_US + 1
        cdef PyObject** slot
        if timed._wheel is not None:
            timed._wheel.cancel(timed)
        if self.armed == 0:
            self._tick = self.clock_us() // TICK_US
        if due_tick <= self._tick:
            due_tick = self._tick + 1
        timed.due_tick = due_tick
        slot = &self._slots[due_tick & MASK]
        timed._previous = NULL
        timed._next = slot[0]
        if slot[0] != NULL:
            (<Timed>slot[0])._previous = <PyObject*>timed
        slot[0] = <PyObject*>timed
        timed._wheel = self
        Py_INCREF(timed)
        self.armed += 1
        if due_tick < self._wake_tick:
            self._sleep_until(due_tick)

    cdef void _sleep_until(self, int64_t tick):
        """Have the loop call at ``tick``, instead of when it was to call before."""
        cdef int64_t delay_us
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._wake_tick = tick
        if self.closed:
            return
        delay_us = tick * TICK_US - self.clock_us()
        self._handle = self._loop.call_later(
            (delay_us if delay_us > 0 else 0) / 1e6, self._tick_method
        )

    cdef void cancel(self, Timed timed) noexcept:
        """Disarm ``timed``; nothing happens if it is not armed."""
        if timed._wheel is None:
            return
        self._unlink(timed)
        Py_DECREF(timed)

    cdef void _unlink(self, Timed timed) noexcept:
        if timed._previous != NULL:
            (<Timed>timed._previous)._next = timed._next
        else:
            self._slots[timed.due_tick & MASK] = timed._next
        if timed._next != NULL:
            (<Timed>timed._next)._previous = timed._previous
        if self._firing == <PyObject*>timed:
            self._firing = timed._next
        timed._previous = NULL
        timed._next = NULL
        timed._wheel = None
        self.armed -= 1

    cdef int _fire_slot(self, Py_ssize_t slot) except -1:
        cdef Timed timed
        self._firing = self._slots[slot]
        while self._firing != NULL:
            timed = <Timed>self._firing
            self._firing = timed._next
            if timed.due_tick <= self._tick:
                self._unlink(timed)
                try:
                    timed.on_due()
                except Exception as error:
                    # The other timers of this loop depend on this one's manners.
                    self._loop.call_exception_handler(
                        {"message": "a timer raised", "exception": error}
                    )
                Py_DECREF(timed)
        return 0

    def _on_tick(self):
        cdef int64_t now_tick = self.clock_us() // TICK_US
        cdef int64_t ahead
        self._handle = None
        # While slots fire, whatever they arm is looked at below.
        self._wake_tick = 0
        # After a long pause of the process one round visits every slot.
        if now_tick - self._tick > SLOTS:
            self._tick = now_tick - SLOTS
        while self._tick < now_tick and self.armed:
            self._tick += 1
            self._fire_slot(self._tick & MASK)
        self._wake_tick = NEVER
        if self.armed:
            # Sleep until the next slot that holds anything, but look again within AHEAD ticks.
            for ahead in range(1, AHEAD):
                if self._slots[(self._tick + ahead) & MASK] != NULL:
                    break
            else:
                ahead = AHEAD
            self._sleep_until(self._tick + ahead)

    def close(self):
        """Stop driving the wheel: nothing more fires, and what was armed is let go."""
        cdef Py_ssize_t slot
        self.closed = True
        for slot in range(SLOTS):
            while self._slots[slot] != NULL:
                self.cancel(<Timed>self._slots[slot])
        self._wake_tick = NEVER
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


cdef class _Callback(Timed):
    cdef object callback

    cdef void on_due(self):
        self.callback()


def call_at_us(Wheel wheel, int64_t due_us, callback):
    """Arm a Python callback; returns the ``Timed`` to pass to ``cancel``. For cold paths and tests.
    """
    cdef _Callback timed = _Callback()
    timed.callback = callback
    wheel.schedule(timed, due_us)
    return timed


def cancel(Timed timed not None):
    """Disarm what ``call_at_us`` returned."""
    if timed._wheel is not None:
        timed._wheel.cancel(timed)


def move(Wheel wheel not None, Timed timed not None, int64_t due_us):
    """Arm ``timed`` anew for another time, whether it is armed now or not."""
    wheel.schedule(timed, due_us)


def clock_us(Wheel wheel not None):
    """The wheel's time in microseconds."""
    return wheel.clock_us()
