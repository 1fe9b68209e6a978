from libc.stdint cimport int64_t, uint64_t

# Ranks 1 to 31 are the bit lengths of what is held.
cdef enum:
    EMPTY = 0
    RANKS_MAX = 32
    # Holding nothing, and never granted anything yet.
    NEW = 32
    # Something unused, but not to be taken as things are.
    PROTECTED = 33
    # Nothing unused when last looked at.
    BUSY = 34
    RINGS = 35
    NOWHERE = -1


cdef class Ranked:
    cdef readonly int held
    cdef int _rank
    cdef void* _next
    cdef void* _previous
    cdef Py_ssize_t _place
    cdef int64_t _stamp
    # What it is part of (an Account); None at the top.
    cdef Ranked account


cdef class Ranks:
    cdef void* _heads[RINGS]
    cdef Py_ssize_t counts[RINGS]
    cdef uint64_t _used

    cdef void put(self, Ranked member, int rank) noexcept
    cdef void put_by_held(self, Ranked member) noexcept
    cdef void remove(self, Ranked member) noexcept
    cdef Ranked first(self, int rank)
    cdef Ranked last(self, int rank)
    cdef int highest(self) noexcept
    cdef int lowest(self) noexcept


cdef class Poorest:
    cdef void** _heap
    cdef Py_ssize_t count
    cdef Py_ssize_t _capacity
    cdef int64_t held
    cdef int64_t _stamps

    cdef Ranked first(self)
    cdef int add(self, Ranked member) except -1
    cdef void remove(self, Ranked member) noexcept
    cdef void changed(self, Ranked member, int by) noexcept
    cdef void _set(self, Py_ssize_t i, void* member) noexcept
    cdef void _up(self, Py_ssize_t i) noexcept
    cdef void _down(self, Py_ssize_t i) noexcept


cdef class Account(Ranked):
    cdef readonly object key
    cdef Poorest waiters
    cdef int members
