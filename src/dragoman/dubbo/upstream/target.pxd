from libc.stdint cimport uint32_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.json.string cimport Slice


cdef class Target:
    cdef bytes _group
    cdef bytes _version
    cdef bytes _path
    cdef bint _before
    cdef Buffer _whole_path
    cdef bytes _token
    cdef bint _lengths      # fastjson with a length before each field
    # What may be called, and which of it was called last; None for anything.
    cdef list _interfaces
    cdef Py_ssize_t _asked_last

    cdef void invocation(self, Invocation* to, uint32_t timeout_ms) noexcept
    cdef int serve_under(self, Invocation* call) except -1
    cdef int check_interface(self, const Slice* name) except -1


cdef void point(Slice* slice, bytes text) noexcept
