"""The demo consumer's protocols: ``GET /invoke`` in, a form to the agent, the answer checked.

``dragoman.demo.consumer`` serves them. It stands for the ordinary web service of the contest, but
must not be what bounds the race: no task, future or dict is made for a request, and everything
runs on one loop.

    client --GET /invoke--> InvokeConnection --> InvokePool --> AgentConnection --POST--> agent

The invariant: an ``AgentConnection`` carries at most one request at a time, and its answer goes to
the ``InvokeConnection`` that asked, or nowhere if that has left. Connections to the agent are used
again last in, first out, made on demand and bounded in number; requests beyond the bound wait in
order. A request is never sent twice: before a connection is used again it is asked whether the
agent has closed it, and one that breaks under way is an error.
"""

import asyncio
import collections
import json
import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from dragoman.demo.question cimport is_answer, random_question
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.http1.encode cimport (
    CONNECTION_CLOSE,
    CONNECTION_DEFAULT,
    CONNECTION_KEEP_ALIVE,
    request_head,
    write_response,
)
from dragoman.wire.http1.request cimport RequestDecoder
from dragoman.wire.http1.response cimport ResponseDecoder
from dragoman.wire.http1.tables cimport (
    EV_CONTINUE,
    EV_ERROR,
    EV_NEED_MORE,
    EV_REQUEST,
    EV_RESPONSE,
    M_GET,
    M_HEAD,
)

cdef extern from "sys/socket.h" nogil:
    int MSG_PEEK
    int MSG_DONTWAIT
    ssize_t recv(int fd, void* to, size_t n, int flags)

# How many connections are being made at once: a listener's backlog is finite.
cdef int DIALS_MAX = 64
# What a client may send ahead of its answers before its socket is left unread.
cdef Py_ssize_t AHEAD_BYTES_MAX = 65536

cdef bytes OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nOK"
cdef bytes TEXT_PLAIN = b"text/plain"


cdef double now_s() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class InvokePool:
    """The connections to the agent, and the requests that wait for one.

    Its maker calls ``start`` within the loop and ``close`` at the end. ``timeout_s`` bounds the
    wait for an answer, ``connections_max`` the connections to the agent. The counters
    ``requests``, ``right``, ``wrong`` (an answer that is not the hash) and ``failed`` (no answer
    of status 200) only grow.
    """

    def __init__(self, str host, int port, *, connections_max=4096, timeout_s=30.0):
        self.host = host
        self.port = port
        self.head = request_head(
            "POST", "/", f"{host}:{port}", "application/x-www-form-urlencoded", ()
        )
        self.connections_max = connections_max
        self.timeout_s = timeout_s
        self.random = int.from_bytes(os.urandom(8), "little") | 1
        self.idle = []
        self.connections = set()
        self.clients = set()
        self.waiting = collections.deque()
        self.dials = set()

    def start(self, loop):
        """Begin to watch for requests that take too long."""
        self.loop = loop
        self.sweeper = loop.call_later(1.0, self.sweep)

    def close(self):
        """Close every connection at once."""
        self.closed = True
        if self.sweeper is not None:
            self.sweeper.cancel()
        for task in self.dials:
            task.cancel()
        for connection in [*self.connections, *self.clients]:
            connection.abort()

    async def wait_closed(self):
        """Wait until every connection is gone, after ``close``."""
        while self.connections or self.clients or self.dials:
            await asyncio.sleep(0)

    def accept(self):
        """The protocol for a new connection of a client."""
        return InvokeConnection(self)

    def statistics(self):
        """The counters and the connections there are, as a dict."""
        return {
            "requests": self.requests,
            "right": self.right,
            "wrong": self.wrong,
            "failed": self.failed,
            "waiting": len(self.waiting),
            "agent_connections": len(self.connections),
            "idle_agent_connections": len(self.idle),
            "client_connections": len(self.clients),
        }

    def sweep(self):
        """Give up on what the agent has not answered in time."""
        cdef AgentConnection connection
        cdef double now = now_s()
        for connection in list(self.connections):
            if connection.busy and connection.due < now:
                connection.settle(504, "the agent has not answered in time")
                connection.abort()
        self.sweeper = self.loop.call_later(1.0, self.sweep)

    cdef int dispatch(self, InvokeConnection client) except -1:
        """Send a client's request on a free connection, or let it wait for one."""
        cdef AgentConnection connection
        self.requests += 1
        while self.idle:
            connection = <AgentConnection>self.idle.pop()
            if connection.is_stale():
                connection.abort()
            else:
                return connection.send(client)
        self.waiting.append(client)
        return self.grow()

    cdef int grow(self) except -1:
        """Make as many connections as there are requests waiting, within the bounds."""
        while (
            len(self.waiting) > len(self.dials)
            and len(self.dials) < DIALS_MAX
            and len(self.connections) + len(self.dials) < self.connections_max
            and not self.closed
        ):
            task = self.loop.create_task(
                self.loop.create_connection(self.connect, self.host, self.port)
            )
            self.dials.add(task)
            task.add_done_callback(self.dialled)
        return 0

    def dialled(self, task):
        """A connection was made, or could not be: then the first request waiting fails."""
        cdef InvokeConnection client
        self.dials.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError):
            raise error
        while error is not None and self.waiting:
            client = <InvokeConnection>self.waiting.popleft()
            if not client.closed:
                self.refuse(client, 502, f"connect: {os.strerror(error.errno or 0)}")
                client.pump()
                break
        self.grow()

    def connect(self):
        """The protocol for a new connection to the agent."""
        return AgentConnection(self)

    cdef int release(self, AgentConnection connection) except -1:
        """A connection is free: it takes the first request waiting, or is kept."""
        cdef InvokeConnection client
        while self.waiting:
            client = <InvokeConnection>self.waiting.popleft()
            if not client.closed:
                return connection.send(client)
        self.idle.append(connection)
        return 0

    cdef int lost(self, AgentConnection connection) except -1:
        """A connection is gone."""
        self.connections.discard(connection)
        if not connection.busy and connection in self.idle:
            self.idle.remove(connection)
        return self.grow()

    cdef int refuse(self, InvokeConnection client, int status, str reason) except -1:
        """No good answer came for this client's request."""
        self.failed += 1
        if client is None or client.closed:
            return 0
        fields = f"x-dragoman-error: {reason}\r\n".encode("latin-1", "replace")
        return client.answer(500, b"ERROR %d" % status, fields)


cdef class AgentConnection:
    """One keep-alive connection to the agent; an asyncio protocol."""

    def __init__(self, InvokePool pool):
        self.pool = pool
        self.decoder = ResponseDecoder(head_bytes_max=16384, body_bytes_max=65536)
        self.closed = True

    def connection_made(self, transport):
        self.transport = transport
        self.write = transport.write
        self.fd = transport.get_extra_info("socket").fileno()
        self.closed = False
        if self.pool.closed:
            transport.abort()
            return
        self.pool.connections.add(self)
        self.pool.release(self)

    def connection_lost(self, error):
        self.closed = True
        if self.busy:
            self.settle(502, "the agent closed the connection")
        self.pool.lost(self)

    def data_received(self, bytes data):
        cdef int event
        self.decoder.receive(data)
        event = self.decoder.next_event()
        if event == EV_NEED_MORE and self.busy:
            return
        if event != EV_RESPONSE or not self.busy:
            # bytes that nobody asked for, such as a 408 before the agent closes an idle connection
            if self.busy:
                self.settle(502, "the agent's answer is malformed")
            self.abort()
            return
        self.finished()

    def eof_received(self):
        if self.busy and self.decoder.finish() == EV_RESPONSE:
            self.finished()
        return False

    cdef finished(self):
        """A whole response is there: check it, answer the client, take the next request."""
        cdef InvokePool pool = self.pool
        cdef InvokeConnection client = self.client
        cdef bint keep = self.decoder.keep_alive
        self.busy = False
        self.client = None
        if self.decoder.code != 200:
            pool.refuse(client, self.decoder.code, "the agent refused")
        elif is_answer(self.decoder.body, self.decoder.body_length, self.expected):
            pool.right += 1
            if client is not None and not client.closed:
                client.answer(200, None, None)
        else:
            pool.wrong += 1
            if client is not None and not client.closed:
                client.answer(500, b"ERROR", b"x-dragoman-error: wrong answer\r\n")
        if not keep or self.decoder.next_event() != EV_NEED_MORE or self.decoder.mid_message:
            self.closed = True
            self.transport.close()
        elif not self.closed:
            pool.release(self)
        if client is not None and client.decoder.buffered():
            client.pump()

    cdef int send(self, InvokeConnection client) except -1:
        """Post a new random form for a client."""
        self.busy = True
        self.client = client
        self.due = now_s() + self.pool.timeout_s
        self.write(random_question(self.pool.head, &self.pool.random, &self.expected))
        return 0

    cdef int settle(self, int status, str reason) except -1:
        """The request under way has failed."""
        cdef InvokeConnection client = self.client
        self.busy = False
        self.client = None
        self.pool.refuse(client, status, reason)
        if client is not None:
            client.pump()
        return 0

    cdef bint is_stale(self) noexcept:
        """Whether an idle connection cannot be used.

        The agent closed it, or sent something unasked.
        """
        cdef char byte
        cdef ssize_t n
        if self.closed:
            return True
        n = recv(self.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
        return not (n < 0 and (errno == EAGAIN or errno == EINTR))

    def abort(self):
        """Drop the connection."""
        self.closed = True
        self.transport.abort()


cdef class InvokeConnection:
    """One connection of a client.

    An asyncio protocol. Requests are answered one after the other.
    """

    def __init__(self, InvokePool pool):
        self.pool = pool
        self.decoder = RequestDecoder(body_bytes_max=65536)

    def connection_made(self, transport):
        self.transport = transport
        self.write = transport.write
        if self.pool.closed:
            transport.abort()
            return
        self.pool.clients.add(self)

    def connection_lost(self, error):
        self.closed = True
        self.pool.clients.discard(self)

    def data_received(self, bytes data):
        self.decoder.receive(data)
        if not self.busy:
            self.pump()
        elif not self.paused and self.decoder.buffered() > AHEAD_BYTES_MAX:
            self.paused = True
            self.transport.pause_reading()

    def eof_received(self):
        if self.busy:
            self.keep_alive = False
            return True
        return False

    cdef int pump(self) except -1:
        """Take the client's next requests until one has to wait for the agent."""
        cdef int event
        while not self.busy and not self.closed:
            event = self.decoder.next_event()
            if event == EV_REQUEST:
                self.handle()
            elif event == EV_CONTINUE:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif event == EV_ERROR:
                self.keep_alive = False
                self.answer(self.decoder.status, self.decoder.reason.encode("ascii"), None)
            else:
                if self.paused:
                    self.paused = False
                    self.transport.resume_reading()
                break
        return 0

    cdef int handle(self) except -1:
        """One request."""
        cdef RequestDecoder request = self.decoder
        self.keep_alive = request.keep_alive
        self.http_1_0 = request.http_1_0
        self.head_only = request.method == M_HEAD
        if request.path_length == 7 and memcmp(request.path, b"/invoke", 7) == 0:
            if request.method == M_GET:
                self.busy = True
                return self.pool.dispatch(self)
            return self.answer(405, b"GET only", b"allow: GET\r\n")
        if request.path_length == 11 and memcmp(request.path, b"/statistics", 11) == 0:
            return self.answer(200, json.dumps(self.pool.statistics()).encode(), None)
        return self.answer(404, b"there is /invoke and /statistics", None)

    cdef int answer(self, int status, bytes body, bytes fields) except -1:
        """Answer the request at hand; no body with status 200 is the right answer, ``OK``."""
        cdef Buffer out
        cdef int connection = CONNECTION_DEFAULT
        self.busy = False
        if body is None and self.keep_alive and not self.http_1_0:
            self.write(OK)
            return 0
        if body is None:
            body = b"OK"
        if not self.keep_alive:
            connection = CONNECTION_CLOSE
        elif self.http_1_0:
            connection = CONNECTION_KEEP_ALIVE
        out = Buffer()
        write_response(
            out,
            status,
            PyBytes_AS_STRING(TEXT_PLAIN),
            PyBytes_GET_SIZE(TEXT_PLAIN),
            PyBytes_AS_STRING(fields) if fields is not None else NULL,
            PyBytes_GET_SIZE(fields) if fields is not None else 0,
            NULL if self.head_only else PyBytes_AS_STRING(body),
            PyBytes_GET_SIZE(body),
            connection,
        )
        self.write(out.take())
        if not self.keep_alive:
            self.closed = True
            self.transport.close()
        return 0

    def abort(self):
        """Drop the connection."""
        self.closed = True
        self.transport.abort()
