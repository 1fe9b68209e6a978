cimport cython
from libc.stdint cimport int64_t

from dragoman.rpc.calls cimport ClientCall
from dragoman.rpc.connection cimport Connection


cdef class Client(Connection):
    cdef bint _wait
    cdef int _waiting_max
    cdef int64_t _waiting_bytes_max

    cdef object _refusal(self, Py_ssize_t n)
    @cython.final
    cdef int _launch(
        self, ClientCall call, method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ) except -1
