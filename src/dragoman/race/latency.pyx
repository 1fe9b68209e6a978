"""A histogram of latencies with buckets of equal relative width, as HdrHistogram's.

The load generator records every request in one. Below 128 ns each value has a bucket of its own;
above, each doubling has 128 buckets, so a percentile is within 0.8 % of the true value. The
invariant: ``count`` is the sum of ``counts``; minimum, maximum and mean are exact.
"""

from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    int top_bit "63 - __builtin_clzll"(unsigned long long value) noexcept nogil


cdef int bucket(uint64_t value) noexcept nogil:
    cdef int octave
    if value < 1 << SUB_BITS:
        return <int>value
    octave = top_bit(value) - SUB_BITS
    return ((octave + 1) << SUB_BITS) + <int>((value >> octave) & ((1 << SUB_BITS) - 1))


cdef double middle(int index) noexcept nogil:
    """The middle of a bucket."""
    cdef int octave = (index >> SUB_BITS) - 1
    cdef uint64_t low
    if octave < 0:
        return index
    low = (<uint64_t>((index & ((1 << SUB_BITS) - 1)) | (1 << SUB_BITS))) << octave
    return low + ((<uint64_t>1 << octave) - 1) / 2.0


cdef class LatencyHistogram:
    """Latencies in nanoseconds; ``summary`` gives them in milliseconds."""

    def __cinit__(self):
        self.clear()

    cdef void clear(self) noexcept:
        memset(self.counts, 0, sizeof(self.counts))
        self.count = 0
        self.least = UINT64_MAX
        self.most = 0
        self.sum = 0

    cdef void record(self, int64_t nanoseconds) noexcept:
        cdef uint64_t value = <uint64_t>nanoseconds if nanoseconds > 0 else 0
        self.counts[bucket(value)] += 1
        self.count += 1
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value

    cdef double at(self, double fraction) noexcept:
        cdef uint64_t rank = <uint64_t>(fraction * self.count + 0.5)
        cdef uint64_t seen = 0
        cdef int i
        if rank < 1:
            rank = 1
        for i in range(BUCKETS):
            seen += self.counts[i]
            if seen >= rank:
                return min(max(middle(i), <double>self.least), <double>self.most)
        return self.most

    def add(self, nanoseconds):
        """Record one latency (for tests)."""
        self.record(nanoseconds)

    def percentile(self, fraction):
        """The latency in nanoseconds that the ``fraction`` of all are not above.

        0 if there are none.
        """
        return self.at(fraction) if self.count else 0.0

    def summary(self):
        """Mean, min, max and percentiles in milliseconds; all 0 without a request."""
        if not self.count:
            return dict.fromkeys(("mean", "min", "max", "p50", "p90", "p99", "p99_9"), 0.0)
        return {
            "mean": round(self.sum / self.count / 1e6, 4),
            "min": round(self.least / 1e6, 4),
            "max": round(self.most / 1e6, 4),
            "p50": round(self.at(0.5) / 1e6, 4),
            "p90": round(self.at(0.9) / 1e6, 4),
            "p99": round(self.at(0.99) / 1e6, 4),
            "p99_9": round(self.at(0.999) / 1e6, 4),
        }
