from libc.stdint cimport int64_t

from dragoman.rpc.calls cimport ClientCall
from dragoman.rpc.connection cimport Connection


cdef class Client(Connection):
    cdef object __weakref__
    cdef object _future
    cdef dict _future_with
    cdef bint _wait
    cdef int _waiting_max
    cdef int64_t _waiting_bytes_max
    cdef int64_t _timeout_us

    cdef inline int64_t _due(self, timeout_ms) except -1
    cdef object _refusal(self, Py_ssize_t n)
    cdef int _launch(
        self, ClientCall call, method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ) except -1
