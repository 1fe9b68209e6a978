from libc.stdint cimport int64_t

from dragoman.cluster.calls cimport Account, PoolCall
from dragoman.timers cimport Timed


cdef class Pool(Account):
    cdef object __weakref__
    cdef readonly str name
    cdef object _create_future
    cdef int64_t _timeout_us
    cdef dict _names
    cdef object _method
    # Whether a ``close`` has come to its end.
    cdef bint _closed
    cdef bytes _method_name
    cdef Sweep _sweep
    cdef object _closing

    cdef inline int64_t _due(self, timeout_ms) except -1
    cdef inline bytes _name(self, method)
    cdef inline int _launch(
        self, PoolCall call, bytes method, bytes body, int64_t due_us, bytes order_key,
        bytes metadata
    ) except -1
    cdef inline void _watch(self)
    cdef inline int _check_mine(self) except -1
    cdef void _sweep_calls(self)


cdef class Sweep(Timed):
    cdef Pool pool

    cdef inline bint armed(self)
