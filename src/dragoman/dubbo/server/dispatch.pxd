from libc.stdint cimport int64_t, uint64_t

from dragoman.dubbo.server.binding cimport Bound, BoundService
from dragoman.dubbo.server.decode_request cimport ServedRequest
from dragoman.dubbo.server.connection cimport Connected, ServiceConnection
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer


cdef class Dispatcher(Connected):
    cdef object _create_task
    cdef object _executor
    cdef object _ended
    cdef bint _woken
    cdef readonly int limit
    cdef Py_ssize_t values_max
    cdef dict _services
    cdef Hessian2Reader _reader
    cdef Hessian2Writer _writer
    cdef ServedCall _running
    cdef readonly int in_progress, in_progress_max
    cdef readonly uint64_t requests, replies, exceptions, rejected, dropped, late

    cdef BoundService find_service(self, str path, str version, str group)
    cdef int _invoke(self, ServedCall call) except -1
    cdef int _generic(self, ServedCall call) except -1
    cdef int _run(self, ServedCall call) except -1


cdef class ServedCall(ServedRequest):
    cdef Dispatcher provider
    cdef ServiceConnection connection
    cdef bint answered
    cdef bint begun
    cdef Bound bound
    cdef object task
    cdef object _awaited
    cdef int64_t started_us
    cdef int64_t due_us

    cdef int _await(self, awaitable) except -1
    cdef int end(self, result, error) except -1
    cdef bint _generalizes(self) except -1
    cdef int _answer(self, result, error) except -1
    cdef int refuse(self, int status, str text) except -1
