"""The provider's end of a Dubbo connection: frames in, replies out, heartbeats, silence.

``dubbo.server.dispatch.Dispatcher`` is the ``Connected`` that a server's connections share: it
makes them and is given their requests. The invariants: what is written in a tick leaves in one
write; a peer that does not read its replies is not read from; what is no Dubbo ends the connection.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

from dragoman.dubbo.server.results cimport TEXT_MAX
from dragoman.budget cimport Budget, process_budget
from dragoman.rpc.arrival cimport Progress
from dragoman.rpc.tick cimport tick_of, write_to
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.event cimport (
    DUBBO_EVENT_HEARTBEAT, event_kind, write_heartbeat_reply, write_readonly,
)
from dragoman.wire.dubbo.frame cimport (
    DUBBO_ERROR, DUBBO_FRAME, DUBBO_HESSIAN2, DUBBO_POOL_EXHAUSTED, DubboDecoder,
    write_error_reply,
)

import logging

from dragoman.forking import closed, opened

log = logging.getLogger("dragoman.dubbo")

# What this process holds for its peers.
cdef Budget of_process = process_budget()


cdef class Connected:
    """What a server's connections share: their bounds, their tick of the loop and counters."""

    def __init__(self, loop, Py_ssize_t payload_bytes_max, idle_s, int clients_max, budget=None):
        self.loop = loop
        self.tick = tick_of(loop)
        self.payload_bytes_max = payload_bytes_max
        self.idle_us = <int64_t>(idle_s * 1e6)
        self.clients_max = clients_max
        self.budget = of_process if budget is None else budget
        self.connections = set()

    cdef int serve(self, ServiceConnection connection) except -1:
        """Take the request that the connection's decoder has; the Dispatcher's."""
        raise NotImplementedError

    def connection(self):
        """A protocol for one more connection."""
        return ServiceConnection(self)

    def announce_stop(self):
        """Tell every connection that this provider is about to stop (the event ``R``)."""
        cdef ServiceConnection connection
        self.draining = True
        for connection in list(self.connections):
            write_readonly(connection.out, 0, DUBBO_HESSIAN2)
            self.tick.mark(connection)

    def close(self, *, at_once=False):
        """Close every connection, once what has been written is sent, or at once; calls at work go
        on, but nobody hears of them.
        """
        cdef ServiceConnection connection
        self.closed = True
        for connection in list(self.connections):
            connection.close()
            if at_once:
                connection.transport.abort()

    @property
    def open_connections(self):
        """How many connections there are now."""
        return len(self.connections)


cdef class ServiceConnection(Arriving):
    """One connection: an ``asyncio.Protocol``."""

    def __init__(self, Connected provider not None):
        self.loop = provider.loop
        self.provider = provider
        self.decoder = DubboDecoder(payload_bytes_max=provider.payload_bytes_max)
        self.out = Buffer()
        self.decoder.budget = self.out.budget = provider.budget
        self.peer = "?"

    def connection_made(self, transport):
        """The loop: a peer has connected."""
        cdef Connected provider = self.provider
        self.transport = transport
        if provider.closed:
            self.closed = True
            transport.abort()
            return
        if len(provider.connections) >= provider.clients_max:
            log.warning("a connection beyond %d is refused", provider.clients_max)
            self.closed = True
            transport.abort()
            return
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple) and len(name) >= 2:
            self.peer = f"{name[0]}:{name[1]}"
        plain = transport.get_extra_info("socket")
        if plain is not None:
            self.descriptor = plain.fileno()
            opened(self.descriptor)
        provider.connections.add(self)
        provider.connected += 1
        if provider.draining:
            write_readonly(self.out, 0, DUBBO_HESSIAN2)
            provider.tick.mark(self)
        self.read_us = provider.tick.wheel.clock_us()
        provider.tick.wheel.schedule(self, self.read_us + provider.idle_us)

    def connection_lost(self, error):
        """The loop: the connection is gone. What runs goes on, and nobody hears of it."""
        self.closed = True
        if self.descriptor:
            closed(self.descriptor)
        self.provider.connections.discard(self)
        if self.put_by is not None:
            self.provider.budget.give(len(self.put_by))
            self.put_by = None
        self.end_watch()
        self._count_queue()
        if not self.decoder.pending_done:
            self.decoder.drop()
        self.out.drop()
        if self._wheel is not None:
            self._wheel.cancel(self)

    def pause_writing(self):
        """The loop: the peer does not read its replies, so its requests wait."""
        if not self.closed:
            self.paused = True
            self._count_queue()
            self.transport.pause_reading()

    cdef void _count_queue(self):
        """What the transport could not send counts until it has room again."""
        cdef size_t n = 0
        if self.paused and not self.closed:
            n = self.transport.get_write_buffer_size()
        self.provider.budget.take(n)
        self.provider.budget.give(self._queued)
        self._queued = n

    def resume_writing(self):
        """The loop: the peer reads again."""
        cdef Connected provider
        if not self.closed:
            self.paused = False
            self._count_queue()
            if self.put_by is None:
                self.transport.resume_reading()
            else:
                provider = self.provider
                provider.tick.line_up(self)

    def eof_received(self):
        """The loop: the peer sends no more. Replies still under way go out before the close."""
        self.half_closed = True
        return self.owed > 0 or self.put_by is not None

    def data_received(self, bytes data not None):
        """The loop: bytes have come."""
        cdef Connected provider = self.provider
        if self.put_by is not None:
            # A transport that gives more to who does not read is taken at its word.
            provider.budget.take(len(data))
            self.put_by += data
            return
        self.read_us = provider.tick.wheel.clock_us()
        provider.tick.read_begins()
        try:
            provider.tick.begin_slice(self.read_us)
            self._take_frames(data)
        finally:
            provider.tick.read_ends(self.read_us)

    cdef void take_turn(self):
        cdef bytes data = self.put_by
        if self.closed or self.paused or data is None:
            return
        self.put_by = None
        self.provider.budget.give(len(data))
        self.read_us = self.provider.tick.wheel.clock_us()
        self._take_frames(data)
        if self.put_by is None and not self.closed and not self.paused:
            self.transport.resume_reading()

    cdef int _take_frames(self, bytes data) except -1:
        """Deal with ``data``, for a slice of the tick."""
        cdef Connected provider = self.provider
        cdef DubboDecoder frame = self.decoder
        cdef int outcome = DUBBO_FRAME
        frame.receive(data)
        while not self.closed:
            if outcome == DUBBO_FRAME and (self.paused or provider.tick.slice_over()) \
                    and frame.end > frame.at:
                # The frames that are left, for ``take_turn``.
                self.put_by = data[len(data) - (frame.end - frame.at):]
                provider.budget.take(len(self.put_by))
                frame.at = frame.end
                if not self.paused:
                    self.transport.pause_reading()
                    provider.tick.line_up(self)
                return 0
            outcome = frame.next_frame()
            if outcome != DUBBO_FRAME:
                break
            if frame.is_event:
                self._event()
            elif frame.is_request and frame.refused:
                self._no_room()
            elif frame.is_request:
                provider.serve(self)
            # A reply answers nothing that this side asked: dropped.
        if self.has_taken(len(data)) and not self.closed and not self.paused:
            self.put_by = b""
            self.transport.pause_reading()
            provider.tick.line_up(self)
        if outcome == DUBBO_ERROR and not self.closed:
            # Telnet, HTTP, or a frame that is none: there is no way back into step.
            provider.refused += 1
            log.info("%s: closing the connection: %s", self.peer, frame.error)
            self.close()
        elif frame.have() and not self.closed:
            self.frame_begun(provider.tick.wheel)
        return 0

    cdef bint progress(self, Progress* frame) noexcept:
        if self.closed or self.decoder.have() == 0:
            return False
        frame.frame = self.decoder.pieced
        frame.have = self.decoder.have()
        frame.length = self.decoder.needed()
        frame.reading = not self.paused and self.put_by is None
        return True

    cdef void on_stalled(self, str why):
        self.provider.refused += 1
        log.info("%s: closing the connection: %s", self.peer, why)
        self.close()

    cdef int _no_room(self) except -1:
        """Refuse a request whose body is thrown away: as a full pool does, so that it may be tried
        elsewhere.
        """
        cdef DubboDecoder frame = self.decoder
        if frame.two_way:
            self.error(
                frame.id, frame.serialization, DUBBO_POOL_EXHAUSTED,
                f"no memory is left here for a request of {frame.body_length} bytes",
            )
        return 0

    cdef int _event(self) except -1:
        """Answer a heartbeat; any other event says nothing to a provider."""
        cdef DubboDecoder frame = self.decoder
        if frame.is_request and frame.two_way \
                and event_kind(frame.body, frame.body_length) == DUBBO_EVENT_HEARTBEAT:
            self.provider.heartbeats += 1
            write_heartbeat_reply(
                self.out, frame.id, frame.serialization, frame.body, frame.body_length
            )
            self.provider.tick.mark(self)
        return 0

    cdef int error(self, uint64_t id, int serialization, int status, str text) except -1:
        """Answer a request with a status other than 20."""
        cdef bytes utf8 = text[:TEXT_MAX].encode("utf-8", "replace")
        if not self.closed:
            write_error_reply(
                self.out, id, serialization, status, PyBytes_AS_STRING(utf8),
                PyBytes_GET_SIZE(utf8),
            )
            self.provider.tick.mark(self)
        return 0

    cdef void flush(self):
        if self.out.length and not self.closed:
            write_to(self.transport, self.out.take())
        if self.half_closed and self.owed == 0 and self.put_by is None and not self.closed:
            self.transport.close()

    cdef void on_due(self):
        """A peer that is silent for long is let go: a live one would have sent a heartbeat."""
        cdef Connected provider = self.provider
        cdef int64_t due_us = self.read_us + provider.idle_us
        if self.closed:
            return
        if self.owed == 0 and provider.tick.wheel.clock_us() >= due_us:
            log.info("%s: closing the connection: silent for too long", self.peer)
            self.close()
            return
        if due_us <= provider.tick.wheel.clock_us():
            due_us = provider.tick.wheel.clock_us() + provider.idle_us
        provider.tick.wheel.schedule(self, due_us)

    def close(self):
        """Send what there is, and close."""
        if not self.closed:
            self.flush()
            self.closed = True
            self.end_watch()
            if self._wheel is not None:
                self._wheel.cancel(self)
            self.transport.close()
