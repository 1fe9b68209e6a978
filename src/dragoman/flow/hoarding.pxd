from dragoman.flow.shares cimport Holder, Shares


cdef int kept(Shares shares, Holder holder, int n)
cdef void doubt(Shares shares, Holder holder)
cdef int judge(Shares shares, Holder holder) except -1
cdef void believe(Shares shares, Holder holder)
