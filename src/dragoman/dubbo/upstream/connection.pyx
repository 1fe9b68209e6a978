"""A connection to a Dubbo provider: calls under way, heartbeats, readonly, silence.

A ``DubboConnection`` matches replies to calls by id. Requests are written by the codec straight
into the connection's buffer and leave in one write a tick. ``dubbo.upstream.link`` keeps the
connections of one provider. Protocol facts: ``wire.dubbo.frame``.

A provider that sends a wrong but plausible length puts all its later replies inside a frame that is
never whole. Such a frame is given up by its rate and deadline (``rpc.arrival``), at once if the
header of a reply that is due lies within it, and when calls are lost in a row while it hardly
grows.

Invariants: each call that ``begin`` accepted ends exactly once (reply or loss) unless it is
forgotten; ids go on across connections, so that a reply from before a restart never matches; after
a framing error the connection is closed, never resynchronised; a connection is ``silent`` only
while calls are under way, and neither an answer nor that to a heartbeat has come for half a second.

Long because all that ends a connection, and with it the calls on it, is one concept: loss, a
violation, a frame that never arrives, silence, a provider that does not read.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr

from dragoman.rpc.arrival cimport Progress
from dragoman.rpc.tick cimport tick_of, write_to
from dragoman.wire.dubbo.event cimport (
    DUBBO_EVENT_READONLY, DUBBO_EVENT_WRITABLE, event_kind, write_heartbeat,
    write_heartbeat_reply,
)
from dragoman.wire.dubbo.frame cimport (
    DUBBO_ERROR, DUBBO_EVENT, DUBBO_HEADER_BYTES, DUBBO_HESSIAN2, DUBBO_MAGIC_HIGH,
    DUBBO_MAGIC_LOW, DUBBO_NEED_MORE, DUBBO_REQUEST, DubboDecoder,
)

import logging

from dragoman.forking import opened
from dragoman.reasons import reason

log = logging.getLogger("dragoman.dubbo")

# A connection with calls under way on which nothing has been read for so long is asked by a
# heartbeat, and is silent if it has not answered after this long.
cdef int64_t PULSE_US = 100_000
cdef int64_t ASK_US = 250_000
cdef int64_t SILENT_US = 500_000
# A provider that is silent gets one call so often, to see whether it answers that.
cdef int64_t PROBE_US = 500_000
# So many calls lost in a row behind a frame that hardly grows end the connection.
cdef int MISSED_MOST = 3
# How much waits for a provider that does not read, and for how long.
cdef size_t OUT_BYTES_MAX = 64 * 1024 * 1024
UNREAD_S = 30.0
# For a shorter request there is always room.
cdef size_t SMALL_BYTES = 4096
CLOSED = "the connection to the provider was closed here"
LEAVING = "the provider is about to stop"
GREETED = "what the provider speaks is being found out"


cdef class DubboCall(Timed):
    """A call at a provider. Exactly one of the two is called, once, unless it is forgotten."""

    cdef void on_dubbo_reply(self, int status, int serialization, const char* body, Py_ssize_t n):
        """The reply; ``body`` is valid during this call."""

    cdef void on_dubbo_refused(self, Py_ssize_t n):
        """The reply has come, and there was no room for its ``n`` bytes."""

    cdef void on_dubbo_lost(self, bint sent, str why):
        """The connection broke; ``sent`` is False only if the request certainly never left. It
        was the provider that broke the protocol if ``violated``.
        """


cdef class ProviderState:
    """What the connections to one provider share, and tell it; a ``DubboLink``."""


cdef class Greeter:
    """Has the first word on a link's connections: each is used once ``opened`` has been called."""

    cdef void greet(self, DubboConnection connection):
        """A connection has been made; calls may be begun on it."""
        connection.opened()


cdef class DubboConnection(Arriving):
    """One connection: an ``asyncio.Protocol``."""

    def __cinit__(self, ProviderState owner, link, payload_bytes_max=8388608):
        self.loop = owner.loop
        self.owner = owner
        self._link = link
        self.tick = tick_of(owner.loop)
        self.out = Buffer()
        self.decoder = DubboDecoder(payload_bytes_max=payload_bytes_max)
        self.budget = self.decoder.budget = self.out.budget = owner.budget
        self._mask = 255
        self._slots = <void**>calloc(self._mask + 1, sizeof(void*))
        if self._slots == NULL:
            raise MemoryError
        self._next_id = owner._next_id
        self._flushed_id = self._next_id - 1
        self._pulse = Pulse.__new__(Pulse)
        self._pulse.connection = self

    def __dealloc__(self):
        cdef uint64_t i
        if self._slots != NULL:
            for i in range(self._mask + 1):
                if self._slots[i] != NULL:
                    Py_DECREF(<object>self._slots[i])
            free(self._slots)

    # asyncio.Protocol

    def connection_made(self, transport):
        """The provider accepted the connection."""
        self.transport = transport
        self._heard = True
        plain = transport.get_extra_info("socket")
        if plain is not None:
            opened(plain.fileno())
        self.owner.greeted.append(self)
        self.tick.wheel.schedule(self, self.tick.wheel.clock_us() + self.owner.heartbeat_us)
        log.info("connected to provider %s:%d", self.owner.host, self.owner.port)
        if self.owner.greeter is None:
            self.opened()
        else:
            self.owner.reason = GREETED
            self.owner.greeter.greet(self)

    cdef void opened(self):
        """From now on it may be given calls."""
        if self.closed or self not in self.owner.greeted:
            return
        self.owner.greeted.remove(self)
        self.owner.connections.append(self)
        self.owner.reason = None
        self.owner._leaving = False
        self._link.held()
        self.owner.on_change()

    def data_received(self, bytes data):
        """Bytes from the provider: replies, heartbeats, events."""
        self._heard = True
        self.owner.read_us = self.read_us = self.tick.wheel.clock_us()
        self.owner.read_from = self.decoder
        if self.silent:
            self._speaks()
        self.tick.read_begins()
        try:
            self.decoder.receive(data)
            self._process()
        finally:
            self.tick.read_ends(self.owner.read_us)
        if self.has_taken(len(data)) and not self.closed:
            self.transport.pause_reading()
            self.tick.line_up(self)

    cdef void take_turn(self):
        if not self.closed:
            self.transport.resume_reading()

    cdef int _process(self) except -1:
        cdef DubboDecoder frame = self.decoder
        cdef DubboCall call
        cdef int event
        while not self.closed:
            event = frame.next_frame()
            if event == DUBBO_NEED_MORE:
                if frame.have():
                    self.frame_begun(self.tick.wheel)
                break
            if event == DUBBO_ERROR:
                self.owner.protocol_errors += 1
                self.violated = True
                self.fail(
                    f"provider {self.owner.host}:{self.owner.port} broke the protocol: "
                    f"{frame.error}"
                )
                break
            if frame.is_event:
                self._event()
                continue
            if frame.is_request:
                # Callbacks are not ours: a provider's request to a consumer is dropped, and
                # counted.
                self.owner.unknown_replies += 1
                continue
            call = self._take(frame.id)
            if call is None:
                self.owner.unknown_replies += 1
                continue
            self._missed = 0
            if frame.refused:
                call.on_dubbo_refused(frame.body_length)
                continue
            call.on_dubbo_reply(frame.status, frame.serialization, frame.body, frame.body_length)
            if self.readonly_event and self.inflight == 0:
                # Nobody waits for anything here any more: it may be let go.
                self.owner.on_change()
        return 0

    def eof_received(self):
        """The provider closes."""
        return None

    def pause_writing(self):
        """The provider does not read: requests gather, within bounds, for a while."""
        self.paused = True
        self._count_queue()
        self._look_again()

    def _look_again(self):
        self._unread = self.loop.call_later(
            UNREAD_S, self._look, self.transport.get_write_buffer_size()
        )

    def _look(self, before):
        """A provider that takes in nothing for long is no better than one that is silent."""
        self._unread = None
        if self.closed or not self.paused:
            return
        if self.transport.get_write_buffer_size() >= before:
            self.fail(f"provider {self.owner.host}:{self.owner.port} does not read")
        else:
            self._look_again()

    cdef void _count_queue(self):
        """What the transport could not send counts until it has room again."""
        cdef size_t n = 0
        if self.paused and not self.closed:
            n = self.transport.get_write_buffer_size()
        self.budget.take(n)
        self.budget.give(self._queued)
        self._queued = n

    cdef bint full(self, size_t n) noexcept:
        """Whether a request with a body of ``n`` bytes finds no room."""
        if self.paused and self.out.length + n > OUT_BYTES_MAX:
            return True
        return n > SMALL_BYTES and not self.budget.admits(n)

    def resume_writing(self):
        """The provider reads again."""
        self.paused = False
        self._count_queue()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self._beat_waits:
            self._beat_waits = False
            write_heartbeat(self.out, self._next_id, DUBBO_HESSIAN2)
            self._next_id += 1
        if self.out.length and not self._marked:
            self.tick.mark(self)

    def connection_lost(self, exc):
        """The connection is gone: every call on it ends."""
        cdef uint64_t i
        cdef DubboCall call
        if self.closed:
            return
        self.closed = True
        self.tick.wheel.cancel(self)
        self.tick.wheel.cancel(self._pulse)
        self._pulse.connection = None
        self.end_watch()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        self._count_queue()
        if self.owner.read_from is self.decoder:
            self.owner.read_from = None
        if not self.decoder.pending_done:
            self.decoder.drop()
        self.out.drop()
        self.owner.losses += 1
        self.owner._next_id = self._next_id
        for kept in (self.owner.connections, self.owner.greeted):
            if self in kept:
                kept.remove(self)
        if self.failure is None:
            self.failure = (
                f"connection to provider {self.owner.host}:{self.owner.port} lost"
                + (f": {reason(exc)}" if exc else "")
            )
        self.owner.reason = self.failure
        if self.failure == CLOSED and self.owner._leaving:
            self.owner.reason = LEAVING
        # Who said that it would stop, and owes nothing, may close.
        orderly = self.failure == CLOSED or (self.readonly_event and self.inflight == 0)
        log.log(logging.INFO if orderly else logging.WARNING, "%s", self.failure)
        for i in range(self._mask + 1):
            if self._slots[i] != NULL:
                call = <DubboCall>self._slots[i]
                self._slots[i] = NULL
                self.inflight -= 1
                Py_DECREF(call)
                call.connection = None
                call.violated = self.violated
                call.on_dubbo_lost(call.dubbo_id <= self._flushed_id, self.failure)
        self._link.lost()
        self.owner.on_change()

    # requests

    cdef int _grow(self) except -1:
        cdef uint64_t mask = self._mask * 2 + 1
        cdef void** slots = <void**>calloc(mask + 1, sizeof(void*))
        cdef uint64_t i
        if slots == NULL:
            raise MemoryError
        for i in range(self._mask + 1):
            if self._slots[i] != NULL:
                slots[(<DubboCall>self._slots[i]).dubbo_id & mask] = self._slots[i]
        free(self._slots)
        self._slots = slots
        self._mask = mask
        return 0

    cdef uint64_t begin(self, DubboCall call) except 0:
        """Give ``call`` an id; the caller then writes its frame into ``out`` and calls ``sent`` (or
        ``undo``).
        """
        if <uint64_t>self.inflight * 2 > self._mask:
            self._grow()
        while self._slots[self._next_id & self._mask] != NULL:
            self._next_id += 1
        self._slots[self._next_id & self._mask] = <void*>call
        Py_INCREF(call)
        call.connection = self
        call.dubbo_id = self._next_id
        self._next_id += 1
        self.inflight += 1
        if not self._pulse.running:
            self._pulse.start()
        return call.dubbo_id

    cdef uint64_t begin_aside(self, DubboCall call) except 0:
        """``begin`` for a call whose silence says nothing of the provider."""
        cdef bint watched = self._pulse.running
        cdef uint64_t id = self.begin(call)
        if not watched:
            self._pulse.running = False
            self.tick.wheel.cancel(self._pulse)
        return id

    cdef void sent(self):
        """The frame is in ``out``: it leaves at the end of the tick."""
        if not self._marked:
            self.tick.mark(self)

    cdef int send_apart(self, bytes frame) except -1:
        """Send the frame of the call that began last, after what is in ``out``, without a copy. Not
        while the connection is paused."""
        self.flush()
        self._flushed_id = self._next_id - 1
        write_to(self.transport, frame)
        return 0

    cdef void undo(self, DubboCall call):
        """The frame could not be written; ``call`` was never here."""
        self.forget(call)

    cdef void forget(self, DubboCall call):
        """Expect no reply to ``call`` any more; one that comes is counted and dropped."""
        if self._take(call.dubbo_id) is call:
            call.connection = None

    cdef DubboCall _take(self, uint64_t id):
        cdef void** slot = &self._slots[id & self._mask]
        cdef DubboCall call
        if slot[0] == NULL:
            return None
        call = <DubboCall>slot[0]
        if call.dubbo_id != id:
            return None
        slot[0] = NULL
        self.inflight -= 1
        Py_DECREF(call)
        call.connection = None
        return call

    cdef void flush(self):
        if self.out.length == 0 or self.closed or self.paused:
            return
        self._flushed_id = self._next_id - 1
        write_to(self.transport, self.out.take())

    # frames that do not arrive

    cdef bint progress(self, Progress* frame) noexcept:
        if self.closed or self.decoder.have() == 0:
            return False
        frame.frame = self.decoder.pieced
        frame.have = self.decoder.have()
        frame.length = self.decoder.needed()
        frame.reading = True
        return True

    cdef void on_stalled(self, str why):
        self.owner.protocol_errors += 1
        self.violated = True
        self.fail(f"provider {self.owner.host}:{self.owner.port}: {why}")

    cdef bint on_watched(self):
        if self._holds_a_reply():
            self.on_stalled(
                f"a frame's length of {self.decoder.body_length} bytes is wrong: replies lie in it"
            )
        return not self.closed

    cdef void missed(self):
        """The deadline of a call here has passed."""
        if self.closed or self.decoder.have() == 0 or not self.on_watched():
            return
        self._missed += 1
        if self._missed >= MISSED_MOST and self.frame_is_late():
            self.on_stalled(
                f"{self._missed} calls were lost in a row behind a frame of "
                f"{self.decoder.body_length} bytes that does not arrive"
            )

    cdef bint _holds_a_reply(self):
        """Whether the header of a reply to a call under way lies in the body of the frame in
        progress. Its id is in nobody's hands but ours and the provider's, so no value can look
        like that.
        """
        cdef DubboDecoder frame = self.decoder
        cdef const uint8_t* p
        cdef const char* found
        cdef const char* end = frame.pending + frame.pending_length - DUBBO_HEADER_BYTES + 1
        cdef uint64_t id
        cdef int i
        if frame.pending_length < 2 * DUBBO_HEADER_BYTES:
            return False
        if self._searched_frame != frame.pieced or self._searched > frame.pending_length:
            self._searched_frame = frame.pieced
            self._searched = DUBBO_HEADER_BYTES
        found = frame.pending + self._searched
        while found < end:
            found = <const char*>memchr(found, DUBBO_MAGIC_HIGH, end - found)
            if found == NULL:
                break
            p = <const uint8_t*>found
            found += 1
            if p[1] != DUBBO_MAGIC_LOW or p[2] & (DUBBO_REQUEST | DUBBO_EVENT):
                continue
            id = 0
            for i in range(8):
                id = id << 8 | p[4 + i]
            if self._slots[id & self._mask] != NULL \
                    and (<DubboCall>self._slots[id & self._mask]).dubbo_id == id:
                return True
        self._searched = end - frame.pending
        return False

    # silence

    cdef void _falls_silent(self):
        self.silent = True
        self.probed_us = self.tick.wheel.clock_us()
        log.warning(
            "provider %s:%d is silent: it answers neither calls nor heartbeats",
            self.owner.host, self.owner.port,
        )
        self.owner.on_change()

    cdef void _speaks(self):
        self.silent = False
        log.info("provider %s:%d answers again", self.owner.host, self.owner.port)
        self.owner.on_change()

    cdef bint may_probe(self, int64_t now_us) noexcept:
        """Whether a call may go to this silent provider: now and then one, for its answer."""
        if now_us - self.probed_us < PROBE_US:
            return False
        self.probed_us = now_us
        return True

    # events

    cdef void _event(self):
        cdef DubboDecoder frame = self.decoder
        cdef int kind = event_kind(frame.body, frame.body_length)
        if kind == DUBBO_EVENT_READONLY:
            log.info("provider %s:%d is about to stop", self.owner.host, self.owner.port)
            self.readonly_event = True
            self.owner._leaving = True
            self.owner.on_change()
        elif kind == DUBBO_EVENT_WRITABLE:
            self.readonly_event = False
            self.owner.on_change()
        elif frame.is_request and frame.two_way and self.paused:
            # One for all of them, when it reads again.
            self._beat_waits = True
        elif frame.is_request and frame.two_way:
            write_heartbeat_reply(
                self.out, frame.id, frame.serialization, frame.body, frame.body_length
            )
            self.sent()

    cdef void on_due(self):
        """A provider silent for an interval is asked, one silent for three is given up."""
        if self.closed:
            return
        if self._heard:
            self._pinged = False
        elif self._pinged:
            self.fail(f"provider {self.owner.host}:{self.owner.port} answers no heartbeat")
            return
        else:
            self._pinged = True
            self.ask()
        self._heard = False
        self.tick.wheel.schedule(
            self, self.tick.wheel.clock_us() + self.owner.heartbeat_us * (2 if self._pinged else 1)
        )

    cdef void ask(self):
        """Send a heartbeat, which the provider answers whatever its pool does."""
        write_heartbeat(self.out, self._next_id, DUBBO_HESSIAN2)
        self._next_id += 1
        self.sent()

    cdef void fail(self, str why):
        self.failure = why
        self.transport.abort()
        self.connection_lost(None)

    def close(self):
        """Close the connection; calls on it are lost."""
        if not self.closed:
            self.failure = CLOSED
            self.flush()
            self.transport.close()
            self.connection_lost(None)


cdef class Pulse(Timed):
    """Watches that a connection with calls under way is heard of; at rest without any.

    What counts is silence after a call: a slow one alone has the provider asked once, by a
    heartbeat, and is left in peace when that is answered.
    """

    cdef void start(self):
        """A call has begun, and nothing was watched."""
        self.running = True
        self._since_us = self.connection.tick.wheel.clock_us()
        self._begun = 0
        self._asked = False
        self.connection.tick.wheel.schedule(self, self._since_us + PULSE_US)

    cdef void on_due(self):
        cdef DubboConnection connection = self.connection
        cdef int64_t now
        if connection is None:
            return
        if connection.inflight == 0:
            self.running = False
            return
        if connection.read_us > self._since_us:
            if connection._next_id == self._begun:
                # All that is under way was there when the provider was heard of.
                self.running = False
                return
            self._since_us = connection.read_us
            self._begun = connection._next_id
            self._asked = False
        now = connection.tick.wheel.clock_us()
        if not self._asked and now - self._since_us >= ASK_US:
            self._asked = True
            self._begun = connection._next_id + 1
            connection.ask()
        elif not connection.silent and now - self._since_us >= SILENT_US:
            connection._falls_silent()
        connection.tick.wheel.schedule(self, now + PULSE_US)
