from libc.stdint cimport int64_t, uint64_t

from dragoman.budget cimport Budget
from dragoman.rpc.arrival cimport Arriving
from dragoman.rpc.tick cimport Tick
from dragoman.timers cimport Timed
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport DubboDecoder


cdef class DubboCall(Timed):
    cdef DubboConnection connection
    cdef uint64_t dubbo_id
    cdef bint violated

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n)
    cdef void on_dubbo_refused(self, Py_ssize_t n)
    cdef void on_dubbo_lost(self, bint sent, str why)


cdef class DubboConnection(Arriving):
    cdef readonly object loop
    cdef Tick tick
    cdef ProviderState owner
    cdef object transport
    cdef object _link
    cdef Buffer out
    cdef DubboDecoder decoder
    # Where all that it holds for the provider counts.
    cdef Budget budget
    cdef void** _slots
    cdef uint64_t _mask
    cdef uint64_t _next_id
    cdef uint64_t _flushed_id
    cdef readonly int inflight
    cdef readonly bint closed
    cdef readonly bint paused
    cdef readonly bint readonly_event
    cdef readonly str failure
    # The provider broke the protocol.
    cdef readonly bint violated
    cdef bint _heard
    cdef bint _pinged
    # Calls whose deadline has passed since the last reply; up to where the frame in progress has
    # been searched for a reply, and which frame that was.
    cdef int _missed
    # What of its transport's queue counts; whether a heartbeat waits for the provider to read.
    cdef size_t _queued
    cdef bint _beat_waits
    cdef object _unread
    cdef Py_ssize_t _searched
    cdef uint64_t _searched_frame

    cdef int64_t read_us
    cdef readonly bint silent
    cdef int64_t probed_us
    cdef Pulse _pulse

    cdef void ask(self)
    cdef void _falls_silent(self)
    cdef void _speaks(self)
    cdef bint may_probe(self, int64_t now_us) noexcept
    cdef uint64_t begin(self, DubboCall call) except 0
    cdef uint64_t begin_aside(self, DubboCall call) except 0
    cdef void sent(self)
    cdef int send_apart(self, bytes frame) except -1
    cdef void undo(self, DubboCall call)
    cdef void forget(self, DubboCall call)
    cdef DubboCall _take(self, uint64_t id)
    cdef int _grow(self) except -1
    cdef void _event(self)
    cdef bint full(self, size_t n) noexcept
    cdef void _count_queue(self)
    cdef void missed(self)
    cdef bint _holds_a_reply(self)
    cdef void opened(self)
    cdef void fail(self, str why)
    cdef int _process(self) except -1


cdef class Pulse(Timed):
    cdef DubboConnection connection
    cdef readonly bint running
    # Since when nothing has been heard, and the id that the next call had then.
    cdef int64_t _since_us
    cdef uint64_t _begun
    cdef bint _asked

    cdef void start(self)


cdef class Greeter:
    cdef void greet(self, DubboConnection connection)


cdef class ProviderState:
    cdef readonly object loop
    cdef readonly str host
    cdef readonly int port
    cdef readonly Budget budget
    cdef readonly list connections
    cdef readonly list greeted
    cdef public Greeter greeter
    cdef readonly list links
    cdef readonly str reason
    cdef readonly uint64_t unknown_replies
    cdef readonly uint64_t protocol_errors
    cdef readonly uint64_t losses
    cdef int64_t heartbeat_us
    cdef int64_t read_us
    # Of the connection that was read last.
    cdef DubboDecoder read_from
    cdef object on_change
    # It has said that it is about to stop, and has not been back since.
    cdef bint _leaving
    cdef uint64_t _next_id
