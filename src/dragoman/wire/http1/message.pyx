"""The common part of HTTP/1.1 requests and responses: fields, framing, bodies (RFC 9112).

``RequestDecoder`` and ``ResponseDecoder`` build on ``MessageDecoder``. It is a table-driven state
machine that stops at any byte and goes on there, so that the verdict on a message never depends on
how its bytes were cut. It reads in place: a message that lies whole in what was received costs no
copy and no allocation; what is incomplete is kept, within the limits.

The invariant: ``data[position:end]`` is what has not been read. While ``in_head``,
``data[start:]`` is kept, since recorded offsets count from ``start`` (as during trailers); a body
that did not come whole is gathered in ``held``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from dragoman.errors import ProtocolError, UsageError

from dragoman.wire.http1.tables cimport (
    C_TOKEN,
    CHARS,
    CT_NONE,
    EV_ERROR,
    EV_NEED_MORE,
    EV_REQUEST,
    HEX,
    WANTED_MAX,
    same,
    skip_value,
)
from dragoman.wire.http1.fields cimport (
    TE_BAD,
    TE_NONE,
    TE_CHUNKED,
    TE_UNKNOWN,
    has_option,
    is_framing,
    parse_coding,
    parse_content_type,
    parse_length,
)

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* source, Py_ssize_t n) noexcept
    int resize_bytes "_PyBytes_Resize"(PyObject** where, Py_ssize_t n) noexcept
    char* bytes_data "PyBytes_AS_STRING"(PyObject* where) noexcept
    void PyErr_Clear() noexcept
    void Py_XDECREF(PyObject* what) noexcept

# All chunk extensions of one message together; they carry nothing that dragoman uses.
cdef Py_ssize_t EXTENSION_BYTES_MAX = 1024
# 2^64 - 1 has 16 hexadecimal digits.
cdef int SIZE_DIGITS_MAX = 16
# A received object above this size is not kept for the sake of a small part of it.
cdef Py_ssize_t LARGE_BYTES = 16384
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


@cython.no_gc_clear
cdef class MessageDecoder:
    """The common part of both decoders; not used by itself.

    ``wanted`` names up to eight fields, in lower case, whose values are recorded; one that comes
    repeatedly is refused, as each reader might take another of the values. Limits are in bytes;
    ``fields_max`` counts the fields of head and trailers together.
    """

    def __init__(
        self,
        *,
        Py_ssize_t head_bytes_max=16384,
        Py_ssize_t fields_max=100,
        Py_ssize_t body_bytes_max=1 << 20,
        tuple wanted=(),
    ):
        cdef bytes name
        if head_bytes_max < 16 or fields_max < 1 or body_bytes_max < 0:
            raise UsageError(
                "HTTP limits: head_bytes_max > 15, fields_max > 0, body_bytes_max >= 0"
            )
        if len(wanted) > WANTED_MAX:
            raise UsageError(f"wanted: at most {WANTED_MAX} names, not {len(wanted)}")
        self.head_bytes_max = head_bytes_max
        self.fields_max = fields_max
        self.body_bytes_max = body_bytes_max
        names = []
        for text in wanted:
            name = text.encode("ascii")
            if not name or len(name) > 31 or name != name.lower():
                raise UsageError(f"wanted: {text!r} is not a lower-case name of 1 to 31 bytes")
            names.append(name)
            self.wanted_name[self.wanted_count] = PyBytes_AS_STRING(name)
            self.wanted_name_length[self.wanted_count] = len(name)
            self.wanted_lengths |= 1U << len(name)
            self.wanted_count += 1
        self.wanted_names = tuple(names)  # keeps the pointers alive

    def __dealloc__(self):
        self.count(0)
        Py_XDECREF(self.held)

    cdef void count(self, Py_ssize_t n) noexcept:
        """``n`` bytes are held for the unfinished message."""
        if self.memory is not None:
            if n > self.counted:
                self.memory.take(n - self.counted)
            else:
                self.memory.give(self.counted - n)
            self.counted = n

    cdef void drop(self) noexcept:
        """The connection has ended: let go of what is unfinished."""
        self.state = S_DEAD
        self.count(0)
        Py_XDECREF(self.held)
        self.held = NULL

    # -- input

    cdef int receive(self, bytes data) except -2:
        """Take bytes from the socket.

        A reference is kept; nothing is copied if nothing was left over.
        """
        cdef Py_ssize_t keep = self.start if self.in_head else self.position
        cdef Py_ssize_t left = self.end - keep
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef bytes joined
        if self.state >= S_CLOSED:
            return 0
        if left > 0:
            if n == 0:
                return 0
            joined = <bytes>PyBytes_FromStringAndSize(NULL, left + n)
            memcpy(PyBytes_AS_STRING(joined), self.base + keep, left)
            memcpy(PyBytes_AS_STRING(joined) + left, PyBytes_AS_STRING(data), n)
            data = joined
            n += left
        self.data = data
        self.base = <const unsigned char*>PyBytes_AS_STRING(data)
        self.end = n
        self.position -= keep
        self.start = 0
        return 0

    cdef Py_ssize_t buffered(self) noexcept:
        """How many received bytes have not been read yet."""
        return self.end - self.position

    cdef int need_more(self) noexcept:
        """All that was received is read: let go of what no unfinished message needs."""
        self.mid_message = self.state != S_START and self.state < S_CLOSED
        cdef PyObject* copy = NULL
        self.owner = None
        if self.in_head and self.start > LARGE_BYTES:
            # an unfinished head behind much that has been read: keep the head alone
            copy = new_bytes(<const char*>self.base + self.start, self.end - self.start)
            if copy == NULL:
                PyErr_Clear()
            else:
                self.data = <bytes>copy
                Py_XDECREF(copy)
                self.base = <const unsigned char*>PyBytes_AS_STRING(self.data)
                self.position -= self.start
                self.end -= self.start
                self.start = 0
        if self.held == NULL:
            if self.in_head:
                self.count(self.end)
            elif self.counted:
                self.count(0)
        if not self.in_head:
            self.data = None
            self.base = NULL
            self.position = 0
            self.end = 0
            self.start = 0
            if self.state <= S_START_AGAIN or self.state >= S_CLOSED:
                self.head = None
        return EV_NEED_MORE

    cdef int fail(self, int status, str reason) noexcept:
        """The peer broke the protocol: remember the verdict and drop everything."""
        self.status = status
        self.reason = reason
        self.state = S_DEAD
        self.keep_alive = False
        self.in_head = False
        self.need_more()
        self.head = None
        self.count(0)
        Py_XDECREF(self.held)
        self.held = NULL
        return EV_ERROR

    # -- events

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
                if outcome == 0 or outcome == 3:
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
            return EV_REQUEST
        return self.need_more() if outcome == 0 else EV_ERROR

    cdef void begin_head(self) noexcept:
        """The first byte of a message is at ``position``."""
        cdef int i
        self.start = self.position
        self.in_head = True
        self.in_trailers = False
        self.budget = self.head_bytes_max
        self.fields = 0
        self.content_length = -1
        self.coding = TE_NONE
        self.content_kind = CT_NONE
        self.said_close = False
        self.said_keep_alive = False
        self.body = NULL
        self.body_length = 0
        for i in range(self.wanted_count):
            self.wanted_at[i] = -1

    cdef int read_start_line(self) noexcept:
        return self.fail(500, "not a decoder")

    cdef int head_done(self) noexcept:
        return self.fail(500, "not a decoder")

    cdef int field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept:
        return self.common_field(name, n, value, length)

    cdef void publish(self) noexcept:
        """Turn the recorded offsets into pointers from ``origin``."""
        cdef int i
        for i in range(self.wanted_count):
            if self.wanted_at[i] < 0:
                self.wanted_value[i] = NULL
                self.wanted_length[i] = 0
            else:
                self.wanted_value[i] = self.origin + self.wanted_at[i]

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

    # -- fields (RFC 9112 section 5)

    cdef int read_fields(self) noexcept:
        """Read field lines up to the empty one. 1: the section has ended."""
        cdef const unsigned char* base = self.base
        cdef const unsigned char* head = base + self.start
        cdef const unsigned char* p = base + self.position
        cdef const unsigned char* from_ = p
        cdef const unsigned char* stop = base + self.end
        cdef const unsigned char* v
        cdef int state = self.state
        if stop - p > self.budget:
            stop = p + self.budget
        while p < stop:
            if state == S_LINE:
                if p[0] == c'\r':
                    p += 1
                    state = S_SECTION_LF
                    continue
                if not CHARS[p[0]] & C_TOKEN:
                    return self.fail(400, "a field name was expected")
                self.fields += 1
                if self.fields > self.fields_max:
                    return self.fail(431, "too many fields")
                self.name_at = p - head
                state = S_NAME
            if state == S_NAME:
                while p < stop and CHARS[p[0]] & C_TOKEN:
                    p += 1
                if p == stop:
                    break
                if p[0] != c':':
                    return self.fail(400, "a field name holds a character that is not allowed")
                self.name_end = p - head
                p += 1
                state = S_LEADING
            if state == S_LEADING:
                while p < stop and (p[0] == c' ' or p[0] == c'\t'):
                    p += 1
                if p == stop:
                    break
                self.value_at = p - head
                state = S_VALUE
            if state == S_VALUE:
                p = skip_value(p, stop)
                if p == stop:
                    break
                if p[0] != c'\r':
                    return self.fail(400, "a field value holds a character that is not allowed")
                self.value_end = p - head
                p += 1
                state = S_VALUE_LF
                if p == stop:
                    break
            if state == S_VALUE_LF:
                if p[0] != c'\n':
                    return self.fail(400, "a carriage return stands alone")
                p += 1
                state = S_LINE
                if self.in_trailers:
                    if is_framing(head + self.name_at, self.name_end - self.name_at):
                        return self.fail(400, "a trailer is about framing")
                else:
                    v = head + self.value_end
                    while v > head + self.value_at and ((v - 1)[0] == c' ' or (v - 1)[0] == c'\t'):
                        v -= 1
                    if self.field(
                        head + self.name_at,
                        self.name_end - self.name_at,
                        head + self.value_at,
                        v - (head + self.value_at),
                    ):
                        return EV_ERROR
            elif state == S_SECTION_LF:
                if p[0] != c'\n':
                    return self.fail(400, "a carriage return stands alone")
                p += 1
                self.position = p - base
                self.state = S_SECTION_LF
                self.in_head = not self.in_trailers
                return 1
        self.position = p - base
        self.state = state
        self.budget -= p - from_
        if self.budget == 0:
            return self.fail(431, "the fields are too large")
        return 0

    cdef int common_field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept:
        """Take note of a field that framing or the caller needs."""
        cdef int i
        if n == 14 and same(name, b"content-length", 14):
            if self.content_length != -1:
                return self.fail(400, "Content-Length is repeated")
            self.content_length = parse_length(value, length)
            if self.content_length < 0:
                return self.fail(400, "Content-Length is not a number")
        elif n == 17 and same(name, b"transfer-encoding", 17):
            if self.coding != TE_NONE:
                return self.fail(400, "Transfer-Encoding is repeated")
            self.coding = parse_coding(value, length)
            if tab_around(value, length):
                self.coding = TE_BAD  # allowed, but llhttp reads another meaning
        elif n == 12 and same(name, b"content-type", 12):
            if self.content_kind != CT_NONE:
                return self.fail(400, "Content-Type is repeated")
            self.content_kind = parse_content_type(value, length)
        elif n == 10 and same(name, b"connection", 10):
            if has_option(value, length, b"close", 5):
                self.said_close = True
            elif has_option(value, length, b"keep-alive", 10):
                self.said_keep_alive = True
        if n < 32 and self.wanted_lengths & (1U << n):
            for i in range(self.wanted_count):
                if (
                    self.wanted_name_length[i] == n
                    and same(name, self.wanted_name[i], n)
                ):
                    if self.wanted_at[i] >= 0:
                        return self.fail(400, repeated(self.wanted_names[i]))
                    self.wanted_at[i] = value - (self.base + self.start)
                    self.wanted_length[i] = length
        return 0

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
        """The head is whole. 1: and so is the message; 3: go on with its body; -1: refused."""
        cdef Py_ssize_t length = self.content_length
        cdef Py_ssize_t there = self.end - self.position
        self.in_head = False
        if self.coding == TE_CHUNKED:
            self.state = S_CHUNK_FIRST
            self.extension_bytes = 0
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
        return 3

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
                self.state = S_CHUNK_FIRST
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
        cdef const unsigned char* stop = self.base + self.end
        cdef int state = self.state
        cdef unsigned char c
        cdef bint good
        while p < stop:
            c = p[0]
            p += 1
            if state <= S_CHUNK_SIZE:
                if HEX[c]:
                    if state == S_CHUNK_FIRST:
                        self.remaining = 0
                        self.size_digits = 0
                        state = S_CHUNK_SIZE
                    self.size_digits += 1
                    if self.size_digits > SIZE_DIGITS_MAX or self.remaining >> 59:
                        return self.fail(400, "a chunk size overflows")
                    self.remaining = (self.remaining << 4) | (HEX[c] - 1)
                    continue
                if state == S_CHUNK_FIRST:
                    return self.fail(400, "a chunk size was expected")
                if c == c'\r':
                    state = S_CHUNK_LF
                elif c == c';':
                    state = S_CHUNK_EXT_NAME_FIRST
                    self.extension_bytes += 1
                else:
                    return self.fail(400, "a chunk size is malformed")
            elif state == S_CHUNK_LF:
                if c != c'\n':
                    return self.fail(400, "a carriage return stands alone")
                self.position = p - self.base
                if self.remaining > self.body_bytes_max - self.held_length:
                    return self.fail(413, "the body is too large")
                self.state = S_CHUNK_DATA
                return self.remaining == 0
            else:
                self.extension_bytes += 1
                good = (CHARS[c] & C_TOKEN) != 0
                if state == S_CHUNK_EXT_NAME_FIRST or state == S_CHUNK_EXT_VALUE_FIRST:
                    if good:
                        state += 1
                    elif c == c'"' and state == S_CHUNK_EXT_VALUE_FIRST:
                        state = S_CHUNK_EXT_QUOTED
                        good = True
                elif state == S_CHUNK_EXT_QUOTED:
                    good = c == c'\t' or (c >= c' ' and c != 127)
                    if c == c'"':
                        state = S_CHUNK_EXT_QUOTED_END
                    elif c == c'\\':
                        state = S_CHUNK_EXT_ESCAPED
                elif state == S_CHUNK_EXT_ESCAPED:
                    good = c == c'\t' or (c >= c' ' and c != 127)
                    state = S_CHUNK_EXT_QUOTED
                elif c == c'\r' or c == c';' or (c == c'=' and state == S_CHUNK_EXT_NAME):
                    good = True  # the end of a name, a value or a quoted value
                    if c == c'\r':
                        state = S_CHUNK_LF
                    elif c == c';':
                        state = S_CHUNK_EXT_NAME_FIRST
                    else:
                        state = S_CHUNK_EXT_VALUE_FIRST
                elif state == S_CHUNK_EXT_QUOTED_END:
                    good = False
                if not good:
                    return self.fail(400, "a chunk extension is malformed")
                if self.extension_bytes > EXTENSION_BYTES_MAX:
                    return self.fail(400, "the chunk extensions are too large")
        self.position = p - self.base
        self.state = state
        return 0


cdef str repeated(bytes name):
    return f"{name.decode().title()} is repeated"


cdef bint tab_around(const unsigned char* value, Py_ssize_t length) noexcept nogil:
    """Whether a tab is in the white space around a field's value."""
    cdef const unsigned char* p = value - 1
    while p[0] == c' ':
        p -= 1
    if p[0] == c'\t':
        return True
    p = value + length
    while p[0] == c' ':
        p += 1
    return p[0] == c'\t'
