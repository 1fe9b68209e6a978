from libc.stdint cimport int32_t, uint64_t

from dragoman.wire.http1.request cimport RequestDecoder
from dragoman.wire.http1.response cimport ResponseDecoder


cdef class InvokePool:
    cdef object loop
    cdef str host
    cdef int port
    cdef bytes head
    cdef uint64_t random
    cdef Py_ssize_t connections_max
    cdef double timeout_s
    cdef list idle               # AgentConnection, the last used at the end
    cdef set connections         # every AgentConnection that is connected
    cdef set clients             # every InvokeConnection that is connected
    cdef object waiting          # deque of InvokeConnection: no connection was free
    cdef set dials               # tasks that are connecting
    cdef object sweeper
    cdef bint closed
    cdef readonly long long requests
    cdef readonly long long right
    cdef readonly long long wrong
    cdef readonly long long failed
    cdef int dispatch(self, InvokeConnection client) except -1
    cdef int grow(self) except -1
    cdef int release(self, AgentConnection connection) except -1
    cdef int lost(self, AgentConnection connection) except -1
    cdef int refuse(self, InvokeConnection client, int status, str reason) except -1


cdef class AgentConnection:
    cdef InvokePool pool
    cdef object transport
    cdef object write
    cdef ResponseDecoder decoder
    cdef InvokeConnection client # whose request is under way; None for one that left
    cdef bint busy
    cdef bint closed
    cdef int fd
    cdef int32_t expected
    cdef double due              # when the request under way has taken too long
    cdef int send(self, InvokeConnection client) except -1
    cdef finished(self)
    cdef int settle(self, int status, str reason) except -1
    cdef bint is_stale(self) noexcept


cdef class InvokeConnection:
    cdef InvokePool pool
    cdef object transport
    cdef object write
    cdef RequestDecoder decoder
    cdef bint busy
    cdef bint closed
    cdef bint paused
    cdef bint keep_alive
    cdef bint http_1_0
    cdef bint head_only
    cdef int pump(self) except -1
    cdef int handle(self) except -1
    cdef int answer(self, int status, bytes body, bytes fields) except -1
