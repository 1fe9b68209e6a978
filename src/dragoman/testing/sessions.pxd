from libc.stdint cimport uint32_t

from dragoman.rpc.client_session cimport Call, SessionOwner
from dragoman.rpc.server_session cimport Handler, ServerSession
from dragoman.timers cimport Timed


cdef class OutgoingCall(Call):
    cdef object _on_reply
    cdef object _on_error
    cdef object _loop
    cdef str _endpoint
    cdef readonly bint done

    cdef void _end(self)


cdef class SessionEvents(SessionOwner):
    cdef object _ready
    cdef object _credit
    cdef object _goodbye
    cdef object _lost


cdef class IncomingRequest(Timed):
    cdef RequestHandler _handler
    cdef readonly ServerSession session
    cdef readonly uint32_t id
    cdef readonly bytes method
    cdef readonly bytes body
    cdef readonly uint32_t timeout_ms
    cdef readonly bint answered
    cdef readonly bint unwanted

    cdef int _free(self) except -1
    cdef void _forsake(self)


cdef class RequestHandler(Handler):
    cdef object _on_request
    cdef object _on_unwanted
    cdef list _names
    cdef dict _numbers
    cdef bint _any
    cdef dict _open
    cdef readonly int in_progress
