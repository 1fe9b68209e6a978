from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Candidate


cdef void took(Candidate candidate, double us, int64_t now_us) noexcept
cdef double worst_of(list candidates, double usual_us) noexcept
cdef void did_badly(Candidate candidate, double worst_us, bint rejected) noexcept
cdef int judge(list candidates)
