"""The end of each tick of a loop: everything that was gathered in it leaves, in one write each.

A ``Tick`` is one loop's shared state: its timer wheel, its read buffer, and the list of links that
have something to write. Links mark themselves when their first frame joins their buffer; after the
tick's reads are done, each marked link is flushed once; while reads are few and far between, after
each of them, which spares the loop an iteration. Nothing is ever held back for the sake of a batch:
the flush runs before the loop sleeps again.

What a flush marks in its tick (a connection within the process hands bytes over then, see ``pipe``)
is flushed right after it, a few times over; what is marked then waits for the next iteration.

A connection that brings more than a few milliseconds of work is dealt with in **slices**, between
which the others are served: it puts the rest by and waits in the tick's line
(``line_up``). Who is not in line is served as its bytes come. Work that was only begun in a slice,
as a task, has not shown yet what it takes: so many may be begun at a time as took no longer. And a
loop reads on from a socket as long as there is something, megabytes of it: after ``TAKEN_BYTES`` a
connection reads no more until it has been in line.

What lives on a loop is used where that runs: in the process that it was made in, on no other loop
and in no other thread (``here``). It is asked at each call, so it costs no more than which thread
this is while a read is dealt with, else a look into the thread's own dictionary, where asyncio
notes the running loop; asking asyncio is a system call in 3.11.

Invariant: the read buffer holds nothing between two reads; it is handed to one transport's read and
used up before any other code runs.
"""

from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from cpython.pystate cimport PyThreadState_Get
from libc.stdint cimport int64_t

from dragoman.timers cimport Timed, Wheel

cdef extern from *:
    """
    #if defined(__x86_64__)
    #include <x86intrin.h>
    /* Another number after four million cycles of the processor: cheaper than the clock. */
    static inline long long rough_moment(void) { return (long long)(__rdtsc() >> 22); }
    #else
    #include <time.h>
    /* Another number after a tick of the kernel. */
    static inline long long rough_moment(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }
    #endif
    """
    int64_t rough_moment() nogil

cdef extern from "Python.h":
    # Borrowed; NULL if there is none.
    PyObject* PyThreadState_GetDict() noexcept

import os
from asyncio import _get_running_loop
from collections import deque

from dragoman.errors import UsageError
from dragoman.forking import foreign

READ_BYTES = 262144

# More reads than this within so many microseconds are a crowd, worth gathering over; a few ticks
# with hardly any reads end it.
cdef int CROWD_READS = 4
cdef int64_t CROWD_US = 150
cdef int SPARSE_TICKS = 4
# From a caller's session through a pipe to the provider's connection it is three.
cdef int ROUNDS_MAX = 6

# What one connection may take of a tick; what it may when others wait in line.
cdef int64_t SLICE_US = 2_000
cdef int64_t SHARE_US = 1_000
# Tasks begun at a time: at first, and at most; what is known of them is forgotten after a while.
cdef int TASKS_FIRST = 16
cdef int TASKS_MOST = 256
cdef int64_t FORGET_US = 100_000
# A session that waits so long in line shows its peer that it lives.
cdef int64_t TELL_US = 200_000

# Where asyncio notes which loop runs in a thread.
cdef str RUNNING = "__asyncio_running_event_loop__"
NOTHING = object()
CLOSED = "the handler is closed"

_ticks = {}


cdef class Gathering(Timed):
    """Something that gathers writes during a tick."""

    cdef void flush(self):
        """Write what was gathered; must not raise."""

    cdef bint has_taken(self, Py_ssize_t n) noexcept:
        """``n`` more bytes have been read: whether that is all for now. It is then to stop reading
        until it has had its turn (``Tick.line_up``)."""
        self._since_turn += n
        if self._since_turn < TAKEN_BYTES:
            return False
        self._since_turn = 0
        return True

    cdef void take_turn(self):
        """Go on with what was put by, for a slice, and with reading."""

    cdef void still_here(self):
        """It has waited in line for a while: its peer is to hear something."""


cdef class Tick:
    """The state shared by everything on one loop. Get it with ``tick_of(loop)``."""

    def __cinit__(self, loop):
        cdef unsigned char[::1] view
        self.loop = loop
        self._running = NOTHING
        self.wheel = Wheel(loop)
        self.call_soon = loop.call_soon
        self._flush_method = self._flush_all
        self._marked = []
        self.closing = set()
        self._scheduled = False
        self._line = deque()
        self._line_method = self._run_line
        self._tasks_max = TASKS_FIRST
        self._read_owner = bytearray(READ_BYTES)
        view = self._read_owner
        self.read_buffer = <char*>&view[0]
        self.read_view = memoryview(self._read_owner)

    cdef bint _look(self) except -1:
        """``here``, when it is not in the midst of a read."""
        cdef PyObject* noted = PyThreadState_GetDict()
        if noted != NULL:
            noted = PyDict_GetItemWithError(<object>noted, RUNNING)
        if self.foreign:
            return False
        if noted == <PyObject*>self._running:
            return True
        running = _get_running_loop()
        if running is self.loop:
            if noted != NULL:
                self._running = <object>noted
            return True
        # Where none runs a call may be made that the loop is then run for.
        return running is None and not self.loop.is_running() and not self.loop.is_closed()

    def check(self, what):
        """Raise UsageError where ``what``, which lives on the loop, must not be used."""
        if not self.here():
            raise self.misplaced(what)

    def misplaced(self, what):
        """The error of whoever uses ``what``, which lives on the loop, where it must not."""
        if self.foreign:
            return foreign(what)
        if self.loop.is_closed():
            return UsageError(f"{what} belongs to an event loop that is closed: make one on each")
        if _get_running_loop() is None:
            return UsageError(
                f"{what} belongs to an event loop that runs in another thread: "
                "connect_sync makes one for threads"
            )
        return UsageError(f"{what} belongs to another event loop: make one on each")

    cdef void mark(self, Gathering gathering):
        """Have ``gathering`` flushed at the end of this tick."""
        if gathering._marked:
            return
        gathering._marked = True
        self._marked.append(gathering)
        if self._reader == NULL and not self._scheduled and not self._flushing:
            self._scheduled = True
            self.call_soon(self._flush_method)

    cdef inline int64_t now_us(self):
        """The wheel's time, looked at once a read and once for all that gathers in a tick, and anew
        when a millisecond or so has passed since.
        """
        cdef int64_t moment
        if not self._scheduled and self._reader == NULL:
            return self.wheel.clock_us()
        moment = rough_moment()
        if self._now_us == 0 or moment != self._moment:
            self._now_us = self.wheel.clock_us()
            self._moment = moment
        return self._now_us

    cdef void begin_slice(self, int64_t now_us) noexcept:
        """A connection begins to deal with what it has, at about ``now_us``."""
        self._slice_moment = rough_moment()
        self._slice_until_us = now_us + (SHARE_US if self._line_scheduled else SLICE_US)
        self.tasks = 0

    cdef bint slice_over(self) noexcept:
        """Whether it is to stop for now; asked after each request."""
        cdef int64_t moment
        if self.tasks >= self._tasks_max:
            return True
        # The clock itself is looked at a few times in a slice.
        moment = rough_moment()
        if moment == self._slice_moment:
            return False
        self._slice_moment = moment
        return self.wheel.clock_us() >= self._slice_until_us

    cdef void line_up(self, Gathering gathering):
        """Have ``gathering.take_turn`` called when those in line before it have had theirs."""
        if gathering._waits:
            return
        gathering._waits = True
        gathering._waits_us = self.wheel.clock_us()
        self._line.append(gathering)
        if not self._line_scheduled:
            self._line_scheduled = True
            self._lined_us = gathering._waits_us
            self.call_soon(self._line_method)

    cdef void _learn(self, int64_t now_us) noexcept:
        """Decide how many may be begun next: those begun when the line was formed have run."""
        cdef int64_t took_us = now_us - self._lined_us
        if now_us - self._learnt_us > FORGET_US:
            self._tasks_max = TASKS_FIRST
        if self.tasks:
            self._learnt_us = now_us
            if took_us > SLICE_US:
                self._tasks_max = max(1, <int>(self.tasks * SLICE_US // took_us))
            elif self.tasks >= self._tasks_max and took_us * 2 < SLICE_US:
                self._tasks_max = min(TASKS_MOST, self._tasks_max * 2)

    def _run_line(self):
        """Once a tick, while somebody is in line: as many as there is time for."""
        cdef Gathering gathering
        cdef int64_t now_us = self.wheel.clock_us()
        cdef int64_t until_us = now_us + SLICE_US
        cdef Py_ssize_t left = len(self._line)
        self._learn(now_us)
        self.tasks = 0
        self._reader = PyThreadState_Get()
        try:
            while left:
                left -= 1
                gathering = self._line.popleft()
                gathering._waits = False
                self._slice_moment = rough_moment()
                self._slice_until_us = now_us + (SHARE_US if self._line else SLICE_US)
                gathering.take_turn()
                now_us = self.wheel.clock_us()
                if now_us >= until_us or self.tasks >= self._tasks_max:
                    break
            if now_us - self._told_us > TELL_US:
                self._told_us = now_us
                for gathering in self._line:
                    if now_us - gathering._waits_us > TELL_US:
                        gathering.still_here()
        finally:
            # As after a read, so that what has been answered leaves.
            self.read_ends(now_us)
            self._line_scheduled = len(self._line) > 0
            if self._line_scheduled:
                self._lined_us = now_us
                self.call_soon(self._line_method)

    cdef void read_begins(self) noexcept:
        """A protocol has been handed a read; what it marks is flushed by ``read_ends`` or later."""
        self._reader = PyThreadState_Get()

    cdef void read_ends(self, int64_t now_us):
        """The read has been dealt with, at about ``now_us``.

        While reads are few, what they brought leaves at once, in this iteration of the loop. Once
        they crowd, it is gathered over all reads of the iteration.
        """
        self._reader = NULL
        if self._scheduled:
            self._reads += 1
            return
        if not self._marked:
            self._reads += 1
            self._now_us = 0
            return
        if not self._crowded:
            if now_us - self._since_us > CROWD_US:
                self._since_us = now_us
                self._reads = 0
            self._reads += 1
            if self._reads <= CROWD_READS:
                self._flush()
                return
            self._crowded = True
            self._sparse_ticks = 0
        self._reads = 1
        self._scheduled = True
        self.call_soon(self._flush_method)

    def _flush_all(self):
        """The flush of a tick in which something was gathered."""
        self._scheduled = False
        if self._crowded:
            self._sparse_ticks = self._sparse_ticks + 1 if self._reads <= 2 else 0
            if self._sparse_ticks >= SPARSE_TICKS:
                self._crowded = False
        self._reads = 0
        self._flush()

    cdef void _flush(self):
        cdef list marked
        cdef Gathering gathering
        cdef int rounds = 0
        self._now_us = 0
        self._flushing = True
        while self._marked and rounds < ROUNDS_MAX:
            marked = self._marked
            self._marked = []
            rounds += 1
            for gathering in marked:
                gathering._marked = False
                try:
                    gathering.flush()
                except Exception as error:
                    if CLOSED in str(error):
                        # What uvloop says of a transport whose ``connection_lost`` comes next, and
                        # whose ``is_closing`` does not always say it before.
                        continue
                    # No memory, or a transport's fault: the others still have to write.
                    self.loop.call_exception_handler(
                        {"message": "what was gathered could not be written", "exception": error}
                    )
        self._flushing = False
        if self._marked and not self._scheduled:
            self._scheduled = True
            self.call_soon(self._flush_method)


cdef int write_to(transport, data) except -1:
    """Write, unless the connection is gone: ``connection_lost`` comes next, and until then uvloop
    raises what asyncio ignores."""
    if not transport.is_closing():
        transport.write(data)
    return 0


cpdef Tick tick_of(loop):
    """The one ``Tick`` of ``loop``; those of loops that are closed are let go."""
    tick = _ticks.get(loop)
    if tick is None:
        for other in [other for other in _ticks if other.is_closed()]:
            (<Tick>_ticks.pop(other)).wheel.close()
        tick = _ticks[loop] = Tick(loop)
    return tick


def _in_child():
    """Nothing that was made before the fork is this process's: its loops, and so what lives on
    them, stay known as the parent's.
    """
    cdef Tick tick
    for tick in _ticks.values():
        tick.foreign = True
        tick._reader = NULL


os.register_at_fork(after_in_child=_in_child)
