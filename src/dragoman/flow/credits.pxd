from dragoman.flow.ranks cimport Account, Ranked
from dragoman.flow.shares cimport Holder, Shares


cdef class CreditPool(Shares):
    cpdef int join(self, Holder holder, Account account=*) except -1
    cpdef Account account(self, str source, bytes identity)
    cpdef int leave(self, Holder holder) except -1
    cdef bint began(self, Holder holder) noexcept
    cdef int done(self, Holder holder)
    cpdef int returned(self, Holder holder, int n) except -1
    cpdef int demand(self, Holder holder, int waiting) except -1
    cpdef int kept(self, Holder holder, int n)
    cpdef int review(self) except -1
    cdef void doubt(self, Holder holder)
    cpdef int set_limit(self, int limit) except -1
    cdef int _done_short(self, Holder holder)
    cdef Ranked _poorer(self, Ranked node, Holder holder)
    cdef Ranked _poorer_than(self, Ranked node, Holder holder)
    cdef void _give(self, Holder holder, int n)
    cdef void _settle(self)
    cdef void _place_idle(self, int free)
