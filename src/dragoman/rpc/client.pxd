from libc.stdint cimport int64_t, uint16_t

from dragoman.rpc.calls cimport Account, ClientCall
from dragoman.timers cimport Timed


cdef class Client(Account):
    cdef object __weakref__
    cdef readonly object address
    cdef object _future
    cdef dict _future_with
    cdef object _link
    cdef object _options
    cdef bint _reconnect
    cdef bint _wait
    cdef int _waiting_max
    cdef int64_t _waiting_bytes_max
    cdef int64_t _timeout_us
    cdef bytes _identity
    cdef dict _ids
    cdef object _method
    cdef uint16_t _target
    cdef object _first_up
    cdef object _idle
    cdef readonly bint closed
    cdef bint _closing
    cdef bint _up
    cdef bint _in_drain
    cdef readonly str reason
    cdef readonly int connections
    cdef Sweep _sweep

    cdef inline int64_t _due(self, timeout_ms) except -1
    cdef inline bint _fits(self, Py_ssize_t n)
    cdef uint16_t _method_id(self, method) except 0
    cdef object _refusal(self, Py_ssize_t n)
    cdef int _launch(
        self, ClientCall call, method, Py_ssize_t n, Py_ssize_t count, int64_t due_us
    ) except -1
    cdef int _send(self, ClientCall call) except -1
    cdef void _tell_wanted(self)
    cdef void _drain(self)
    cdef void _sweep_calls(self)
    cdef void _check_idle(self)
    cdef void _down(self, error, str reason)
    cdef void _fail_line(self, error)


cdef class Sweep(Timed):
    cdef Client client

    cdef inline bint armed(self)
