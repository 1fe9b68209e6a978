from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from dragoman.flow.credits cimport CreditPool
from dragoman.rpc.server_session cimport Handler, ServerSession
from dragoman.rpc.tick cimport Tick
from dragoman.timers cimport Timed


cdef class Method:
    cdef readonly str name
    cdef object function
    cdef bint threaded


cdef class Dispatcher(Handler):
    cdef object loop
    cdef Tick tick
    cdef object _functions
    cdef object _executor
    cdef object _create_task
    cdef list _methods
    cdef list _uses
    cdef list _free
    cdef dict _numbers
    cdef int64_t _bytes_max
    cdef list _held
    cdef dict _lanes
    cdef readonly int64_t bytes
    cdef readonly int in_progress
    cdef readonly uint64_t errors
    cdef readonly uint64_t requests

    cdef int _answer(
        self, ServerSession session, uint32_t id, bint no_reply, result, Method method
    ) except -1
    cdef int _answer_error(
        self, ServerSession session, uint32_t id, bint no_reply, error, Method method
    ) except -1
    cdef int _less(self, Py_ssize_t n) except -1
    cdef void _release_methods(self, ServerSession session)


cdef class Work(Timed):
    cdef Dispatcher dispatcher
    cdef ServerSession session
    cdef uint32_t id
    cdef uint32_t timeout_ms
    cdef int64_t started_us
    cdef Method method
    cdef bytes body
    cdef Py_ssize_t body_bytes
    cdef bint no_reply
    cdef dict metadata
    cdef bint unwanted
    cdef object task
    cdef object _awaited
    cdef tuple lane_key

    cdef int start(self) except -1
    cdef int _await(self, awaitable) except -1
    cdef int _end(self, result, error) except -1
    cdef void forsake(self)
    cdef void _forget(self)
