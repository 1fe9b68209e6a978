from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Candidate
from dragoman.flow.waiting cimport Waiter


cdef class Lane:
    cdef bytes key
    cdef Candidate place
    cdef int under_way
    cdef readonly Py_ssize_t waiting
    cdef object _line
    cdef bint _mixed
    cdef int64_t _last

    cdef int push(self, Waiter waiter, int64_t turn) except -1
    cdef Waiter first(self)
    cdef void remove(self, int64_t turn)
    cdef list calls(self)
