from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from dragoman.timers cimport Timed


cdef class Waiter(Timed):
    cdef WaitingQueue queue
    cdef Py_ssize_t place


cdef struct Place:
    int64_t due_us
    uint64_t order
    PyObject* waiter


cdef class WaitingQueue:
    cdef readonly Py_ssize_t maximum
    cdef readonly Py_ssize_t live
    cdef readonly uint64_t shed
    cdef Place* _heap
    cdef Py_ssize_t _size
    cdef Py_ssize_t _capacity
    cdef uint64_t _order
    cdef double _due_drops

    cdef bint admit(self) noexcept
    cdef int push(self, Waiter waiter, int64_t due_us) except -1
    cdef Waiter pop(self)
    cdef Waiter head(self)
    cdef Waiter at(self, Py_ssize_t i)
    cdef void withdraw(self, Waiter waiter)
    cdef void _up(self, Py_ssize_t i) noexcept
    cdef void _down(self, Py_ssize_t i) noexcept
    cdef void _remove(self, Py_ssize_t i) noexcept
