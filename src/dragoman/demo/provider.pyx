"""The contest's provider: ``IHelloService`` over Dubbo, a pool of 200, 50 ms a call.

``dragoman.demo.serving`` listens and hands each connection to a Connection; the command line drives
that. The service ``com.alibaba.dubbo.performance.demo.provider.IHelloService`` has

    int hash(String)     Java's hashCode of the text       Map bean(Map)    its argument
    String echo(String)  its argument                      long now()       a constant
    Object fail(String)  throws, with this message         void nothing()   null
    int add(int, int)    the sum, wrapping                 Object $echo(Object)
    Map<Integer, String> names()    as fastjson writes it: {1:"one",2:"two"}

The invariants: at most ``limit`` calls are under way; one beyond is answered at once with status
100 and never runs; each accepted two-way call gets exactly one reply, ``delay_ns`` after it was
decoded, unless a fault was asked for. Replies to requests that were read together are written
together.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, strlen

from dragoman.demo.delay cimport DelayLine, Owner
from dragoman.demo.hessian2 cimport run_hessian2
from dragoman.demo.javahash cimport java_hash_json
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.event cimport (
    DUBBO_EVENT_HEARTBEAT, event_kind, write_heartbeat_reply, write_readonly,
)
from dragoman.wire.dubbo.frame cimport (
    DUBBO_BAD_REQUEST, DUBBO_ERROR, DUBBO_FASTJSON, DUBBO_FRAME, DUBBO_HESSIAN2,
    DUBBO_POOL_EXHAUSTED, DUBBO_SERVICE_NOT_FOUND, DubboDecoder, write_error_reply,
)
from dragoman.wire.dubbo.fastjson cimport (
    FASTJSON_OK,
    fastjson_problem,
    read_request,
    write_exception_reply,
    write_int_reply,
    write_null_reply,
    write_value_reply,
)
from dragoman.wire.json.string cimport Slice, json_equals

import logging
from typing import NamedTuple

from dragoman.errors import UsageError

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
NOW = 1527811200000  # what now() returns, always

SERIALIZATIONS = {"fastjson": DUBBO_FASTJSON, "hessian2": DUBBO_HESSIAN2}

# What can go wrong on purpose, for tests of whoever calls a provider.
FAULTS = ("none", "hang", "garbage", "twice", "never", "slow", "reject", "close")

cdef enum:
    NO_FAULT = 0
    HANG = 1
    GARBAGE = 2
    TWICE = 3
    NEVER = 4
    SLOW = 5
    REJECT = 6
    CLOSE = 7

cdef uint64_t SLOW_NS = 5000000000
# The provider's own delay may exceed what was asked for by this much.
cdef uint64_t LATE_NS = 500000
cdef bytes GARBAGE_BYTES = b"HTTP/1.1 500 This is not Dubbo\r\n\r\n"

cdef const char* PATH = "com.alibaba.dubbo.performance.demo.provider.IHelloService"


class ProviderStatistics(NamedTuple):
    """Counts since the start, and how long the delay really was, in milliseconds."""

    connections: int
    requests: int
    accepted: int
    rejected: int
    refused: int
    replies: int
    heartbeats: int
    in_flight: int
    in_flight_max: int
    delay_ms_mean: float
    delay_ms_min: float
    delay_ms_p50: float
    delay_ms_p99: float
    delay_ms_max: float
    late: int


cdef inline bint says(const Slice* json, const char* text) noexcept nogil:
    return json_equals(json.data, json.length, text, strlen(text))


cdef inline bint reads(const Slice* slice, const char* text) noexcept nogil:
    cdef Py_ssize_t n = strlen(text)
    return slice.length == n and memcmp(slice.data, text, n) == 0


cdef int raise_in(Buffer out, uint64_t id, const char* class_name, bytes message) except -1:
    message = message.decode("utf-8", "replace").encode()  # it may have been cut within a character
    return write_exception_reply(
        out, id, class_name, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message)
    )


cdef class DemoProvider:
    """One provider: its service, pool, faults and counts, shared by its connections.

    ``delay_ns`` is what a call takes (0: answered in the tick that it is read), ``limit`` how many
    may be under way, ``fault`` one of FAULTS, which hits calls number ``fault_after`` (from 0) to
    before ``fault_until`` (0: without end), ``serialization`` one of SERIALIZATIONS.
    """

    def __init__(
        self, loop, *, uint64_t delay_ns=50000000, int limit=200, str fault="none",
        int64_t fault_after=0, int64_t fault_until=0, str serialization="fastjson",
    ):
        if limit < 1:
            raise UsageError(f"the limit must be 1 or more, not {limit}")
        if fault not in FAULTS:
            raise UsageError(f"fault must be one of {', '.join(FAULTS)}, not {fault}")
        if serialization not in SERIALIZATIONS:
            raise UsageError(
                f"serialization must be one of {', '.join(SERIALIZATIONS)}, not {serialization}"
            )
        self.serialization = SERIALIZATIONS[serialization]
        if fault_after < 0 or fault_until < 0:
            raise UsageError("fault_after and fault_until must be 0 or more")
        self.limit = limit
        self.fault = FAULTS.index(fault)
        self.fault_from = fault_after
        self.fault_to = fault_until if fault_until else 0x7FFFFFFFFFFFFFFF
        self.delay_ns = delay_ns
        self.line = DelayLine(loop, delay_ns) if delay_ns else None
        self.slow_line = DelayLine(loop, delay_ns + SLOW_NS) if self.fault == SLOW else None
        self.connections = set()
        self.logger = logging.getLogger("dragoman.demo.provider")
        self.waited_ns_min = 0xFFFFFFFFFFFFFFFF

    def connection(self):
        """A protocol for one more connection: a protocol factory for ``create_server``."""
        return Connection(self)

    cdef int active_fault(self) noexcept:
        """The fault that hits the request counted last."""
        if self.fault and self.fault_from < self.requests <= self.fault_to:
            return self.fault
        return NO_FAULT

    cdef int waited(self, int count, uint64_t waited_ns) noexcept:
        """Count how long ``count`` calls really waited."""
        cdef uint64_t over = (waited_ns - self.delay_ns) // OVER_STEP_NS
        if waited_ns >= self.delay_ns + SLOW_NS:
            return 0  # a fault, not this provider's own delay
        self.delayed += count
        self.waited_ns_sum += waited_ns * count
        self.over[over if over < OVER_COUNT else OVER_COUNT - 1] += count
        if waited_ns < self.waited_ns_min:
            self.waited_ns_min = waited_ns
        if waited_ns > self.waited_ns_max:
            self.waited_ns_max = waited_ns
        if waited_ns > self.delay_ns + LATE_NS:
            self.delayed_late += count
        return 0

    cdef double over_ms(self, double quantile) noexcept:
        """How far beyond the delay ``quantile`` of the calls waited at most, in steps of 10 us."""
        cdef int64_t left = <int64_t>(self.delayed * quantile)
        cdef int i
        for i in range(OVER_COUNT):
            left -= self.over[i]
            if left < 0:
                break
        return (i + 1) * (OVER_STEP_NS / 1e6)

    cdef int run(self, Buffer out, DubboDecoder frame) except -1:
        """Serve the call in ``frame``, appending its reply to ``out``."""
        if self.serialization == DUBBO_HESSIAN2:
            return run_hessian2(out, frame.id, frame.body, frame.body_length, PATH)
        return self.run_fastjson(out, frame.id)

    cdef int run_fastjson(self, Buffer out, uint64_t id) except -1:
        """Serve the call that has been read into ``request``."""
        cdef Slice* argument = &self.request.arguments[0]
        cdef Slice* method = &self.request.method
        cdef Slice* descriptor = &self.request.descriptor
        if says(method, b"hash") and reads(descriptor, b"Ljava/lang/String;"):
            if argument.data[0] == c'"':
                return write_int_reply(out, id, java_hash_json(argument.data, argument.length))
            if argument.data[0] == c'n':
                return raise_in(out, id, b"java.lang.NullPointerException", b"str is null")
            return raise_in(
                out, id, b"java.lang.IllegalArgumentException", b"hash takes a String"
            )
        if (
            (says(method, b"echo") and reads(descriptor, b"Ljava/lang/String;"))
            or (says(method, b"$echo") and reads(descriptor, b"Ljava/lang/Object;"))
            or (says(method, b"bean") and reads(descriptor, b"Ljava/util/Map;"))
        ):
            if argument.data[0] == c'n':
                return write_null_reply(out, id)
            return write_value_reply(out, id, argument.data, argument.length)
        if says(method, b"fail") and reads(descriptor, b"Ljava/lang/String;"):
            return fail_with(out, id, argument)
        if says(method, b"add") and reads(descriptor, b"II"):
            return add(out, id, argument, &self.request.arguments[1])
        if says(method, b"now") and descriptor.length == 0:
            return write_value_reply(out, id, b"1527811200000", 13)
        if says(method, b"names") and descriptor.length == 0:
            return write_value_reply(out, id, b'{1:"one",2:"two"}', 17)
        if says(method, b"nothing") and descriptor.length == 0:
            return write_null_reply(out, id)
        return raise_in(
            out, id, b"java.lang.NoSuchMethodException",
            b"Not found method %.100b(%.200b) in class %b" % (
                method.data[1:method.length - 1], descriptor.data[:descriptor.length], PATH,
            ),
        )

    def announce_stop(self):
        """Tell every connection that this provider is about to stop (the event ``R``)."""
        cdef Buffer out
        self.draining = True
        for connection in list(self.connections):
            out = Buffer()
            write_readonly(out, 0, self.serialization)
            (<Connection>connection).transport.write(out.take())

    def close(self):
        """Close every connection and forget what is under way."""
        for connection in list(self.connections):
            (<Connection>connection).transport.close()
        if self.line is not None:
            self.line.close()
        if self.slow_line is not None:
            self.slow_line.close()

    @property
    def open_connections(self):
        """How many connections there are now."""
        return len(self.connections)

    def statistics(self):
        """Counts so far."""
        return ProviderStatistics(
            self.connected, self.requests, self.accepted, self.rejected, self.refused,
            self.replies, self.heartbeats, self.in_flight, self.in_flight_max,
            self.waited_ns_sum / self.delayed / 1e6 if self.delayed else 0.0,
            self.waited_ns_min / 1e6 if self.delayed else 0.0,
            self.delay_ns / 1e6 + self.over_ms(0.5) if self.delayed else 0.0,
            self.delay_ns / 1e6 + self.over_ms(0.99) if self.delayed else 0.0,
            self.waited_ns_max / 1e6,
            self.delayed_late,
        )


cdef int fail_with(Buffer out, uint64_t id, const Slice* argument) except -1:
    """A reply that throws with the argument's text as message."""
    cdef bytes message = b"null"
    if argument.data[0] == c'"':
        import json

        text = json.loads(argument.data[:argument.length])
        message = text.encode("utf-8", "replace")
    return raise_in(out, id, b"java.lang.RuntimeException", message)


cdef int add(Buffer out, uint64_t id, const Slice* a, const Slice* b) except -1:
    """A reply with the sum of two numbers, wrapped to 32 bits; they may be text, as in fastjson."""
    try:
        total = int(a.data[:a.length].strip(b'"')) + int(b.data[:b.length].strip(b'"'))
    except ValueError:
        return raise_in(
            out, id, b"java.lang.IllegalArgumentException", b"add takes two numbers"
        )
    return write_int_reply(out, id, <int32_t>(<uint32_t>(total & 0xFFFFFFFF)))


cdef class Connection(Owner):
    """One connection to the provider: an asyncio protocol."""

    def __init__(self, DemoProvider provider not None):
        self.provider = provider
        self.decoder = DubboDecoder()
        self.now = Buffer()
        self.later = Buffer()

    def connection_made(self, transport):
        """The loop: a peer has connected."""
        self.transport = transport
        self.provider.connections.add(self)
        self.provider.connected += 1

    def connection_lost(self, error):
        """The loop: the connection is gone. What it has under way runs on and answers nobody."""
        self.closed = True
        self.provider.connections.discard(self)

    def pause_writing(self):
        """The loop: the peer does not read its replies, so its requests wait."""
        if not self.closed:
            self.transport.pause_reading()

    def resume_writing(self):
        """The loop: the peer reads again."""
        if not self.closed:
            self.transport.resume_reading()

    def eof_received(self):
        """The loop: the peer sends no more. Replies still under way go out before the close."""
        self.half_closed = True
        return self.owed > 0

    def data_received(self, bytes data not None):
        """The loop: bytes have come."""
        cdef DemoProvider provider = self.provider
        cdef DubboDecoder decoder = self.decoder
        cdef int outcome = DUBBO_FRAME, count = 0
        decoder.receive(data)
        while not self.closed:
            outcome = decoder.next_frame()
            if outcome != DUBBO_FRAME:
                break
            if decoder.is_event:
                self.serve_event()
            elif decoder.is_request:
                self.serve_request(&count)
            # A reply answers nothing that this side asked: dropped.
        if count:
            self.owed += count
            if provider.line is None or provider.active_fault() == SLOW:
                provider.slow_line.put(self, self.later.take(), count)
            else:
                provider.line.put(self, self.later.take(), count)
        if self.closed:
            self.transport.abort()
            return
        if self.now.length:
            self.transport.write(self.now.take())
        if outcome == DUBBO_ERROR:
            provider.refused += 1
            provider.logger.warning("closing a connection: %s", decoder.error)
            self.closed = True
            self.transport.close()

    cdef int serve_event(self) except -1:
        """Answer a heartbeat; any other event says nothing to a provider."""
        cdef DubboDecoder frame = self.decoder
        if (
            frame.is_request and frame.two_way
            and event_kind(frame.body, frame.body_length) == DUBBO_EVENT_HEARTBEAT
        ):
            self.provider.heartbeats += 1
            write_heartbeat_reply(
                self.now, frame.id, frame.serialization, frame.body, frame.body_length
            )
        return 0

    cdef int error(self, int status, bytes text) except -1:
        """Answer the request at hand, which does not run, with ``status``."""
        if self.decoder.two_way:
            text = text.decode("utf-8", "replace").encode()
            write_error_reply(
                self.now, self.decoder.id, self.provider.serialization, status,
                PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text),
            )
        return 0

    cdef bint read_fastjson(self) except -1:
        """Read the request at hand into the provider's ``request``; False if it was refused."""
        cdef DemoProvider provider = self.provider
        cdef DubboDecoder frame = self.decoder
        cdef int code = read_request(frame.body, frame.body_length, &provider.request)
        if code != FASTJSON_OK:
            provider.refused += 1
            self.error(DUBBO_BAD_REQUEST, b"Fail to decode request: " + fastjson_problem(code))
            return False
        if not says(&provider.request.path, PATH):
            provider.refused += 1
            self.error(
                DUBBO_SERVICE_NOT_FOUND,
                b"Not found exported service: %.200b"
                % provider.request.path.data[:provider.request.path.length],
            )
            return False
        return True

    cdef int serve_request(self, int* count) except -1:
        """Refuse the request at hand, or run it and let its reply wait its time."""
        cdef DemoProvider provider = self.provider
        cdef DubboDecoder frame = self.decoder
        cdef int fault
        cdef Buffer out
        cdef Py_ssize_t start
        provider.requests += 1
        fault = provider.active_fault() if provider.fault else NO_FAULT
        if fault == REJECT or provider.in_flight >= provider.limit:
            provider.rejected += 1
            return self.error(
                DUBBO_POOL_EXHAUSTED,
                b"Thread pool is EXHAUSTED! Pool Size: %d (active: %d, core: %d, max: %d)"
                % (provider.limit, provider.in_flight, provider.limit, provider.limit),
            )
        if frame.serialization != provider.serialization:
            provider.refused += 1
            return self.error(
                DUBBO_BAD_REQUEST,
                b"Fail to decode request: serialization %d is not %b" % (
                    frame.serialization,
                    b"hessian2 (2)" if provider.serialization == DUBBO_HESSIAN2
                    else b"fastjson (6)",
                ),
            )
        if frame.serialization == DUBBO_FASTJSON and not self.read_fastjson():
            return 0
        provider.accepted += 1
        if fault == HANG:
            provider.in_flight += 1
            self.transport.pause_reading()
            return 0
        if fault == CLOSE:
            self.closed = True
            return 0
        if fault == NEVER:
            return 0
        out = self.now if provider.line is None and fault != SLOW else self.later
        start = out.length
        if fault == GARBAGE:
            out.append(PyBytes_AS_STRING(GARBAGE_BYTES), PyBytes_GET_SIZE(GARBAGE_BYTES))
        else:
            provider.run(out, frame)
            if not frame.two_way:
                out.length = start
            elif fault == TWICE:
                provider.run(out, frame)
        if out is self.now:
            provider.replies += frame.two_way
            if provider.in_flight_max == 0:
                provider.in_flight_max = 1
            return 0
        provider.in_flight += 1
        if provider.in_flight > provider.in_flight_max:
            provider.in_flight_max = provider.in_flight
        count[0] += 1
        return 0

    cdef int release(self, bytes payload, int count, uint64_t waited_ns) except -1:
        """Write the replies whose delay is over."""
        cdef DemoProvider provider = self.provider
        provider.in_flight -= count
        self.owed -= count
        provider.waited(count, waited_ns)
        if not self.closed:
            if PyBytes_GET_SIZE(payload):
                provider.replies += count
                self.transport.write(payload)
            if self.half_closed and self.owed == 0:
                self.transport.close()
        return 0
