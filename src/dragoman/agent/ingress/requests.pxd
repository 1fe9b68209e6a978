from dragoman.agent.ingress.call cimport HttpCall
from dragoman.agent.ingress.connection cimport HttpConnection


cdef class IngressConnection(HttpConnection):
    cdef bint _admit(self, HttpCall call) except -1
    cdef bint _begin_form(self, HttpCall call) except -1
    cdef bint _begin_json(self, HttpCall call) except -1
    cdef bint _begin_usual(self, HttpCall call, bytes path) except -1
    cdef bint _begin_query(self, HttpCall call) except -1
    cdef int _begin_call(self, HttpCall call, tuple described, bytes joined=*) except -1
