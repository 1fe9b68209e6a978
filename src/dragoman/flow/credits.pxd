cdef class Holder:
    cdef CreditPool pool
    cdef readonly int held
    cdef readonly int in_use
    cdef readonly int waiting
    cdef int _target
    cdef int _asked
    cdef int _passed_over

    cdef void grant(self, int n)
    cdef void reclaim(self, int n)


cdef class CreditPool:
    cdef readonly int limit
    cdef readonly int granted
    cdef readonly int orphaned
    cdef list _holders
    cdef bint _tight
    cdef int _ended

    cpdef int join(self, Holder holder) except -1
    cpdef int leave(self, Holder holder) except -1
    cdef bint began(self, Holder holder) noexcept
    cdef int done(self, Holder holder)
    cpdef int returned(self, Holder holder, int n) except -1
    cpdef int demand(self, Holder holder, int waiting) except -1
    cpdef int set_limit(self, int limit) except -1
    cdef void _rebalance(self)
    cdef void _share_out(self, bint passing)
    cdef void _spread(self)
