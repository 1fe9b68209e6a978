cimport cython
from libc.stdint cimport int64_t

from dragoman.cluster.calls cimport Account, PoolCall


cdef class Pool(Account):
    cdef readonly str name
    cdef dict _names
    # The name that was looked up last, and as it travels.
    cdef object _method
    cdef bytes _method_name
    # Whether a ``close`` has come to its end.
    cdef bint _closed
    cdef object _closing

    cdef inline bytes _name(self, method)
    @cython.final
    cdef int _launch(
        self, PoolCall call, bytes method, bytes body, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1
