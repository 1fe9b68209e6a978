from libc.stdint cimport int64_t, uint64_t

from dragoman.rpc.turn cimport Gathering, Turn
from dragoman.timers cimport Timed
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo cimport DubboDecoder
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Writer


cdef class Bound:
    cdef readonly object method
    cdef object function
    cdef tuple decoders
    cdef object encode
    cdef object encode_inner
    cdef str descriptor
    cdef bint threaded
    cdef bint coroutine


cdef class BoundService:
    cdef readonly str interface
    cdef readonly str version
    cdef readonly str group
    cdef dict _exact
    cdef dict _by_name

    cdef Bound find(self, str name, str descriptor)


cdef class Provider:
    cdef readonly object loop
    cdef Turn turn
    cdef object _create_task
    cdef object _executor
    cdef object _ended
    cdef bint _woken
    cdef readonly int limit
    cdef Py_ssize_t payload_bytes_max
    cdef int64_t idle_us
    cdef int clients_max
    cdef dict _services
    cdef set _interfaces
    cdef set connections
    cdef Hessian2Reader _reader
    cdef Hessian2Writer _writer
    cdef ServedCall _running
    cdef readonly bint draining
    cdef bint closed
    cdef readonly int in_progress, in_progress_max
    cdef readonly uint64_t connected, requests, replies, exceptions, rejected, dropped, refused
    cdef readonly uint64_t heartbeats, late

    cdef BoundService find_service(self, str path, str version, str group)
    cdef int serve(self, ServiceConnection connection) except -1
    cdef int _decode(self, ServedCall call, const char* body, Py_ssize_t n) except -1
    cdef int _invoke(self, ServedCall call) except -1
    cdef int _generic(self, ServedCall call) except -1
    cdef int _run(self, ServedCall call) except -1
    cdef int _write_value(self, ServedCall call, Buffer out, value) except -1


cdef class ServiceConnection(Gathering):
    cdef readonly object loop
    cdef Provider provider
    cdef object transport
    cdef DubboDecoder decoder
    cdef Buffer out
    cdef readonly str peer
    cdef readonly bint closed
    cdef bint half_closed
    cdef int owed
    cdef int64_t read_us

    cdef int _event(self) except -1
    cdef int error(self, uint64_t id, int serialization, int status, str text) except -1


cdef class ServedCall(Timed):
    cdef Provider provider
    cdef ServiceConnection connection
    cdef uint64_t id
    cdef int serialization
    cdef bint two_way
    cdef bint takes_attachments
    cdef bint answered
    cdef bint begun
    cdef str protocol_version
    cdef str path
    cdef str version
    cdef str method
    cdef str descriptor
    cdef list arguments
    cdef dict attachments
    cdef dict reply_attachments
    cdef str generic
    cdef Bound bound
    cdef object task
    cdef int64_t started_us
    cdef int64_t due_us

    cdef int _await(self, awaitable) except -1
    cdef int end(self, result, error) except -1
    cdef int _answer(self, result, error) except -1
    cdef int refuse(self, int status, str text) except -1
