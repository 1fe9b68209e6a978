"""HTTP in: the consumer agent's connections.

An ``IngressConnection`` feeds the HTTP decoder, makes each request an ``HttpCall`` to its service,
and writes the replies in the order of the requests. There is no task and no coroutine on this
path, and a form is not parsed beyond the fields that choose its service: it travels as it came.
Used by ``agent.consumer``. The contracts are those of ``docs/http.md``.

Invariants: every request gets exactly one response, its own, in order; at most ``PIPELINE_MAX``
requests of a connection are in progress, beyond that its reading pauses; a client that leaves
frees its place at once.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy

cdef extern from "<sys/socket.h>" nogil:
    int MSG_DONTWAIT
    int MSG_PEEK
    ssize_t recv(int fd, void* data, size_t n, int flags)

from dragoman.budget cimport Budget, process_budget
from dragoman.observe.histogram cimport Histogram
from dragoman.rpc.client_session cimport ClientSession
from dragoman.rpc.tick cimport tick_of
from dragoman.wire.http1.form cimport FORM_REPEATED, FormField, find_field
from dragoman.wire.http1.encode cimport (
    CONNECTION_CLOSE, CONNECTION_DEFAULT, CONNECTION_KEEP_ALIVE, write_response,
)
from dragoman.wire.http1.tables cimport (
    CT_FORM, CT_JSON, CT_JSON_OTHERWISE, CT_NONE, EV_CONTINUE, EV_ERROR, EV_NEED_MORE, M_GET,
    M_HEAD, M_OPTIONS, M_POST,
)

import logging
import time
from collections import deque

from dragoman.agent import contract
from dragoman.agent.access import OPEN
from dragoman.errors import Code, DragomanError, UsageError

cdef enum:
    PIPELINE_MAX = 16
    # A longer body of a response is written from where it is.
    APART_BYTES = 65536
    # After the last response of a connection the client may finish what it is sending: closing at
    # once would make its kernel discard the response. Bounds of what is discarded, of silence, of
    # all.
    LINGER_BYTES_MAX = 67108864
    LINGER_US = 2_000_000
    LINGER_MOST_US = 10_000_000
    # The least rate of a body counts from here on: what is sent in bursts is given time.
    BODY_GRACE_US = 5_000_000

    # A longer JSON call is looked through in pieces of so much, a turn of the loop each.
    PIECE_BYTES = 131072

    # A failed call's line: at most this often for a kind, this many kinds, this far into a body.
    TELL_US = 1_000_000
    TOLD_MAX = 1024
    METHOD_WITHIN = 2048

log = logging.getLogger("dragoman.agent")

cdef int OVERLOAD = Code.OVERLOAD
# For a shorter reply there is always room.
cdef Py_ssize_t SMALL_BYTES = 4096
# What this process holds for its peers.
cdef Budget of_process = process_budget()
cdef bytes TEXT = b"text/plain;charset=utf-8"
cdef bytes JSON = b"application/json"
cdef bytes FORM_METHOD = b"form"
cdef bytes JSON_METHOD = b"json"
# Header fields that a request may carry beside its body, in the order of the decoder's slots. All
# are refused when they are repeated, those too whose value says nothing here.
WANTED = (
    "x-dragoman-timeout-ms", "x-dragoman-group", "x-dragoman-version", "origin", "sec-fetch-site",
    "access-control-request-method",
)
cdef enum:
    W_TIMEOUT = 0
    W_GROUP = 1
    W_VERSION = 2
    W_ORIGIN = 3
    W_FETCH_SITE = 4


class Limits:
    """Bounds of the HTTP side; every length, count and time a client can choose.

    ``request_timeout_ms`` is for a head, ``body_timeout_ms`` and ``body_rate_min`` (bytes a
    second) for the body after it.
    """

    def __init__(
        self, *, head_bytes_max=16384, target_bytes_max=8192, fields_max=100,
        body_bytes_max=4194304, connections_max=20000, timeout_ms=5000, request_timeout_ms=10000,
        body_timeout_ms=60000, body_rate_min=1024, idle_timeout_ms=60000,
    ):
        self.head_bytes_max = head_bytes_max
        self.target_bytes_max = target_bytes_max
        self.fields_max = fields_max
        self.body_bytes_max = body_bytes_max
        self.connections_max = connections_max
        self.timeout_ms = timeout_ms
        self.request_timeout_ms = request_timeout_ms
        self.body_timeout_ms = body_timeout_ms
        self.body_rate_min = body_rate_min
        self.idle_timeout_ms = idle_timeout_ms


cdef class Ingress:
    """What all connections of one loop share. ``directory`` tells which services there are,
    ``published``, unless it is None, the types of their methods (see ``contract.json_call``),
    ``access`` who may ask, and how."""

    def __init__(self, loop, directory, limits, published=None, access=OPEN):
        self.published = published
        self.access = access
        self._hosts_restricted = bool(access.hosts)
        self._date = b""
        self._told = {}
        self._looking = deque()
        self.loop = loop
        self.tick = tick_of(loop)
        self.directory = directory
        self._services = directory.services
        self.limits = limits
        self.connections = set()
        self.errors = {}
        self.latency = Histogram()
        self._scratch = Buffer()
        self.budget = of_process
        self._scratch.budget = of_process
        self._timeout_us = limits.timeout_ms * 1000
        self._request_us = limits.request_timeout_ms * 1000
        self._body_us = limits.body_timeout_ms * 1000
        self._body_rate = limits.body_rate_min
        self._idle_us = limits.idle_timeout_ms * 1000
        self._check_us = max(
            50_000, min(self._request_us, self._body_us, self._idle_us, 4 * BODY_GRACE_US) // 4
        )

    def connection(self):
        """A protocol for a new connection: the factory for ``loop.create_server``."""
        return IngressConnection(self)

    def drain(self):
        """From now on the last response of each connection says ``connection: close``.

        What still comes on a connection is answered, for its client could not know. Connections
        that nothing comes on are for ``close_silent``.
        """
        self.draining = True
        self._drained_us = self.tick.wheel.clock_us()

    def close_silent(self, int for_ms):
        """While draining: let go of connections that are idle and have been silent for so long."""
        cdef IngressConnection connection
        cdef int64_t since = self.tick.wheel.clock_us() - for_ms * 1000
        if since < self._drained_us:
            return
        for connection in list(self.connections):
            if connection._outstanding == 0 and connection._active_us <= since:
                connection.part()

    def abort(self):
        """Close everything now."""
        for connection in list(self.connections):
            (<IngressConnection>connection).close()

    def shed(self, double proportion):
        """From now on refuse this proportion of requests, 0.0 to 1.0: the process is short of
        memory."""
        self._pressure = proportion

    cdef bint _sheds(self) noexcept:
        """Whether this request is one of those to refuse."""
        self._due_refusals += max(self._pressure, self.budget.pressure())
        if self._due_refusals < 1.0:
            return False
        self._due_refusals -= 1.0
        return True

    cdef bytes date(self, int64_t now_us):
        """The field line ``date`` (RFC 9110 section 6.6.1), made anew once a second."""
        cdef double wall
        if now_us >= self._date_until_us:
            wall = time.time()
            self._date = contract.date_line(wall)
            self._date_until_us = now_us + <int64_t>(1e6 * (1.0 - wall % 1.0))
        return self._date

    cdef bytes response(self, HttpCall call, const char* body, Py_ssize_t n, bytes owner):
        """The response with the result of ``call``: the whole of it, or what goes before
        ``call.rest``."""
        cdef bytes kind = JSON if call.json else TEXT
        cdef bytes fields = self.date(call.ended_us)
        cdef bint apart = n > APART_BYTES
        if call.origin is not None:
            fields += contract.cors_lines(call.origin)
        write_response(
            self._scratch, 200, PyBytes_AS_STRING(kind), len(kind), PyBytes_AS_STRING(fields),
            len(fields), NULL if apart else body, n, call.connection_says(),
        )
        if apart:
            call.rest = whole_bytes(body, n, owner)
        return self._scratch.take()

    cdef bytes error_response(
        self, HttpCall call, int status, str name, str why, int64_t now_us
    ):
        """The whole response with an error for ``call``."""
        return contract.error_response(
            status, name, why, call.connection_says(), self.date(now_us), call.origin,
            self.access.methods,
        )

    cdef int look_through(self, Looking looking) except -1:
        """Begin a large call once it has been looked through: one piece of one call a turn,
        however many there are."""
        self._looking.append(looking)
        if len(self._looking) == 1:
            self.loop.call_soon(self._look)
        return 0

    def _look(self):
        cdef Looking looking = self._looking[0]
        cdef bint over = True
        try:
            over = looking.go_on()
        finally:
            if over:
                self._looking.popleft()
            if self._looking:
                self.loop.call_soon(self._look)

    def tell_refusal(self, str name, str why):
        """Log that a request was refused here: a line a second for each kind of error, which
        counts those before it."""
        told = self._told.setdefault(("", name), [0, 0])
        now_us = self.tick.wheel.clock_us()
        if now_us < told[0]:
            told[1] += 1
            return
        more = f", and {told[1]} more like it" if told[1] else ""
        told[:] = now_us + TELL_US, 0
        log.warning("a request was refused here: %s: %s%s", name, why, more)

    def count_error(self, str name):
        """Count a response by its error's name."""
        self.errors[name] = self.errors.get(name, 0) + 1


cdef class IngressConnection(Gathering):
    """One HTTP connection: an ``asyncio.Protocol``."""

    def __init__(self, Ingress ingress not None):
        self.ingress = ingress
        self.decoder = RequestDecoder(
            head_bytes_max=ingress.limits.head_bytes_max,
            target_bytes_max=ingress.limits.target_bytes_max,
            fields_max=ingress.limits.fields_max,
            body_bytes_max=ingress.limits.body_bytes_max,
            wanted=WANTED,
        )
        self.decoder.memory = ingress.budget

    # asyncio.Protocol

    def connection_made(self, transport):
        """A client has connected."""
        cdef Ingress ingress = self.ingress
        self.transport = transport
        self._write = transport.write
        ingress.accepted += 1
        ingress.connections.add(self)
        self._active_us = ingress.tick.wheel.clock_us()
        ingress.tick.wheel.schedule(self, self._active_us + ingress._check_us)
        if len(ingress.connections) > ingress.limits.connections_max:
            ingress.refused_connections += 1
            self._refuse(503, "overload", "this agent has too many connections", True)

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
        """What the transport could not send counts until it has room again."""
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

    def part(self):
        """Close an idle connection, unless a request is there that was only not read yet.

        One that was begun is told why it ends: what its client goes on sending into a closed
        connection would make its kernel throw away even that.
        """
        if self.closed or self._unread():
            return
        if self._comes_more() and not self._lingering:
            self._refuse(503, "unavailable", "this agent is stopping", True)
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
        return self.decoder.mid_request or self._blocked or self.decoder.buffered() > 0

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
                if not self.decoder.mid_request:
                    self._partial_us = 0
                elif self._partial_us == 0 or self._in_body == self.decoder.in_head:
                    # A head has its time, and its body has its own after it.
                    self._partial_us = now
                    self._in_body = not self.decoder.in_head
                    self._body_from = self._received
                return
            if event == EV_ERROR:
                self._refuse(
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
            self._begin(now)

    cdef void _begin(self, int64_t now):
        """A complete request: make it a call to its service."""
        cdef RequestDecoder request = self.decoder
        cdef Ingress ingress = self.ingress
        cdef HttpCall call
        ingress.requests += 1
        call = HttpCall.__new__(HttpCall)
        call.keep_alive = request.keep_alive
        call.http_1_0 = request.http_1_0
        call.started_us = now
        call.due_us = now + ingress._timeout_us
        try:
            if ingress._hosts_restricted:
                ingress.access.check_host(request.host[:request.host_length])
            if request.wanted_value[W_ORIGIN] != NULL or request.wanted_value[W_FETCH_SITE] != NULL:
                call.origin = ingress.access.check_origin(
                    self._wanted(W_ORIGIN), self._wanted(W_FETCH_SITE)
                )
            if request.method != M_POST and not (
                request.method == M_GET and ingress.access.get
            ):
                if request.method == M_OPTIONS and call.origin is not None:
                    self._answer_preflight(call)
                    return
                raise contract.HttpRefusal(
                    405, "method-not-allowed", ingress.access.methods_expected
                )
            if request.content_encoded:
                raise contract.HttpRefusal(
                    415, "unsupported-media-type",
                    "Content-Encoding: a body without one was expected",
                )
            if (ingress._pressure or ingress.budget.bytes_max) and ingress._sheds():
                raise contract.HttpRefusal(503, "overload", "this agent is short of memory")
            if request.wanted_value[W_TIMEOUT] != NULL:
                call.due_us = now + 1000 * contract.timeout_ms(self._wanted(W_TIMEOUT))
            if request.method == M_GET:
                self._begin_query(call)
            elif request.path_length == 1 and request.content_kind != CT_JSON:
                self._begin_form(call)
            elif self._begin_json(call):
                now = 0
        except contract.HttpRefusal as refusal:
            self._refuse(
                refusal.status, refusal.name, refusal.why, not call.keep_alive,
                request.method == M_HEAD, call.origin,
            )
            return
        except DragomanError as error:
            self._refuse(
                contract.status_of(error.code), contract.name_of(error.code), str(error),
                not call.keep_alive, False, call.origin,
            )
            return
        call.connection = self
        ingress.in_progress += 1
        call.counts_in = ingress.budget
        call.count(call.body_length)
        self._expect(call)
        if now:
            call.service.submit(call)

    cdef bint _begin_form(self, HttpCall call) except -1:
        """The contest's contract: the form travels as it came; its fields choose the service."""
        cdef RequestDecoder request = self.decoder
        cdef FormField field
        cdef int found
        cdef bytes key
        cdef object service
        if request.content_kind != CT_FORM and request.content_kind != CT_NONE:
            raise contract.wrong_type(
                request.content_kind == CT_JSON_OTHERWISE,
                "application/x-www-form-urlencoded or application/json",
            )
        found = find_field(request.body, request.body_length, b"interface", 9, &field)
        if found <= 0:
            raise UsageError(
                "the form field interface is "
                + ("repeated" if found == FORM_REPEATED else "missing")
            )
        key = PyBytes_FromStringAndSize(field.value, field.value_length)
        if request.wanted_value[W_GROUP] != NULL or request.wanted_value[W_VERSION] != NULL \
                or field.value_encoded:
            service = None
        else:
            service = self.ingress._services.get(key)
        if service is None:
            service = self.ingress.directory.find(*contract.form_service(
                key, self._wanted(W_GROUP), self._wanted(W_VERSION)
            ))
        call.service = service
        call.method = FORM_METHOD
        call.body = request.body
        call.body_length = request.body_length
        call.body_owner = request.owner
        return True

    cdef bint _begin_json(self, HttpCall call) except -1:
        """``POST /{interface}/{method}`` with a JSON object of types and args. True if the call is
        large, and is begun by its ``Looking``."""
        cdef RequestDecoder request = self.decoder
        cdef bytes path
        if request.content_kind != CT_JSON:
            # Without it any page in a browser could send such a request, unasked.
            raise contract.wrong_type(
                request.content_kind == CT_JSON_OTHERWISE, "application/json"
            )
        path = request.path[:request.path_length]
        if request.body_length > PIECE_BYTES:
            call.body_owner = whole_bytes(request.body, request.body_length, request.owner)
            call.body_length = request.body_length
            self.ingress.look_through(
                Looking(call, path, self._wanted(W_GROUP), self._wanted(W_VERSION))
            )
            return True
        self._begin_call(call, contract.json_call(
            path, self._wanted(W_GROUP), self._wanted(W_VERSION),
            PyMemoryView_FromMemory(<char*>request.body, request.body_length, PyBUF_READ)
            if request.body_length else b"",
            self.ingress.published,
        ))
        return False

    cdef bint _begin_query(self, HttpCall call) except -1:
        """``GET /{interface}/{method}`` with the arguments in the query."""
        cdef RequestDecoder request = self.decoder
        if request.body_length:
            raise UsageError("GET: a query, and no body, was expected")
        self._begin_call(call, contract.query_call(
            request.path[:request.path_length], self._wanted(W_GROUP), self._wanted(W_VERSION),
            request.query[:request.query_length] if request.query != NULL else b"",
            self.ingress.published,
        ))
        return True

    cdef int _begin_call(self, HttpCall call, tuple described, bytes joined=None) except -1:
        """``joined``: the payload, if its parts have been joined."""
        interface, group, version, parts, oneway = described
        call.service = self.ingress.directory.find(interface, group, version)
        call.method = JSON_METHOD
        call.json = True
        call.accepted = oneway
        call.body_owner = b"".join(parts) if joined is None else joined
        call.body = PyBytes_AS_STRING(call.body_owner)
        call.body_length = len(call.body_owner)
        return 0

    def _answer_preflight(self, HttpCall call):
        """A page of an allowed origin asks whether it may call (Fetch, CORS-preflight)."""
        self._expect(call)
        self._answered(call, self.ingress.access.preflight_response(
            call.origin, self.ingress.date(call.started_us), call.connection_says()
        ))

    def _wanted(self, int i):
        if self.decoder.wanted_value[i] == NULL:
            return b""
        return self.decoder.wanted_value[i][:self.decoder.wanted_length[i]]

    # responses

    cdef void _expect(self, HttpCall call):
        self._outstanding += 1
        if self._head is None:
            self._head = call
        elif self._later is None:
            self._later = [call]
        else:
            self._later.append(call)

    cdef void _answered(self, HttpCall call, bytes response):
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

    cdef void _refuse(
        self, int status, str name, str why, bint close, bint head_only=False, bytes origin=None
    ):
        """Answer a request here with an error, in its turn; without a body if it asked by HEAD."""
        cdef HttpCall call = HttpCall.__new__(HttpCall)
        cdef bytes response
        close = close or (self.ingress.draining and not self._comes_more())
        call.keep_alive = not close
        call.http_1_0 = self.decoder.http_1_0
        call.origin = origin
        response = self.ingress.error_response(
            call, status, name, why, self.ingress.tick.wheel.clock_us()
        )
        self.ingress.count_error(name)
        if status >= 500 and name not in contract.CLIENTS_OWN:
            # Not the client's fault: whoever runs the agent is to know.
            self.ingress.tell_refusal(name, why)
        else:
            log.debug("%s: refused: %d %s: %s", self._peer(), status, name, why)
        if close:
            # Nothing more is read as a request.
            self._lingering = True
            self._partial_us = 0
        self._expect(call)
        if head_only:
            response = response[:response.index(b"\r\n\r\n") + 4]
        self._answered(call, response)

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
            return taken_us > self.ingress._request_us
        return taken_us > self.ingress._body_us or (
            self._received - self._body_from
            < self.ingress._body_rate * (taken_us - BODY_GRACE_US) // 1_000_000
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
            if now - self._paused_us > ingress._idle_us:
                self.transport.abort()
                self.connection_lost(None)
                return
        elif self._partial_us:
            if self._too_slow(now):
                self._refuse(408, "request-timeout", "the request did not arrive in time", True)
        elif self._outstanding > 0:
            # Idle is counted from the response, not from the request.
            self._active_us = now
        elif now - self._active_us > ingress._idle_us and not self._unread():
            self.close()
            return
        if not self.closed:
            ingress.tick.wheel.schedule(self, now + ingress._check_us)


cdef bytes whole_bytes(const char* body, Py_ssize_t n, bytes owner):
    """A body as bytes; those that hold it and nothing else, if there are any."""
    if owner is not None and len(owner) == n and PyBytes_AS_STRING(owner) == body:
        return owner
    return PyBytes_FromStringAndSize(body, n)


cdef class Looking:
    """What looks through a large JSON call a piece at a time, joins its payload a piece at a time,
    and then begins it; others are answered between the pieces. See ``Ingress.look_through``."""

    def __init__(self, HttpCall call, bytes path, bytes group, bytes version):
        self.call = call
        self.path = path
        self.group = group
        self.version = version
        self.outline = contract.outline_of(call.body_owner)

    cdef bint go_on(self):
        """The next piece; whether that was the last."""
        cdef HttpCall call = self.call
        cdef IngressConnection connection = call.connection
        cdef Ingress ingress
        if connection is None:
            # Its client has left.
            return True
        ingress = connection.ingress
        try:
            if self.described is None:
                if contract.look(self.outline, PIECE_BYTES):
                    self.described = contract.json_call(
                        self.path, self.group, self.version, call.body_owner, ingress.published,
                        self.outline,
                    )
                    self._begin_join()
                return False
            if not self._join():
                return False
            connection._begin_call(call, self.described, self.payload)
        except DragomanError as error:
            self._refuse(connection, error)
            return True
        call.count(call.body_length)
        call.service.submit(call)
        return True

    cdef int _begin_join(self) except -1:
        cdef Py_ssize_t n = 0
        self.parts = deque(map(memoryview, self.described[3]))
        for part in self.parts:
            n += len(part)
        self.payload = PyBytes_FromStringAndSize(NULL, n)
        self.call.count(self.call.body_length + n)
        return 0

    cdef bint _join(self) except -1:
        """Copy a piece: memory that is new takes longer than the bytes. Whether it was the last."""
        cdef const unsigned char[::1] part
        cdef Py_ssize_t n, left = PIECE_BYTES
        while self.parts and left:
            part = self.parts[0]
            n = min(left, part.shape[0] - self.part_at)
            memcpy(PyBytes_AS_STRING(self.payload) + self.joined, &part[self.part_at], n)
            self.joined += n
            self.part_at += n
            left -= n
            if self.part_at == part.shape[0]:
                self.parts.popleft()
                self.part_at = 0
        return not self.parts

    cdef void _refuse(self, IngressConnection connection, error):
        cdef Ingress ingress = connection.ingress
        cdef str name = contract.name_of(error.code)
        self.call.connection = None
        ingress.in_progress -= 1
        ingress.count_error(name)
        if ingress.draining:
            connection._renders(self.call)
        connection._answered(self.call, ingress.error_response(
            self.call, contract.status_of(error.code), name, str(error),
            ingress.tick.wheel.clock_us(),
        ))


@cython.no_gc_clear
cdef class HttpCall(ServiceCall):
    """One HTTP request on its way."""

    def __dealloc__(self):
        self.count(0)

    cdef void count(self, size_t n) noexcept:
        """``n`` bytes are held for it."""
        if self.counts_in is not None:
            self.counts_in.take(n)
            self.counts_in.give(self.counted)
            self.counted = n

    cdef int put(self, ClientSession session, uint16_t target, uint32_t timeout_ms) except -1:
        if self.body_length > APART_BYTES and len(self.body_owner) == self.body_length:
            return session.submit_body(self, 0, target, self.body_owner, timeout_ms, None)
        return ServiceCall.put(self, session, target, timeout_ms)

    cdef int connection_says(self) noexcept:
        """The response's ``connection`` field."""
        if not self.keep_alive:
            return CONNECTION_CLOSE
        return CONNECTION_KEEP_ALIVE if self.http_1_0 else CONNECTION_DEFAULT

    cdef void on_result(self, const char* body, Py_ssize_t n, bytes owner):
        cdef IngressConnection connection = self.connection
        cdef Ingress ingress
        if connection is None:
            return
        ingress = connection.ingress
        if n > SMALL_BYTES and not ingress.budget.admits(n):
            self.on_failure(OVERLOAD, f"no memory is left here for a reply of {n} bytes")
            return
        self.connection = None
        ingress.in_progress -= 1
        ingress.succeeded += 1
        (<Histogram>ingress.latency).record_us(self.ended_us - self.started_us)
        if ingress.draining:
            connection._renders(self)
        if self.accepted:
            connection._answered(self, contract.accepted_response(
                self.connection_says(), ingress.date(self.ended_us), self.origin
            ))
            return
        connection._answered(self, ingress.response(self, body, n, owner))

    cdef void on_failure(self, int code, str message):
        cdef IngressConnection connection = self.connection
        cdef Ingress ingress
        cdef str name
        if connection is None:
            return
        ingress = connection.ingress
        self.connection = None
        self.ended_us = ingress.tick.wheel.clock_us()
        name = contract.name_of(code)
        ingress.in_progress -= 1
        ingress.count_error(name)
        self._tell(ingress, code, name, message)
        if ingress.draining:
            connection._renders(self)
        connection._answered(self, ingress.error_response(
            self, contract.status_of(code), name, message, self.ended_us
        ))

    cdef void _tell(self, Ingress ingress, int code, str name, str message):
        """Log that the call failed: a line a second for each service and kind of error, which
        counts those before it.

        What a method threw is the caller's affair (debug tells of it), and a provider's text may
        hold anybody's data: only reasons of our own are written.
        """
        cdef int level = logging.DEBUG if name in contract.CALLERS_OWN else logging.WARNING
        cdef tuple kind = (self.service.name, name)
        cdef list told
        if not log.isEnabledFor(level):
            return
        told = ingress._told.get(kind)
        if told is None:
            if len(ingress._told) >= TOLD_MAX:
                ingress._told.clear()
            told = ingress._told[kind] = [0, 0]
        if self.ended_us < <int64_t>told[0]:
            told[1] += 1
            return
        more = f", and {told[1]} more like it" if told[1] else ""
        told[0] = self.ended_us + TELL_US
        told[1] = 0
        log.log(
            level, "a call failed: %s at %s: %s: %s%s",
            contract.called(
                self.service.name, self.json, self.body[:min(self.body_length, METHOD_WITHIN)]
            ),
            "no endpoint" if self.failed_at is None else self.failed_at.address, name,
            message if name in contract.REASON_IS_OURS else "as the provider says", more,
            extra={"kind": kind},
        )
