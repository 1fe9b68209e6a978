"""The bounded queue of requests that wait for a credit, earliest deadline first.

Admission sheds before it refuses: up to half of the bound everything is admitted, from there a
growing proportion of newcomers is turned away, at the bound all. The proportion is exact (error
diffusion), not drawn, so that a test and an operator see the same thing. Called by ``cluster``.

Invariant: a binary heap by (deadline, arrival); each waiter knows its place, so withdrawing costs a
logarithm.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from dragoman.timers cimport Timed


cdef class Waiter(Timed):
    """Something that waits; ``queue`` is None unless it does."""


cdef class WaitingQueue:
    """At most ``maximum`` waiters."""

    def __cinit__(self, Py_ssize_t maximum):
        if maximum < 0:
            raise ValueError(f"a queue's maximum cannot be negative: {maximum}")
        self.maximum = maximum

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self._size):
            Py_DECREF(<object>self._heap[i].waiter)
        free(self._heap)

    cdef bint admit(self) noexcept:
        """Whether a newcomer may wait; counts those turned away."""
        cdef Py_ssize_t half = self.maximum // 2
        if self.live < half:
            self._due_drops = 0.0
            return True
        if self.live < self.maximum:
            self._due_drops += <double>(self.live - half) / (self.maximum - half)
            if self._due_drops < 1.0:
                return True
            self._due_drops -= 1.0
        self.shed += 1
        return False

    cdef int push(self, Waiter waiter, int64_t due_us) except -1:
        """Let ``waiter`` wait until its turn or ``due_us``, whichever its owner acts upon first."""
        cdef Py_ssize_t capacity
        cdef Place* heap
        if self._size == self._capacity:
            capacity = self._capacity * 2 if self._capacity else 64
            heap = <Place*>realloc(self._heap, capacity * sizeof(Place))
            if heap == NULL:
                raise MemoryError
            self._heap = heap
            self._capacity = capacity
        self._order += 1
        self._heap[self._size].due_us = due_us
        self._heap[self._size].order = self._order
        self._heap[self._size].waiter = <PyObject*>waiter
        Py_INCREF(waiter)
        waiter.queue = self
        waiter.place = self._size
        self._size += 1
        self.live = self._size
        self._up(self._size - 1)
        return 0

    cdef Waiter pop(self):
        """The waiter with the earliest deadline, no longer waiting; None when nobody waits."""
        cdef Waiter waiter
        if self._size == 0:
            return None
        waiter = <Waiter>self._heap[0].waiter
        self._remove(0)
        return waiter

    cdef Waiter head(self):
        """The one that ``pop`` would give, or None."""
        return <Waiter>self._heap[0].waiter if self._size else None

    cdef Waiter at(self, Py_ssize_t i):
        """One of the waiters, in no order; ``i`` from 0 to ``live`` - 1."""
        return <Waiter>self._heap[i].waiter

    cdef void withdraw(self, Waiter waiter):
        """``waiter`` waits no longer; nothing happens if it did not."""
        if waiter.queue is self:
            self._remove(waiter.place)

    cdef void _remove(self, Py_ssize_t i) noexcept:
        cdef Waiter waiter = <Waiter>self._heap[i].waiter
        waiter.queue = None
        self._size -= 1
        self.live = self._size
        if i < self._size:
            self._heap[i] = self._heap[self._size]
            (<Waiter>self._heap[i].waiter).place = i
            self._down(i)
            self._up(i)
        Py_DECREF(waiter)

    cdef void _up(self, Py_ssize_t i) noexcept:
        cdef Place moving = self._heap[i]
        cdef Py_ssize_t parent
        while i > 0:
            parent = (i - 1) // 2
            if not before(&moving, &self._heap[parent]):
                break
            self._heap[i] = self._heap[parent]
            (<Waiter>self._heap[i].waiter).place = i
            i = parent
        self._heap[i] = moving
        (<Waiter>moving.waiter).place = i

    cdef void _down(self, Py_ssize_t i) noexcept:
        cdef Place moving = self._heap[i]
        cdef Py_ssize_t child
        while True:
            child = 2 * i + 1
            if child >= self._size:
                break
            if child + 1 < self._size and before(&self._heap[child + 1], &self._heap[child]):
                child += 1
            if not before(&self._heap[child], &moving):
                break
            self._heap[i] = self._heap[child]
            (<Waiter>self._heap[i].waiter).place = i
            i = child
        self._heap[i] = moving
        (<Waiter>moving.waiter).place = i

    def offer(self, waiter, int64_t due_us):
        """``admit`` and ``push`` in one, for Python callers; False when turned away."""
        if not self.admit():
            return False
        self.push(waiter, due_us)
        return True

    def next(self):
        """``pop`` for Python callers."""
        return self.pop()

    def remove(self, waiter):
        """``withdraw`` for Python callers."""
        self.withdraw(waiter)

    def __len__(self):
        return self._size


cdef inline bint before(Place* a, Place* b) noexcept:
    if a.due_us != b.due_us:
        return a.due_us < b.due_us
    return a.order < b.order
