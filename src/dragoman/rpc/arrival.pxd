from libc.stdint cimport int64_t, uint64_t

from dragoman.rpc.tick cimport Gathering
from dragoman.timers cimport Timed, Wheel

cdef struct Progress:
    # A number of its own for each frame that comes in pieces, its bytes that have come, and all.
    uint64_t frame
    size_t have
    size_t length
    # False while it is we who do not read.
    bint reading


cdef class Arriving(Gathering):
    cdef Watch _watch

    cdef void frame_begun(self, Wheel wheel)
    cdef void _watch_frame(self, Wheel wheel)
    cdef bint frame_is_late(self)
    cdef void end_watch(self) noexcept
    cdef bint progress(self, Progress* frame) noexcept
    cdef void on_stalled(self, str why)
    cdef bint on_watched(self)


cdef class Watch(Timed):
    cdef Arriving owner
    cdef Wheel wheel
    cdef uint64_t frame
    cdef int64_t began_us
    cdef size_t began_have
    cdef int64_t window_us
    cdef size_t window_have
    cdef int64_t ticked_us

    cdef void begin(self, Progress* frame, int64_t now)
