from libc.stdint cimport int64_t, uint64_t

from dragoman.timers cimport Timed
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer


cdef class ServedRequest(Timed):
    cdef uint64_t id
    cdef int serialization
    cdef bint two_way
    cdef str protocol_version
    cdef str path
    cdef str version
    cdef str method
    cdef str descriptor
    cdef list arguments
    cdef dict attachments
    cdef dict reply_attachments
    cdef str generic

    cdef int decode(
        self, Hessian2Reader reader, const char* body, Py_ssize_t n, Py_ssize_t values_max
    ) except -1
    cdef int64_t timeout_ms(self) except -2
    cdef str text_of(self, str name)
    cdef int write_value(
        self, Hessian2Writer writer, Buffer out, value, str descriptor
    ) except -1
    cdef int write_exception(self, Hessian2Writer writer, Buffer out, error) except -1
    cdef bint _has_attachments(self)
