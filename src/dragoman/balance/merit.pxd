from dragoman.balance.policies cimport Candidate


cdef void took(Candidate candidate, double us) noexcept
cdef double worst_of(list candidates, double usual_us) noexcept
cdef void did_badly(Candidate candidate, double worst_us, bint rejected) noexcept
cdef int judge(list candidates)
