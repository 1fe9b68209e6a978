from libc.stdint cimport int64_t

from dragoman.flow.credits cimport CreditPool
from dragoman.timers cimport Wheel


cdef class LearnedLimit:
    cdef CreditPool pool
    cdef Wheel wheel
    cdef readonly bint sharing
    cdef public int limit_max
    # Replies while the limit was used in full, and how many limits of them it takes to raise it.
    cdef int64_t _full_use
    cdef int _patience
    cdef bint _was_rejected
    # Where several processes share a provider: when the limit was lowered last, what it was then,
    # and how long to keep below that.
    cdef int64_t _lowered_us
    cdef int _ceiling
    cdef int64_t _hold_us

    cdef void answered(self, Py_ssize_t in_progress)
    cdef void rejected(self, Py_ssize_t in_progress, int64_t sent_us)
    cdef void _share_answered(self)
    cdef void _share_rejected(self, int64_t sent_us)
    cdef void _set(self, int limit)
