from libc.stdint cimport int64_t

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.flow.waiting cimport Waiter


cdef class Lane:
    cdef bytes key
    cdef Endpoint place
    cdef int under_way
    cdef readonly Py_ssize_t waiting
    cdef object _line
    cdef bint _mixed
    cdef int64_t _last

    cdef int push(self, Waiter waiter, int64_t sequence) except -1
    cdef Waiter first(self)
    cdef void remove(self, int64_t sequence)
    cdef list calls(self)


cdef class Lanes:
    cdef dict by_key
    cdef object unplaced

    cdef Lane of(self, bytes key)
    cdef void queue(self, Lane lane)
    cdef void unqueue(self, Lane lane)
    cdef void move(self, Lane lane, Endpoint endpoint)
    cdef void tidy(self, Lane lane)
