from libc.stdint cimport uint64_t
from libc.string cimport memcpy

# 30 octaves (1 us to 2**30 us, about 1,074 s) of 32 steps each, and one bucket for what is below 1
# us.
cdef enum:
    OCTAVES = 30
    STEPS = 32
    STEP_BITS = 5
    BUCKETS = OCTAVES * STEPS + 1


cdef class Histogram:
    cdef readonly uint64_t count
    cdef readonly double sum_us
    cdef readonly double min_us
    cdef readonly double max_us
    cdef uint64_t buckets[BUCKETS]

    # A double's bits hold exponent and mantissa side by side: shifted so that five bits of mantissa
    # are left, they are the number of the octave and the step in it, without a logarithm or a
    # branch.
    cdef inline void record_us(self, double value_us) noexcept nogil:
        cdef uint64_t bits
        cdef uint64_t index = 0
        if value_us >= 1.0:
            memcpy(&bits, &value_us, 8)
            index = (bits >> (52 - STEP_BITS)) - (<uint64_t>1023 << STEP_BITS) + 1
            if index > BUCKETS - 1:
                index = BUCKETS - 1
        elif not value_us >= 0.0:
            # A clock never goes back, nor is it NaN; a bug elsewhere must not spoil the sum.
            value_us = 0.0
        self.buckets[index] += 1
        self.sum_us += value_us
        if value_us < self.min_us or self.count == 0:
            self.min_us = value_us
        if value_us > self.max_us:
            self.max_us = value_us
        self.count += 1
