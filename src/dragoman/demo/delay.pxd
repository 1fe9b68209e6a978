from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t

cdef uint64_t monotonic_ns() noexcept nogil


cdef class Owner:
    """Whom a DelayLine hands back what was put in."""

    cdef int release(self, bytes payload, int count, uint64_t waited_ns) except -1


cdef struct Entry:
    uint64_t since_ns
    PyObject* owner
    PyObject* payload
    int count


cdef class DelayLine:
    cdef object loop
    cdef int descriptor
    cdef uint64_t delay_ns
    cdef Entry* ring
    cdef size_t head, length, capacity  # capacity is a power of two

    cdef int put(self, Owner owner, bytes payload, int count) except -1
    cdef int arm(self) except -1
    cdef int grow(self) except -1
    cdef drop(self)
