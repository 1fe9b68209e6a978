cimport cython
from cpython.object cimport PyObject
from cpython.pystate cimport PyThreadState, PyThreadState_Get
from libc.stdint cimport int64_t, uint32_t

from dragoman.timers cimport Timed, Wheel


cdef enum:
    # What one connection reads before it waits in line.
    TAKEN_BYTES = 1048576


cdef class Gathering(Timed):
    cdef bint _marked
    # What has been read since it last waited for its turn.
    cdef Py_ssize_t _since_turn
    # Whether it waits for its turn, and since when.
    cdef bint _waits
    cdef int64_t _waits_us

    cdef void flush(self)
    cdef bint has_taken(self, Py_ssize_t n) noexcept
    cdef void take_turn(self)
    cdef void still_here(self)


cdef class Tick:
    cdef readonly object loop
    cdef readonly Wheel wheel
    # Transports that were closed, and still send what was written before.
    cdef readonly set closing
    # It belongs to the process that this one was forked from.
    cdef readonly bint foreign
    # What the thread that runs the loop has noted of that.
    cdef object _running
    cdef object call_soon
    cdef object _flush_method
    cdef list _marked
    cdef bint _scheduled
    # The thread that deals with a read, while it does.
    cdef PyThreadState* _reader
    cdef bint _flushing
    cdef bint _crowded
    cdef int _reads
    cdef int _sparse_ticks
    cdef int64_t _since_us
    cdef int64_t _now_us
    cdef int64_t _moment
    # The slice that is under way: looked at the clock at this moment, over then.
    cdef int64_t _slice_moment
    cdef int64_t _slice_until_us
    cdef object _line
    cdef object _line_method
    cdef bint _line_scheduled
    cdef int64_t _lined_us
    cdef int64_t _told_us
    cdef int64_t _learnt_us
    # Tasks begun that have not run yet, and how many there may be.
    cdef int tasks
    cdef int _tasks_max
    # The request that a handler is answering now, as ``dispatch`` keeps it; None between reads.
    cdef object request_session
    cdef object request_method
    cdef uint32_t request_timeout_ms
    cdef bint request_no_reply
    cdef dict request_metadata
    cdef readonly object read_view
    cdef char* read_buffer
    cdef object _read_owner

    @cython.final
    cdef inline bint here(self) except -1:
        """Whether what lives on the loop may be used where this is called."""
        return self._reader == PyThreadState_Get() or self._look()

    cdef bint _look(self) except -1
    cdef void mark(self, Gathering gathering)
    cdef void read_begins(self) noexcept
    cdef void read_ends(self, int64_t now_us)
    cdef void _flush(self)
    cdef inline int64_t now_us(self)
    cdef void begin_slice(self, int64_t now_us) noexcept
    cdef bint slice_over(self) noexcept
    cdef void line_up(self, Gathering gathering)
    cdef void _learn(self, int64_t now_us) noexcept


cdef int write_to(transport, data) except -1
cpdef Tick tick_of(loop)
