from libc.stdint cimport int64_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.arrival cimport Arriving
from dragoman.rpc.tick cimport Tick
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport DubboDecoder


cdef class Connected:
    cdef readonly object loop
    cdef Tick tick
    cdef Py_ssize_t payload_bytes_max
    cdef int64_t idle_us
    cdef int clients_max
    cdef readonly Budget budget
    cdef set connections
    cdef readonly bint draining
    cdef bint closed
    cdef readonly uint64_t connected, refused, heartbeats

    cdef int serve(self, ServiceConnection connection) except -1


cdef class ServiceConnection(Arriving):
    cdef readonly object loop
    cdef Connected provider
    cdef object transport
    cdef DubboDecoder decoder
    cdef Buffer out
    cdef readonly str peer
    cdef readonly bint closed
    cdef bint half_closed
    cdef bint paused
    # What it has put by until it is its turn; its decoder is within it.
    cdef bytes put_by
    cdef int descriptor
    cdef size_t _queued
    cdef int owed
    cdef int64_t read_us

    cdef int _take_frames(self, bytes data) except -1
    cdef int _event(self) except -1
    cdef void _count_queue(self)
    cdef int _no_room(self) except -1
    cdef int error(self, uint64_t id, int serialization, int status, str text) except -1
