cdef class Holder:
    cdef CreditPool pool
    cdef readonly int held
    cdef readonly int in_use
    cdef readonly int waiting
    cdef int _target
    cdef int _asked
    cdef int _passed_over
    cdef int _peak
    cdef int _wanted

    cdef void grant(self, int n)
    cdef void reclaim(self, int n)


cdef class CreditPool:
    cdef readonly int limit
    cdef readonly int granted
    cdef readonly int orphaned
    cdef list _holders
    # Somebody has less than its share; somebody's share is less than its demand.
    cdef bint _tight
    cdef bint _contended
    cdef int _ended

    cpdef int join(self, Holder holder) except -1
    cpdef int leave(self, Holder holder) except -1
    cdef bint began(self, Holder holder) noexcept
    cdef int done(self, Holder holder)
    cpdef int returned(self, Holder holder, int n) except -1
    cpdef int demand(self, Holder holder, int waiting) except -1
    cpdef int set_limit(self, int limit) except -1
    cdef void _share_out(self, bint passing)
    cdef void _spread(self, bint level)
    cdef int _grant(self, Holder holder, int n)
