"""A connection within the process: what one session writes is given to the other, without a socket.

``dubbo.upstream.direct`` joins the two ends of a mesh session with it, so that a provider that
is reached from the caller's own process is called by the same code as one behind an agent. Each end
is its session's transport, and acts as asyncio's do: what was written before ``close`` still
arrives, ``abort`` drops it, a reader that pauses lets the bytes gather and, beyond a bound, has the
writer paused.

Invariants: a protocol is given bytes only from ``flush``, at the end of a tick of the loop, so
writing never runs the other end's code and nothing recurses; bytes keep their order; each
protocol is told of the connection's end once.
"""

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE

from dragoman.rpc.tick cimport tick_of

# A writer is paused while more than this waits for the other end, until it is less than the other.
cdef Py_ssize_t FULL_BYTES = 1 << 20
cdef Py_ssize_t LOW_BYTES = 1 << 18


cdef class PipeEnd(Gathering):
    """One end: the transport of the protocol that it was made for."""

    def __cinit__(self, loop, protocol, str peer not None):
        self.loop = loop
        self.tick = tick_of(loop)
        self.protocol = protocol
        self._peer = peer
        self._inbox = []
        self._reading = True

    # asyncio.Transport, for the protocol at this end

    def write(self, bytes data not None):
        """Send ``data``; it is the other's from now on."""
        self.other._take_in(data)
        if self.other._inbox_bytes > FULL_BYTES and not self._full and not self._closing:
            self._full = True
            self.protocol.pause_writing()

    def writelines(self, parts):
        """Send all of ``parts``."""
        for part in parts:
            self.write(part)

    def get_write_buffer_size(self):
        """Bytes that the other end has not been given."""
        return self.other._inbox_bytes

    def pause_reading(self):
        """Give the protocol nothing for now."""
        self._reading = False

    def resume_reading(self):
        """Give it what has come, and what will."""
        if not self._reading and not self._closing:
            self._reading = True
            self.tick.mark(self)

    def is_closing(self):
        """Whether this end has been closed, from either side."""
        return self._closing or self._ended

    def close(self):
        """Close once the other end has been given what was written."""
        if self._closing or self._ended:
            return
        self._closing = True
        self._discard()
        self.other._finished = True
        self.tick.mark(self.other)
        self.loop.call_soon(self._closed)

    def abort(self):
        """Close now; what the other end has not been given is lost."""
        if not self.other._ended:
            self.other._discard()
        self.close()

    def get_extra_info(self, name, default=None):
        """The only thing known is the ``peername``."""
        return self._peer if name == "peername" else default

    def _closed(self):
        self._end()

    # from the other end

    cdef int _take_in(self, bytes data) except -1:
        if self._closing or self._ended or self._finished:
            if self._ended or self._closing:
                # Whoever writes to an end that is gone learns it, though it may not read.
                self.other._finished = True
                self.other._reading = True
                self.tick.mark(self.other)
            return 0
        self._inbox.append(data)
        self._inbox_bytes += PyBytes_GET_SIZE(data)
        self.tick.mark(self)
        return 0

    cdef void flush(self):
        """The end of a tick: hand over what has come."""
        cdef list inbox
        cdef Py_ssize_t i, n
        cdef bytes data
        if self._closing or self._ended or not self._reading:
            return
        inbox = self._inbox
        n = PyList_GET_SIZE(inbox)
        if n:
            self._inbox = []
            for i in range(n):
                if self._closing or self._ended:
                    return
                if not self._reading:
                    self._inbox = inbox[i:] + self._inbox
                    break
                data = <bytes>inbox[i]
                self._inbox_bytes -= PyBytes_GET_SIZE(data)
                self.protocol.data_received(data)
            if self.other._full and self._inbox_bytes <= LOW_BYTES and not self.other._closing:
                self.other._full = False
                self.other.protocol.resume_writing()
        if self._finished and self._reading and not self._inbox:
            self._end()

    cdef void _discard(self):
        self._inbox = []
        self._inbox_bytes = 0

    cdef void _end(self):
        """This end is closed: its protocol is told."""
        if self._ended:
            return
        self._ended = True
        self._discard()
        if not self._closing:
            # The other end has closed, and this one answers that.
            self._closing = True
            self.other._finished = True
        self.protocol.connection_lost(None)
        self.protocol = None


def join(loop, server, client, *, str server_name="", str client_name=""):
    """Connect two protocols of ``loop`` and tell both, the server first; their transports.

    The names are what each calls the other: its ``peername``.
    """
    cdef PipeEnd at_server = PipeEnd(loop, server, client_name)
    cdef PipeEnd at_client = PipeEnd(loop, client, server_name)
    at_server.other = at_client
    at_client.other = at_server
    server.connection_made(at_server)
    client.connection_made(at_client)
    return at_server, at_client
