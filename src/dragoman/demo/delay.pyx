"""Hand each thing back after one constant delay, within tens of microseconds.

The demo provider uses it for the 50 ms that its service takes. uvloop's own timers have a grain of
1 ms, so the first of the line is timed by a timerfd. The delay is the same for all, so a queue
suffices and the head is always due first. The invariant: nothing comes back early, and in order.
"""

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, itimerspec, timespec
from posix.unistd cimport close, read

from dragoman.errors import UsageError

import os

cdef extern from "<sys/timerfd.h>" nogil:
    int TFD_CLOEXEC, TFD_NONBLOCK, TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* new, itimerspec* old)


cdef uint64_t monotonic_ns() noexcept nogil:
    """CLOCK_MONOTONIC in nanoseconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec


cdef class Owner:
    """Whom a DelayLine hands back what was put in."""

    cdef int release(self, bytes payload, int count, uint64_t waited_ns) except -1:
        """``payload`` and ``count`` as they were put in, and how long they really waited."""
        return 0


@cython.no_gc_clear
cdef class DelayLine:
    """A queue whose entries come back to their owners ``delay_ns`` after they were put in.

    Must be closed while its loop is not running a callback of it.
    """

    def __cinit__(self):
        self.descriptor = -1
        self.ring = NULL

    def __init__(self, loop, uint64_t delay_ns):
        if not 0 < delay_ns <= 3600 * 1000000000:
            raise UsageError(f"a delay must be over 0 and at most an hour, not {delay_ns} ns")
        self.delay_ns = delay_ns
        self.capacity = 256
        self.ring = <Entry*>malloc(self.capacity * sizeof(Entry))
        if self.ring == NULL:
            raise MemoryError("no memory for a delay line")
        self.descriptor = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(errno, os.strerror(errno))
        self.loop = loop
        loop.add_reader(self.descriptor, self.fire)

    def __dealloc__(self):
        self.drop()
        free(self.ring)
        if self.descriptor >= 0:
            close(self.descriptor)

    cdef drop(self):
        cdef Entry* entry
        while self.length:
            entry = &self.ring[self.head]
            self.head = (self.head + 1) & (self.capacity - 1)
            self.length -= 1
            Py_DECREF(<object>entry.owner)
            Py_DECREF(<object>entry.payload)

    cdef int grow(self) except -1:
        cdef size_t i
        cdef Entry* larger = <Entry*>malloc(2 * self.capacity * sizeof(Entry))
        if larger == NULL:
            raise MemoryError("no memory for a delay line")
        for i in range(self.length):
            larger[i] = self.ring[(self.head + i) & (self.capacity - 1)]
        free(self.ring)
        self.ring = larger
        self.head = 0
        self.capacity *= 2
        return 0

    cdef int put(self, Owner owner, bytes payload, int count) except -1:
        """Hand ``payload`` and ``count`` to ``owner.release`` after the delay, which begins now."""
        cdef Entry* entry
        if self.length == self.capacity:
            self.grow()
        entry = &self.ring[(self.head + self.length) & (self.capacity - 1)]
        Py_INCREF(owner)
        Py_INCREF(payload)
        entry.owner = <PyObject*>owner
        entry.payload = <PyObject*>payload
        entry.count = count
        entry.since_ns = monotonic_ns()
        self.length += 1
        if self.length == 1:
            self.arm()
        return 0

    cdef int arm(self) except -1:
        """Set the timer for the head of the line."""
        cdef itimerspec when
        cdef uint64_t due = self.ring[self.head].since_ns + self.delay_ns
        when.it_interval.tv_sec = 0
        when.it_interval.tv_nsec = 0
        when.it_value.tv_sec = due // 1000000000
        when.it_value.tv_nsec = due % 1000000000
        if timerfd_settime(self.descriptor, TFD_TIMER_ABSTIME, &when, NULL) < 0:
            raise OSError(errno, os.strerror(errno))
        return 0

    def fire(self):
        """Called by the loop when the head is due."""
        cdef uint64_t expirations
        cdef uint64_t now
        cdef Entry entry
        cdef Owner owner
        cdef bytes payload
        read(self.descriptor, &expirations, sizeof(expirations))
        now = monotonic_ns()
        while self.length:
            entry = self.ring[self.head]
            if entry.since_ns + self.delay_ns > now:
                break
            self.head = (self.head + 1) & (self.capacity - 1)
            self.length -= 1
            owner = <Owner>entry.owner
            payload = <bytes>entry.payload
            Py_DECREF(owner)  # the local variables hold them now
            Py_DECREF(payload)
            owner.release(payload, entry.count, now - entry.since_ns)
        if self.length:
            self.arm()

    def __len__(self):
        return self.length

    def close(self):
        """Stop the timer and forget what still waits."""
        if self.descriptor >= 0:
            self.loop.remove_reader(self.descriptor)
            close(self.descriptor)
            self.descriptor = -1
        self.drop()
