from libc.stdint cimport int64_t

from dragoman.dubbo.upstream.encode_request cimport Requests
from dragoman.dubbo.upstream.connection cimport DubboCall
from dragoman.dubbo.upstream.link cimport DubboLink
from dragoman.flow.credits cimport CreditPool
from dragoman.timers cimport Wheel


cdef class Probe(DubboCall):
    cdef DubboLink link
    cdef CreditPool pool
    cdef Wheel wheel
    # What makes its requests: changes with what the provider speaks.
    cdef Requests requests
    cdef bytes interface
    cdef int64_t every_us
    # The provider did not answer the last one.
    cdef readonly bint silent

    cdef void rest(self)
    cdef void stop(self)
