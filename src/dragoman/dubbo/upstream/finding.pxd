from libc.stdint cimport int64_t

from dragoman.dubbo.upstream.egress cimport Egress
from dragoman.dubbo.upstream.connection cimport DubboCall, DubboConnection, Greeter
from dragoman.timers cimport Timed


cdef class Finding(Greeter):
    cdef Egress egress
    cdef dict _followers
    cdef bytes _interface
    # What the provider has answered in, and what it is said to be asked in.
    cdef readonly str found
    cdef str _said
    # What ended connections when it was asked last.
    cdef set _shunned
    # As the log was told: what it is asked in, and why.
    cdef readonly str told

    cdef list order(self)
    cdef void heard(self)
    cdef void choose(self, str serialization, str why)


cdef class Asking(Timed):
    cdef Finding finding
    cdef DubboConnection connection
    cdef list order
    cdef int at
    cdef dict outcomes
    cdef list questions
    cdef int64_t begun_us
    cdef bint opened

    cdef void begin(self)
    cdef void ask(self)
    cdef void answered(self, Question question, int status, str why)
    cdef void open(self, str serialization, str why)
    cdef void end(self)


cdef class Question(DubboCall):
    cdef Asking asking
    cdef str serialization
