from libc.stdint cimport int64_t, uint64_t

from dragoman.balance.charges cimport Charges


cdef class Target:
    cdef public int inflight
    cdef public int room


cdef class Candidate:
    cdef public double weight
    cdef Target target
    cdef bint barred
    # It is worse than the others: it gets what they have no room for, and now and then a call.
    cdef bint shunned
    # What that comes from (balance.merit): how long calls take there usually, from how many that is
    # known, whether that is far longer than elsewhere, and how many were rejected in a row.
    cdef double ewma_us
    cdef int samples
    cdef int64_t outlier_us
    cdef bint slow
    cdef int rejections
    # Calls that have ended and count as though they were under way.
    cdef public int charged
    cdef Charges charges
    cdef uint64_t identity
    cdef double _current

    cdef inline int free(self) noexcept:
        return 0 if self.barred else self.target.room

    cdef inline int offer(self) noexcept:
        return 0 if self.barred or self.shunned else self.target.room

    cdef inline int load(self) noexcept:
        return self.target.inflight + self.charged


cdef class Policy:
    cdef uint64_t _random
    cdef Py_ssize_t _turn
    cdef readonly int quantum

    cdef Py_ssize_t pick(self, list candidates)
    cdef uint64_t _draw(self) noexcept
