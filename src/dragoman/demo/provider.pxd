from libc.stdint cimport int64_t, uint64_t

from dragoman.demo.delay cimport DelayLine, Owner
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport DubboDecoder
from dragoman.wire.dubbo.fastjson cimport FastjsonRequest

# How much longer than asked a call waited, in steps of 10 us; the last takes all above.
cdef enum:
    OVER_STEP_NS = 10000
    OVER_COUNT = 1000


cdef class DemoProvider:
    cdef DelayLine line            # None when the delay is 0
    cdef DelayLine slow_line
    cdef readonly int limit
    cdef int serialization
    cdef int fault
    cdef int64_t fault_from, fault_to
    cdef set connections
    cdef object logger
    cdef FastjsonRequest request   # scratch of the call being served
    cdef readonly bint draining
    cdef readonly int in_flight, in_flight_max
    cdef readonly int64_t requests, accepted, rejected, replies, heartbeats, refused, connected
    cdef int64_t delayed, delayed_late
    cdef uint64_t delay_ns, waited_ns_sum, waited_ns_min, waited_ns_max

    cdef int64_t over[OVER_COUNT]  # calls by how much longer than the delay they waited

    cdef int active_fault(self) noexcept
    cdef int waited(self, int count, uint64_t waited_ns) noexcept
    cdef double over_ms(self, double quantile) noexcept
    cdef int run(self, Buffer out, DubboDecoder frame) except -1
    cdef int run_fastjson(self, Buffer out, uint64_t id) except -1


cdef class Connection(Owner):
    cdef DemoProvider provider
    cdef object transport
    cdef DubboDecoder decoder
    cdef Buffer now      # what is to be written in this tick
    cdef Buffer later    # what is to be written after the delay
    cdef int owed        # replies that this connection is still to write
    cdef bint closed, half_closed

    cdef int serve_event(self) except -1
    cdef int error(self, int status, bytes text) except -1
    cdef bint read_fastjson(self) except -1
    cdef int serve_request(self, int* count) except -1
