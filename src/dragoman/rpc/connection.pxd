cimport cython
from libc.stdint cimport uint16_t

from dragoman.rpc.calls cimport Account, ClientCall


cdef class Connection(Account):
    cdef readonly object address
    cdef object _link
    cdef object _options
    cdef bint _reconnect
    cdef bytes _identity
    # The ids of the methods that the session knows, and the one that was looked up last.
    cdef dict _ids
    cdef object _method
    cdef uint16_t _target
    # Futures: of the first connection, and of the end of all calls.
    cdef object _first_up
    cdef object _idle
    cdef readonly bint closed
    cdef bint _closing
    cdef bint _up
    cdef bint _in_drain
    cdef readonly str reason
    cdef readonly int connections

    @cython.final
    cdef inline bint fits(self, Py_ssize_t n):
        """Whether a call with ``n`` bytes may go out now."""
        return self.session is not None and self.calls < self._calls_max \
            and (self.bytes + n <= self._bytes_max or self.calls == 0) and self.session.room() > 0

    cdef int send(self, ClientCall call) except -1
    cdef uint16_t _method_id(self, method) except 0
    cdef void _drain(self)
    cdef void tell_wanted(self)
    cdef void check_idle(self)
    cdef void _down(self, error, str reason)
    cdef void fail_line(self, error)
