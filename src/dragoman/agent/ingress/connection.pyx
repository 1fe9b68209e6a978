"""One HTTP connection: reading, the order of responses, its time limits and its end.

The ``requests`` module makes calls of what comes on it. Invariants: every request gets exactly one
response, its own, in order; at most ``PIPELINE_MAX`` requests of a connection are in progress,
beyond that its reading pauses; a client that leaves frees its place at once.
"""

from libc.stdint cimport int64_t

from dragoman.agent.ingress.call cimport HttpCall, HttpCaller
from dragoman.agent.ingress.shared cimport BODY_GRACE_US, Ingress
from dragoman.wire.http1.tables cimport EV_CONTINUE, EV_ERROR, EV_NEED_MORE

import logging

from dragoman.agent import contract
from dragoman.errors import Code

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    int MSG_PEEK
    ssize_t recv(int fd, void* data, size_t n, int flags)

cdef enum:
    PIPELINE_MAX = 16
    # After the last response of a connection the client may finish what it is sending: closing at
    # once would make its kernel discard the response. Bounds of what is discarded, of silence, of
    # all.
    LINGER_BYTES_MAX = 67108864
    LINGER_US = 2_000_000
    LINGER_MOST_US = 10_000_000

log = logging.getLogger("dragoman.agent")

cdef int OVERLOAD = Code.OVERLOAD
# For a shorter reply there is always room.
cdef Py_ssize_t SMALL_BYTES = 4096


cdef class HttpConnection(HttpCaller):
    """One HTTP connection: an ``asyncio.Protocol``."""

    # asyncio.Protocol

    def connection_made(self, transport):
        """A client has connected."""
        cdef Ingress ingress = self.ingress
        self.transport = transport
        self._write = transport.write
        ingress.accepted += 1
        ingress.connections.add(self)
        self._active_us = ingress.tick.wheel.clock_us()
        ingress.tick.wheel.schedule(self, self._active_us + ingress.check_us)
        if len(ingress.connections) > ingress.limits.connections_max:
            ingress.refused_connections += 1
            self.refuse(503, "overload", "this agent has too many connections", True)

    def data_received(self, bytes data):
        """Bytes from the client."""
        if self._lingering or self._ending:
            self._discarded += len(data)
            self._active_us = self.ingress.tick.wheel.clock_us()
            if self._discarded > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        self._received += len(data)
        self.ingress.tick.read_begins()
        try:
            self.decoder.receive(data)
            self._pump()
        finally:
            self.ingress.tick.read_ends(self._active_us)
        if self.has_taken(len(data)) and not self.closed:
            self.transport.pause_reading()
            self.ingress.tick.line_up(self)

    cdef void take_turn(self):
        if not self.closed and not self._paused and not self._blocked:
            self.transport.resume_reading()

    def eof_received(self):
        """The client writes no more; it may still wait for responses."""
        self._half_closed = True
        return self._outstanding > 0 and not self.closed

    def pause_writing(self):
        """The client does not read: take no more of its requests."""
        self._paused = True
        self._paused_us = self.ingress.tick.wheel.clock_us()
        self._count_queue()
        self.transport.pause_reading()

    cdef void _count_queue(self):
        """Count the transport's unsent bytes until it has room again."""
        cdef size_t n = 0
        if self._paused and not self.closed:
            n = self.transport.get_write_buffer_size()
        self.ingress.budget.take(n)
        self.ingress.budget.give(self._queued)
        self._queued = n

    def resume_writing(self):
        """The client reads again."""
        self._paused = False
        self._count_queue()
        if not self.closed and not self._blocked:
            self.transport.resume_reading()
            self._pump()

    def connection_lost(self, exc):
        """The client has left; its requests are withdrawn."""
        cdef HttpCall call
        if self.closed:
            return
        self.closed = True
        self.ingress.connections.discard(self)
        self.ingress.tick.wheel.cancel(self)
        calls = ([self._head] if self._head is not None else []) + (self._later or [])
        self._head = None
        self._later = None
        self._count_queue()
        self.decoder.drop()
        for call in calls:
            call.count(0)
            if call.response is None and call.connection is not None:
                call.connection = None
                self.ingress.abandoned += 1
                self.ingress.in_progress -= 1
                call.withdraw()
        self._outstanding = 0

    def close(self):
        """Close after what was written has left."""
        if not self.closed:
            self.transport.close()
            self.connection_lost(None)

    def close_silent(self, int64_t since_us):
        """End it, if it is idle and has been silent since then, and nothing is there to be read.

        A request that was begun is told why it ends: what its client goes on sending into a closed
        connection would make its kernel throw away even that.
        """
        if self._outstanding or self._active_us > since_us or self.closed or self._unread():
            return
        if self._comes_more() and not self._lingering:
            self.refuse(503, "unavailable", "this agent is stopping", True)
        else:
            self.close()

    cdef bint _unread(self):
        """Whether the kernel has bytes from the client that the loop has not seen yet."""
        cdef char one
        cdef object sock = self.transport.get_extra_info("socket")
        cdef int fd = -1 if sock is None else sock.fileno()
        return fd >= 0 and recv(fd, &one, 1, MSG_PEEK | MSG_DONTWAIT) > 0

    cdef bint _comes_more(self) noexcept:
        """Whether another request has come, in part at least."""
        return self.decoder.mid_message or self._blocked or self.decoder.buffered() > 0

    cdef void _renders(self, HttpCall call):
        """While draining, before ``call``'s response is made: the connection ends with the last
        one, and what comes after that was asked is no request any more."""
        if not self._later:
            if self._head is not call:
                return
        elif self._later[len(self._later) - 1] is not call:
            return
        if not self._comes_more():
            call.keep_alive = False
            self._lingering = True

    # requests

    cdef void _pump(self):
        """Take the requests that have arrived, up to the pipelining bound."""
        cdef int event
        cdef int64_t now = 0
        while not self.closed and not self._ending and not self._paused:
            if self._outstanding >= PIPELINE_MAX:
                self._blocked = True
                self.transport.pause_reading()
                return
            event = self.decoder.next_event()
            if now == 0:
                now = self.ingress.tick.wheel.clock_us()
                self._active_us = now
            if event == EV_NEED_MORE:
                if not self.decoder.mid_message:
                    self._partial_us = 0
                elif self._partial_us == 0 or self._in_body == self.decoder.in_head:
                    # A head has its time, and its body has its own after it.
                    self._partial_us = now
                    self._in_body = not self.decoder.in_head
                    self._body_from = self._received
                return
            if event == EV_ERROR:
                self.refuse(
                    self.decoder.status, contract.name_of_status(self.decoder.status),
                    self.decoder.reason, True,
                )
                return
            if event == EV_CONTINUE:
                # With responses outstanding a 100 would come out of turn; the client's body comes
                # anyway.
                if self._outstanding == 0:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                continue
            self._partial_us = 0
            self.begin(now)

    cdef void begin(self, int64_t now):
        """A complete request has been decoded: answer it, or begin its call."""

    # responses

    cdef void expect(self, HttpCall call):
        self._outstanding += 1
        if self._head is None:
            self._head = call
        elif self._later is None:
            self._later = [call]
        else:
            self._later.append(call)

    cdef void answered(self, HttpCall call, bytes response):
        """``call`` has its response: write it when all before it are written."""
        cdef bint close = not call.keep_alive
        if self._head is not call:
            call.response = response
            call.counts_in = self.ingress.budget
            call.count(len(response) + (0 if call.rest is None else len(call.rest)))
            return
        call.count(0)
        self._head = None
        while True:
            self._outstanding -= 1
            self._write(response)
            if call.rest is not None:
                self._write(call.rest)
                call.rest = None
            if close:
                self._ending = True
                break
            if not self._later:
                break
            call = self._later.pop(0)
            if call.response is None:
                self._head = call
                break
            response = call.response
            call.count(0)
            close = not call.keep_alive
        if self._paused:
            self._count_queue()
        self._written()

    cdef void call_succeeded(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner):
        cdef Ingress ingress = self.ingress
        if n > SMALL_BYTES and not ingress.budget.admits(n):
            self.call_failed(call, OVERLOAD, f"no memory is left here for a reply of {n} bytes")
            return
        call.connection = None
        ingress.in_progress -= 1
        ingress.succeeded += 1
        ingress.latency.record_us(call.ended_us - call.started_us)
        if ingress.draining:
            self._renders(call)
        if call.accepted:
            self.answered(call, ingress.responses.accepted(call))
        else:
            self.answered(call, ingress.responses.result(call, body, n, owner))

    cdef void call_failed(self, HttpCall call, int code, str message):
        call.ended_us = self.ingress.tick.wheel.clock_us()
        self.ingress.failures.failed(call, contract.name_of(code), message)
        self._answer_error(call, code, message)

    cdef void call_refused(self, HttpCall call, error):
        call.ended_us = self.ingress.tick.wheel.clock_us()
        self._answer_error(call, error.code, str(error))

    cdef void _answer_error(self, HttpCall call, int code, str message):
        """End a call with an error for its client."""
        cdef Ingress ingress = self.ingress
        cdef str name = contract.name_of(code)
        call.connection = None
        ingress.in_progress -= 1
        ingress.count_error(name)
        if ingress.draining:
            self._renders(call)
        self.answered(call, ingress.responses.error(
            call, contract.status_of(code), name, message, call.ended_us
        ))

    cdef void _written(self):
        """After responses have been written: end the connection, or take more requests."""
        if self._ending:
            # Reply, then read and discard for a while: what the client sends into a closed
            # connection would make its kernel throw the reply away.
            self._lingering = True
            self._linger()
            return
        if self._outstanding == 0 and self._half_closed:
            self.close()
            return
        if self._blocked and self._outstanding < PIPELINE_MAX // 2:
            self._blocked = False
            if not self._paused:
                self.transport.resume_reading()
                # Not from within the event that brought the response.
                self.ingress.loop.call_soon(self._resume)

    def _resume(self):
        if not self.closed and not self._blocked:
            self._pump()

    cdef void refuse(
        self, int status, str name, str why, bint close, bint head_only=False, bytes origin=None
    ):
        """Answer a request here with an error, in its turn; without a body if it asked by HEAD."""
        cdef HttpCall call = HttpCall.__new__(HttpCall)
        cdef bytes response
        close = close or (self.ingress.draining and not self._comes_more())
        call.keep_alive = not close
        call.http_1_0 = self.decoder.http_1_0
        call.origin = origin
        response = self.ingress.responses.error(
            call, status, name, why, self.ingress.tick.wheel.clock_us()
        )
        self.ingress.count_error(name)
        if status >= 500 and name not in contract.CLIENTS_OWN:
            # Not the client's fault: whoever runs the agent is to know.
            self.ingress.failures.refused(name, why, self.ingress.tick.wheel.clock_us())
        else:
            log.debug("%s: refused: %d %s: %s", self._peer(), status, name, why)
        if close:
            # Nothing more is read as a request.
            self._lingering = True
            self._partial_us = 0
        self.expect(call)
        if head_only:
            response = response[:response.index(b"\r\n\r\n") + 4]
        self.answered(call, response)

    cdef void _linger(self):
        if self.closed:
            return
        if self._half_closed:
            self.close()
            return
        self._active_us = self._linger_us = self.ingress.tick.wheel.clock_us()
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except (OSError, RuntimeError):
            self.close()

    cdef bint _too_slow(self, int64_t now) noexcept:
        """Whether the request that is coming has had its time: a head, or a body, which has a
        least rate beside."""
        cdef int64_t taken_us = now - self._partial_us
        if not self._in_body:
            return taken_us > self.ingress.request_us
        return taken_us > self.ingress.body_us or (
            self._received - self._body_from
            < self.ingress.body_rate * (taken_us - BODY_GRACE_US) // 1_000_000
        )

    def _peer(self):
        peer = self.transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client"

    cdef void on_due(self):
        """Look after the connection's time limits."""
        cdef Ingress ingress = self.ingress
        cdef int64_t now = ingress.tick.wheel.clock_us()
        if self.closed:
            return
        if self._lingering and self._ending:
            if now - self._active_us > LINGER_US or now - self._linger_us > LINGER_MOST_US:
                self.close()
                return
        elif self._paused:
            if now - self._paused_us > ingress.idle_us:
                self.transport.abort()
                self.connection_lost(None)
                return
        elif self._partial_us:
            if self._too_slow(now):
                self.refuse(408, "request-timeout", "the request did not arrive in time", True)
        elif self._outstanding > 0:
            # Idle is counted from the response, not from the request.
            self._active_us = now
        elif now - self._active_us > ingress.idle_us and not self._unread():
            self.close()
            return
        if not self.closed:
            ingress.tick.wheel.schedule(self, now + ingress.check_us)
