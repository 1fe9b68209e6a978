"""A java.util.Date as Python has it; the readers of hessian2 and of JSONB make dates with it.

The invariant: every number of milliseconds has a value, whatever a datetime can hold.
"""

from cpython.datetime cimport import_datetime, timedelta_new
from libc.stdint cimport int64_t

from dragoman.wire.java import Date
from dragoman.wire.java.jdk import EPOCH as _EPOCH

import_datetime()

cdef object EPOCH = _EPOCH
# Milliseconds that a datetime can hold: the years 1 to 9999.
cdef int64_t FIRST_MS = -62135596800000, LAST_MS = 253402300799999


cdef object moment_of(int64_t ms):
    """A datetime, or a java.Date if that is beyond it."""
    cdef int64_t days, left
    if not FIRST_MS <= ms <= LAST_MS:
        return Date(ms)
    days = ms // 86400000
    left = ms - days * 86400000
    if left < 0:  # C's division
        left += 86400000
        days -= 1
    return EPOCH + timedelta_new(<int>days, <int>(left // 1000), <int>(left % 1000) * 1000)
