from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Policy
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints


cdef class Choice:
    cdef Policy policy
    # Where the last request went, how many more may follow it at once, and since when they do.
    cdef Endpoint _favoured
    cdef int _quantum
    cdef int64_t _favoured_us
    cdef int _since_trickle
    # What a call takes that is served, and whether some endpoint has charges.
    cdef double usual_us
    cdef bint _charged

    cdef Endpoint pick(self, Endpoints service, Endpoint avoided, int64_t now)
    cdef Py_ssize_t _choose(self, Endpoints service)
    cdef void _expire(self, list ready, int64_t now)
    cdef void charge(self, Endpoint endpoint, int64_t until_us, int64_t now)
    cdef void took(self, double us) noexcept
