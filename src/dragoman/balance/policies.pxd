from libc.stdint cimport uint64_t


cdef class Target:
    cdef public int inflight
    cdef public int room


cdef class Candidate:
    cdef public double weight
    cdef Target target
    cdef bint barred
    cdef uint64_t identity
    cdef double _current

    cdef inline int free(self) noexcept:
        return 0 if self.barred else self.target.room


cdef class Policy:
    cdef uint64_t _random
    cdef Py_ssize_t _turn
    cdef readonly int quantum

    cdef Py_ssize_t pick(self, list candidates)
    cdef uint64_t _draw(self) noexcept
