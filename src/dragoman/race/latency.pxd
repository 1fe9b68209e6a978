from libc.stdint cimport int64_t, uint64_t


cdef enum:
    SUB_BITS = 7                      # 128 buckets an octave: within 0.8 %
    BUCKETS = (64 - SUB_BITS) << SUB_BITS


cdef class LatencyHistogram:
    cdef uint64_t counts[BUCKETS]
    cdef readonly uint64_t count
    cdef uint64_t least
    cdef uint64_t most
    cdef double sum
    cdef void record(self, int64_t nanoseconds) noexcept
    cdef void clear(self) noexcept
    cdef double at(self, double fraction) noexcept
