"""What both of a message's sections of fields need, its head and its trailers: the bytes that have
come, and the fields in them (RFC 9112 section 5).

``MessageDecoder`` builds on it. The invariant: ``data[position:end]`` is what has not been read.
While ``in_head``, ``data[start:]`` is kept, since recorded offsets count from ``start`` (as during
trailers); a body that did not come whole is gathered in ``held``.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from dragoman.errors import UsageError

from dragoman.wire.http1.fields cimport (
    TE_BAD,
    TE_NONE,
    has_option,
    is_framing,
    parse_coding,
    parse_content_type,
    parse_length,
    tab_around,
)
from dragoman.wire.http1.states cimport (
    S_CLOSED,
    S_DEAD,
    S_LEADING,
    S_LINE,
    S_NAME,
    S_SECTION_LF,
    S_START,
    S_START_AGAIN,
    S_VALUE,
    S_VALUE_LF,
)
from dragoman.wire.http1.tables cimport (
    C_TOKEN,
    CHARS,
    CT_NONE,
    EV_ERROR,
    EV_NEED_MORE,
    NAME_BYTES_MAX,
    WANTED_MAX,
    same,
    skip,
    skip_value,
)

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* source, Py_ssize_t n) noexcept
    void PyErr_Clear() noexcept
    void Py_XDECREF(PyObject* what) noexcept


@cython.no_gc_clear
cdef class SectionDecoder:
    """The received bytes of one connection, and the fields in them; not used by itself.

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
            if not name or len(name) > NAME_BYTES_MAX or name != name.lower():
                raise UsageError(
                    f"wanted: {text!r} is not a lower-case name of 1 to {NAME_BYTES_MAX} bytes"
                )
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

    # -- fields

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

    cdef int read_fields(self) noexcept:
        """Read field lines up to the empty one. 1: the section has ended."""
        cdef const unsigned char* head = self.base + self.start
        cdef const unsigned char* p = self.base + self.position
        cdef const unsigned char* stop = readable_end(self)
        cdef int state = self.state
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
                p = skip(p, stop, C_TOKEN)
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
            if p[0] != c'\n':
                return self.fail(400, "a carriage return stands alone")
            p += 1
            if state == S_SECTION_LF:
                advance(self, p, S_SECTION_LF)
                self.in_head = not self.in_trailers
                return 1
            state = S_LINE
            if take_field(self, head):
                return EV_ERROR
        return pause(self, p, state, 431, "the fields are too large")

    cdef int field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept:
        return self.common_field(name, n, value, length)

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
        if n <= NAME_BYTES_MAX and self.wanted_lengths & (1U << n):
            for i in range(self.wanted_count):
                if self.wanted_name_length[i] == n and same(name, self.wanted_name[i], n):
                    if self.wanted_at[i] >= 0:
                        return self.fail(400, repeated(self.wanted_names[i]))
                    self.wanted_at[i] = value - (self.base + self.start)
                    self.wanted_length[i] = length
        return 0

    cdef void publish(self) noexcept:
        """Turn the recorded offsets into pointers from ``origin``."""
        cdef int i
        for i in range(self.wanted_count):
            if self.wanted_at[i] < 0:
                self.wanted_value[i] = NULL
                self.wanted_length[i] = 0
            else:
                self.wanted_value[i] = self.origin + self.wanted_at[i]


cdef inline int take_field(SectionDecoder self, const unsigned char* head) noexcept:
    """A field's line is whole."""
    cdef const unsigned char* value = head + self.value_at
    cdef const unsigned char* end = head + self.value_end
    if self.in_trailers:
        if is_framing(head + self.name_at, self.name_end - self.name_at):
            return self.fail(400, "a trailer is about framing")
        return 0
    while end > value and ((end - 1)[0] == c' ' or (end - 1)[0] == c'\t'):
        end -= 1
    return self.field(head + self.name_at, self.name_end - self.name_at, value, end - value)


cdef str repeated(bytes name):
    return f"{name.decode().title()} is repeated"
