from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport HttpCall
from dragoman.budget cimport Budget
from dragoman.wire.buffer cimport Buffer


cdef class Responses:
    cdef str _methods
    cdef Buffer _scratch
    cdef bytes _date
    cdef int64_t _date_until_us

    cdef bytes date(self, int64_t now_us)
    cdef bytes result(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner)
    cdef bytes accepted(self, HttpCall call)
    cdef bytes error(self, HttpCall call, int status, str name, str why, int64_t now_us)
