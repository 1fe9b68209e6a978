from libc.stdint cimport int64_t

from dragoman.cluster.calls cimport PoolCall
from dragoman.cluster.pool cimport Pool
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer


cdef class JavaPool(Pool):
    cdef readonly str interface
    cdef readonly str group
    cdef readonly str version
    cdef Buffer _out
    cdef Hessian2Reader _reader
    cdef Hessian2Writer _writer
    cdef list _free_calls

    cdef object _start(self, RemoteMethod caller, bytes body)
    cdef object read_reply(self, JavaCall call, const char* body, Py_ssize_t n)


cdef class JavaCall(PoolCall):
    cdef object future
    cdef RemoteMethod caller
    cdef int64_t timeout_us

    cdef object _error_of(self, value, dict attachments)


cdef class RemoteMethod:
    cdef readonly JavaPool pool
    cdef readonly str name
    cdef readonly object method
    cdef readonly dict options
    cdef bytes _head
    cdef bytes _attachments
    cdef dict _prefixes
    cdef list _by_count
    cdef tuple _encoders
    cdef tuple _descriptors
    cdef object _decode
    cdef object _errors
    cdef int _least
    cdef int _most
    cdef object _types
    cdef dict _variants
    cdef bint generic
    cdef bint one_way
    cdef bint whole
    cdef int64_t timeout_us

    cdef bytes _typed_body(self, tuple args)
    cdef bytes _natural_body(self, tuple args)
    cdef bytes _generic_body(self, tuple args)
    cdef bytes _prefix(self, str descriptor)
    cdef bytes _finish(self, Py_ssize_t start)
