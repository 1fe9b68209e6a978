"""The common part of HTTP/1.1 requests and responses: their framing and bodies (RFC 9112).

``RequestDecoder`` and ``ResponseDecoder`` build on ``MessageDecoder``, which builds on ``section``
(fields) and ``chunk_line`` (chunks' sizes). It is a table-driven state machine that stops at any
byte and goes on there, so that the verdict on a message never depends on how its bytes were cut. It
reads in place: a message that lies whole in what was received costs no copy and no allocation; what
is incomplete is kept, within the limits.

The invariant: a message is whole only where its framing says that it ends.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.string cimport memcpy

from dragoman.errors import ProtocolError

from dragoman.wire.http1.chunk_line cimport (
    CHUNK_EXTENSIONS_TOO_LARGE,
    CHUNK_EXTENSION_MALFORMED,
    CHUNK_LINE_MORE,
    CHUNK_SIZE_MALFORMED,
    CHUNK_SIZE_MISSING,
    CHUNK_SIZE_OVERFLOWS,
    begin_chunk_lines,
    read_chunk_line,
)
from dragoman.wire.http1.fields cimport TE_BAD, TE_CHUNKED, TE_NONE, TE_UNKNOWN
from dragoman.wire.http1.section cimport LARGE_BYTES
from dragoman.wire.http1.states cimport (
    S_BODY_CLOSE,
    S_BODY_LENGTH,
    S_CHUNK_DATA,
    S_CHUNK_DATA_CR,
    S_CHUNK_DATA_LF,
    S_CHUNK_LINE,
    S_CLOSED,
    S_DEAD,
    S_LINE,
    S_SECTION_LF,
    S_START,
    S_START_LINE_LF,
)
from dragoman.wire.http1.tables cimport EV_ERROR, EV_REQUEST

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* source, Py_ssize_t n) noexcept
    int resize_bytes "_PyBytes_Resize"(PyObject** where, Py_ssize_t n) noexcept
    char* bytes_data "PyBytes_AS_STRING"(PyObject* where) noexcept
    void PyErr_Clear() noexcept
    void Py_XDECREF(PyObject* what) noexcept

# How far ahead of what has arrived a body's memory may be taken, beside half of what has arrived.
cdef Py_ssize_t AHEAD_BYTES = 4096
# Shorter bodies are always taken.
cdef Py_ssize_t SMALL_BYTES = 16384
cdef str NO_ROOM = "this agent is short of memory"


class HttpError(ProtocolError):
    """The peer's bytes are not HTTP/1.1 as dragoman takes it; ``status`` is the answer to give."""

    def __init__(self, status, reason):
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


cdef class MessageDecoder(SectionDecoder):
    """The common part of both decoders; not used by itself."""

    cdef int next_event(self) noexcept:
        """Read on.

        Loop on it until EV_NEED_MORE or EV_ERROR; what an event points to lives until then.
        """
        cdef int outcome
        while True:
            if self.state <= S_START_LINE_LF:
                outcome = self.read_start_line()
                if outcome <= 0:
                    break
            if self.state <= S_SECTION_LF and not self.in_trailers:
                outcome = self.read_fields()
                if outcome <= 0:
                    break
                outcome = self.head_done()
                if outcome == 0 or outcome == BODY_FOLLOWS:
                    continue  # with the head after an interim response, or with the body
                return outcome
            if self.state >= S_CLOSED:
                if self.state == S_DEAD:
                    return EV_ERROR
                self.position = self.end
                return self.need_more()
            outcome = self.read_body()
            if outcome <= 0:
                break
            self.complete()
            return EV_REQUEST  # or EV_RESPONSE, which is the same
        return self.need_more() if outcome == 0 else EV_ERROR

    cdef int read_start_line(self) noexcept:
        return self.fail(500, "not a decoder")

    cdef int head_done(self) noexcept:
        return self.fail(500, "not a decoder")

    cdef void complete(self) noexcept:
        """A message is whole: point ``body`` and ``owner`` at it and get ready for the next one."""
        if self.held != NULL:
            if self.held_length != self.held_capacity:
                resize_bytes(&self.held, self.held_length)  # shrinking
            self.owner = <bytes>self.held
            Py_XDECREF(self.held)
            self.held = NULL
            self.count(0)
            self.body = PyBytes_AS_STRING(self.owner)
            self.body_length = PyBytes_GET_SIZE(self.owner)
        self.state = S_START if self.keep_alive else S_CLOSED

    # -- bodies (RFC 9112 sections 6 and 7)

    cdef int check_framing(self) noexcept:
        """Settle what Content-Length, Transfer-Encoding and Connection say. -1: refused."""
        if self.coding != TE_NONE:
            if self.content_length != -1:
                return self.fail(400, "Content-Length and Transfer-Encoding stand together")
            if self.http10:
                return self.fail(400, "Transfer-Encoding is not for HTTP/1.0")
            if self.coding == TE_BAD:
                return self.fail(400, "Transfer-Encoding is malformed, or chunked is not its end")
            if self.coding == TE_UNKNOWN:
                return self.fail(501, "the transfer coding is not supported")
        self.keep_alive = not self.said_close and (not self.http10 or self.said_keep_alive)
        return 0

    cdef int begin_body(self) noexcept:
        """The head is whole. 1: and so is the message; BODY_FOLLOWS; -1: refused."""
        cdef Py_ssize_t length = self.content_length
        cdef Py_ssize_t there = self.end - self.position
        self.in_head = False
        if self.coding == TE_CHUNKED:
            self.state = S_CHUNK_LINE
            begin_chunk_lines(&self.chunk_line)
            self.held_length = 0
            self.budget = self.head_bytes_max
        elif length <= 0:
            self.owner = self.data
            self.complete()
            return 1
        elif length > self.body_bytes_max:
            return self.fail(413, "the body is too large")
        elif there >= length:
            self.owner = self.data
            self.body = <const char*>self.base + self.position
            self.body_length = length
            self.position += length
            self.complete()
            return 1
        else:
            self.state = S_BODY_LENGTH
            self.remaining = length
            self.held_length = 0
        self.keep_head()
        return BODY_FOLLOWS

    cdef void keep_head(self) noexcept:
        """Keep what the head's pointers point into, but not much else, until the body has come."""
        cdef Py_ssize_t n = <const char*>self.base + self.position - self.origin
        cdef PyObject* copy = NULL
        self.head = self.data
        if self.end > LARGE_BYTES:
            copy = new_bytes(self.origin, n)
            if copy == NULL:
                PyErr_Clear()  # then the larger object stays
                return
            self.head = <bytes>copy
            Py_XDECREF(copy)
            self.origin = PyBytes_AS_STRING(self.head)
            self.publish()

    cdef int hold(self, const unsigned char* source, Py_ssize_t n, Py_ssize_t most) noexcept:
        """Add to the body that is being put together; ``most`` is what it can come to."""
        cdef Py_ssize_t needed = self.held_length + n
        cdef Py_ssize_t capacity
        if self.held == NULL or needed > self.held_capacity:
            capacity = min(most, needed + max(needed >> 1, AHEAD_BYTES))
            if self.memory is not None:
                if capacity > SMALL_BYTES \
                        and not self.memory.admits_begun(capacity - self.counted):
                    return self.fail(503, NO_ROOM)
                self.count(capacity)
            if self.held == NULL:
                self.held = new_bytes(NULL, capacity)
            else:
                resize_bytes(&self.held, capacity)
            if self.held == NULL:
                PyErr_Clear()
                return self.fail(503, "no memory for the body")
            self.held_capacity = capacity
        if n:
            memcpy(bytes_data(self.held) + self.held_length, source, n)
        self.held_length = needed
        return 0

    cdef int read_body(self) noexcept:
        """Read on in a body that did not come whole with its head. 1: it has ended."""
        cdef Py_ssize_t n
        cdef int outcome
        if self.state <= S_SECTION_LF:
            return self.read_fields()  # trailers
        if self.state == S_BODY_LENGTH:
            n = min(self.end - self.position, self.remaining)
            if n == 0:
                return 0
            if self.hold(self.base + self.position, n, self.content_length):
                return EV_ERROR
            self.position += n
            self.remaining -= n
            return self.remaining == 0
        if self.state == S_BODY_CLOSE:
            n = self.end - self.position
            if n > self.body_bytes_max - self.held_length:
                return self.fail(413, "the body is too large")
            if n and self.hold(self.base + self.position, n, self.body_bytes_max):
                return EV_ERROR
            self.position += n
            return 0
        while self.position < self.end:
            if self.state == S_CHUNK_DATA:
                n = min(self.end - self.position, self.remaining)
                if self.hold(self.base + self.position, n, self.body_bytes_max):
                    return EV_ERROR
                self.position += n
                self.remaining -= n
                if self.remaining == 0:
                    self.state = S_CHUNK_DATA_CR
            elif self.state == S_CHUNK_DATA_CR:
                if self.base[self.position] != c'\r':
                    return self.fail(400, "a chunk is longer than its size")
                self.position += 1
                self.state = S_CHUNK_DATA_LF
            elif self.state == S_CHUNK_DATA_LF:
                if self.base[self.position] != c'\n':
                    return self.fail(400, "a chunk is longer than its size")
                self.position += 1
                self.state = S_CHUNK_LINE
            else:
                outcome = self.read_chunk_line()
                if outcome < 0:
                    return outcome
                if outcome == 1:  # the last chunk: trailers follow
                    if self.held == NULL and self.hold(self.base, 0, 0):
                        return EV_ERROR
                    self.in_trailers = True
                    self.in_head = True
                    self.start = self.position
                    self.state = S_LINE
                    return self.read_fields()
        return 0

    cdef int read_chunk_line(self) noexcept:
        """Read a chunk's size and its extensions.

        1: it was the last chunk's; 0: go on; -1: refused.
        """
        cdef const unsigned char* p = self.base + self.position
        cdef int outcome = read_chunk_line(&self.chunk_line, &p, self.base + self.end)
        if outcome < 0:
            return self.fail(400, chunk_line_problem(outcome))
        self.position = p - self.base
        if outcome == CHUNK_LINE_MORE:
            return 0
        self.remaining = self.chunk_line.size
        if self.remaining > self.body_bytes_max - self.held_length:
            return self.fail(413, "the body is too large")
        self.state = S_CHUNK_DATA
        return self.remaining == 0

    # -- for Python

    def receive_data(self, bytes data not None):
        """Take bytes from the peer; then ``poll`` until it gives None."""
        self.receive(data)

    cdef dict values(self):
        """The values of the wanted fields that came, by name."""
        cdef dict values = {}
        cdef int i
        for i in range(self.wanted_count):
            if self.wanted_value[i] != NULL:
                name = self.wanted_names[i].decode("ascii")
                values[name] = self.wanted_value[i][:self.wanted_length[i]]
        return values

    cdef bytes content(self):
        """The body as an object of its own."""
        return self.body[:self.body_length] if self.body_length else b""

    def measure(self, bytes data not None, int rounds):
        """Decode ``data`` so many times and return how many messages there were (benchmarks)."""
        cdef int seen = 0
        cdef int i
        for i in range(rounds):
            self.receive(data)
            while self.next_event() == EV_REQUEST:
                seen += 1
        return seen

    @property
    def unfinished(self):
        """Whether bytes of an unfinished message are held."""
        return self.mid_message

    @property
    def unread_bytes(self):
        """How many received bytes have not been read yet."""
        return self.buffered()


cdef str chunk_line_problem(int outcome):
    """What is wrong with the line before a chunk, for the answer."""
    if outcome == CHUNK_SIZE_MISSING:
        return "a chunk size was expected"
    if outcome == CHUNK_SIZE_OVERFLOWS:
        return "a chunk size overflows"
    if outcome == CHUNK_SIZE_MALFORMED:
        return "a chunk size is malformed"
    if outcome == CHUNK_EXTENSION_MALFORMED:
        return "a chunk extension is malformed"
    if outcome == CHUNK_EXTENSIONS_TOO_LARGE:
        return "the chunk extensions are too large"
    return "a carriage return stands alone"
