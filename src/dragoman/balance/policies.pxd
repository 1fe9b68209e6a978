from libc.stdint cimport uint64_t


cdef class Candidate:
    cdef public double weight
    cdef public int inflight
    cdef public int room
    cdef uint64_t identity
    cdef double _current


cdef class Policy:
    cdef uint64_t _random
    cdef Py_ssize_t _turn
    cdef readonly int quantum

    cdef Py_ssize_t pick(self, list candidates)
    cdef uint64_t _draw(self) noexcept
