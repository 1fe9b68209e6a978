"""What a loop does once a turn: everything that was gathered in the turn leaves in one write each.

A ``Turn`` is one loop's shared state: its timer wheel, its read buffer, and the list of links that
have something to write. Links mark themselves when their first frame joins their buffer; after the
turn's reads are done, each marked link is flushed once; while reads are few and far between, after
each of them, which spares the loop an iteration. Nothing is ever held back for the sake of a batch:
the flush runs before the loop sleeps again.

What a flush marks in its turn (a connection within the process hands bytes over then, see ``pipe``)
is flushed right after it, a few times over; what is marked then waits for the next iteration.

Invariant: the read buffer holds nothing between two reads; it is handed to one transport's read and
used up before any other code runs.
"""

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

READ_BYTES = 262144

# More reads than this within so many microseconds are a crowd, worth gathering over; a few turns
# with hardly any reads end it.
cdef int CROWD_READS = 4
cdef int64_t CROWD_US = 150
cdef int SPARSE_TURNS = 4
# From a caller's session through a pipe to the provider's connection it is three.
cdef int ROUNDS_MAX = 6

_turns = {}


cdef class Gathering(Timed):
    """Something that gathers writes during a turn."""

    cdef void flush(self):
        """Write what was gathered; must not raise."""


cdef class Turn:
    """The state shared by everything on one loop. Get it with ``turn_of(loop)``."""

    def __cinit__(self, loop):
        cdef unsigned char[::1] view
        self.loop = loop
        self.wheel = Wheel(loop)
        self.call_soon = loop.call_soon
        self._flush_method = self._flush_all
        self._marked = []
        self._scheduled = False
        self._read_owner = bytearray(READ_BYTES)
        view = self._read_owner
        self.read_buffer = <char*>&view[0]
        self.read_view = memoryview(self._read_owner)

    cdef void mark(self, Gathering gathering):
        """Have ``gathering`` flushed at the end of this turn."""
        if gathering._marked:
            return
        gathering._marked = True
        self._marked.append(gathering)
        if not self._reading and not self._scheduled and not self._flushing:
            self._scheduled = True
            self.call_soon(self._flush_method)

    cdef inline int64_t now_us(self):
        """The wheel's time, looked at once a read and once for all that gathers in a turn, and anew
        when a millisecond or so has passed since.
        """
        cdef int64_t moment
        if not self._scheduled and not self._reading:
            return self.wheel.clock_us()
        moment = rough_moment()
        if self._now_us == 0 or moment != self._moment:
            self._now_us = self.wheel.clock_us()
            self._moment = moment
        return self._now_us

    cdef void read_begins(self) noexcept:
        """A protocol has been handed a read; what it marks is flushed by ``read_ends`` or later."""
        self._reading = True

    cdef void read_ends(self, int64_t now_us):
        """The read has been dealt with, at about ``now_us``.

        While reads are few, what they brought leaves at once, in this iteration of the loop. Once
        they crowd, it is gathered over all reads of the iteration.
        """
        self._reading = False
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
            self._sparse_turns = 0
        self._reads = 1
        self._scheduled = True
        self.call_soon(self._flush_method)

    def _flush_all(self):
        """The flush of a turn in which something was gathered."""
        self._scheduled = False
        if self._crowded:
            self._sparse_turns = self._sparse_turns + 1 if self._reads <= 2 else 0
            if self._sparse_turns >= SPARSE_TURNS:
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
                    # No memory, or a transport's fault: the others still have to write.
                    self.loop.call_exception_handler(
                        {"message": "what was gathered could not be written", "exception": error}
                    )
        self._flushing = False
        if self._marked and not self._scheduled:
            self._scheduled = True
            self.call_soon(self._flush_method)


cpdef Turn turn_of(loop):
    """The one ``Turn`` of ``loop``; those of loops that are closed are let go."""
    turn = _turns.get(loop)
    if turn is None:
        for other in [other for other in _turns if other.is_closed()]:
            (<Turn>_turns.pop(other)).wheel.close()
        turn = _turns[loop] = Turn(loop)
    return turn
