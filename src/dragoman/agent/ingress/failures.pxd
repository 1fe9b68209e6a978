from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport HttpCall


cdef class FailureLog:
    cdef dict _kinds  # service and error -> [when the next line is due, failures without one]

    cdef str _more(self, tuple kind, int64_t now_us)
    cdef void refused(self, str name, str why, int64_t now_us)
    cdef void failed(self, HttpCall call, str name, str message)
