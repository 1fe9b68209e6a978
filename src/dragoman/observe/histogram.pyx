"""A histogram of durations, cheap enough to be recorded into for every request.

Hot classes hold one, ``cimport`` it and call ``record_us``: a few integer operations, no
allocation, no lock. Buckets are log-linear (32 to the octave), so a quantile is off by at most
1/64, and ``merge`` of many workers' histograms is exact. The invariant: ``count`` is the sum of all
buckets.

Bucket 0 holds what is below 1 us; bucket ``1 + 32 * k + s`` holds ``[2**k * (1 + s/32), 2**k * (1 +
(s+1)/32))`` us; the last one also everything from 2**30 us.
"""

from libc.string cimport memset


cdef class Histogram:
    """Durations in microseconds. ``count``, ``sum_us``, ``min_us`` and ``max_us`` are exact."""

    def __cinit__(self):
        self.clear()

    def record(self, double value_us):
        """Record one duration (for callers in Python; compiled ones use ``record_us``)."""
        self.record_us(value_us)

    def clear(self):
        """Forget everything."""
        self.count = 0
        self.sum_us = 0.0
        self.min_us = 0.0
        self.max_us = 0.0
        memset(self.buckets, 0, sizeof(self.buckets))

    def merge(self, Histogram other not None):
        """Add all that ``other`` has recorded."""
        cdef int i
        if other.count == 0:
            return
        if self.count == 0 or other.min_us < self.min_us:
            self.min_us = other.min_us
        if other.max_us > self.max_us:
            self.max_us = other.max_us
        for i in range(BUCKETS):
            self.buckets[i] += other.buckets[i]
        self.count += other.count
        self.sum_us += other.sum_us

    def quantile(self, double q):
        """The duration in us that a share ``q`` (0 to 1) of all stayed within; 0 when empty."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"quantile {q}: expected 0 to 1")
        cdef uint64_t rank = <uint64_t>(q * <double>self.count)
        cdef uint64_t seen = 0
        cdef int i
        if self.count == 0:
            return 0.0
        if rank >= self.count:
            rank = self.count - 1
        for i in range(BUCKETS):
            seen += self.buckets[i]
            if seen > rank:
                break
        return min(max(_middle_us(i), self.min_us), self.max_us)

    def snapshot(self):
        """Everything as plain data: ``count``, ``sum_us``, ``min_us``, ``max_us``, ``buckets``
        (sparse).
        """
        cdef int i
        cdef list buckets = []
        for i in range(BUCKETS):
            if self.buckets[i]:
                buckets.append((i, self.buckets[i]))
        return {
            "count": self.count,
            "sum_us": self.sum_us,
            "min_us": self.min_us,
            "max_us": self.max_us,
            "buckets": buckets,
        }

    def add_snapshot(self, dict snapshot):
        """Add what another histogram's ``snapshot`` holds. Raises ValueError for one that is none.
        """
        cdef uint64_t total = 0
        cdef Histogram other = Histogram()
        for index, count in snapshot["buckets"]:
            if not 0 <= index < BUCKETS:
                raise ValueError(f"histogram bucket {index}: expected 0 to {BUCKETS - 1}")
            other.buckets[<int>index] += count
            total += count
        if total != snapshot["count"]:
            raise ValueError(f"histogram count {snapshot['count']}: its buckets hold {total}")
        other.count = total
        other.sum_us = snapshot["sum_us"]
        other.min_us = snapshot["min_us"]
        other.max_us = snapshot["max_us"]
        self.merge(other)

    def count_below(self, double edge_us):
        """How many lie in buckets that end at or below ``edge_us``; exact when it is a bucket's
        edge.
        """
        cdef uint64_t seen = 0
        cdef int i
        for i in range(BUCKETS):
            if _upper_us(i) > edge_us:
                break
            seen += self.buckets[i]
        return seen

    def __repr__(self):
        p50 = self.quantile(0.5)
        return f"<Histogram of {self.count}, p50 {p50:.0f} us, max {self.max_us:.0f} us>"


cdef double _lower_us(int index) noexcept:
    if index == 0:
        return 0.0
    index -= 1
    return <double>(<uint64_t>1 << (index // STEPS)) * (1.0 + (index % STEPS) / <double>STEPS)


cdef double _upper_us(int index) noexcept:
    return _lower_us(index + 1)


cdef double _middle_us(int index) noexcept:
    return (_lower_us(index) + _upper_us(index)) / 2.0
