"""The server's side of HTTP/1.1: requests in, strictly (RFC 9112, RFC 9110 section 7).

The consumer agent's ingress calls this for each read of each connection: ``receive``, then
``next_event`` until it wants more or gives up. The invariant: what it accepts has one meaning, the
same to every other implementation (tested against h11 and llhttp); anything else is refused with
the status to answer, and the connection then has to close.
"""

from libc.string cimport memchr, memcmp

from dragoman.errors import UsageError
from dragoman.wire.http1.message import HttpError
from dragoman.wire.http1.events import Request

from dragoman.wire.http1.message cimport BODY_FOLLOWS
from dragoman.wire.http1.section cimport advance, pause, readable_end
from dragoman.wire.http1.states cimport (
    S_BODY_LENGTH,
    S_CHUNK_LINE,
    S_LINE,
    S_METHOD,
    S_START,
    S_START_AGAIN,
    S_START_LF,
    S_START_LINE_LF,
    S_TARGET,
    S_VERSION,
)
from dragoman.wire.http1.tables cimport (
    C_HOST,
    C_TARGET,
    C_TOKEN,
    CHARS,
    EV_CONTINUE,
    EV_ERROR,
    EV_NEED_MORE,
    HEX,
    MAJOR_AT,
    MINOR_AT,
    M_CONNECT,
    M_DELETE,
    M_GET,
    M_HEAD,
    M_OPTIONS,
    M_OTHER,
    M_PATCH,
    M_POST,
    M_PUT,
    M_TRACE,
    VERSION_BYTES,
    same,
    skip,
)

METHODS = {
    M_GET: "GET",
    M_HEAD: "HEAD",
    M_POST: "POST",
    M_PUT: "PUT",
    M_DELETE: "DELETE",
    M_OPTIONS: "OPTIONS",
    M_PATCH: "PATCH",
}


cdef class RequestDecoder(MessageDecoder):
    """Decodes the requests of one connection.

    At C level: ``receive`` what the socket gave, then loop on ``next_event``. After EV_REQUEST the
    attributes describe the request: ``method``, ``keep_alive``, ``content_kind``, ``target``,
    ``path``, ``query``, ``body`` and the ``wanted`` values; pointers live until the next call,
    those into ``body`` as long as ``owner`` is kept. After EV_ERROR, ``status`` and ``reason`` are
    to be answered and the connection closed. Limits are in bytes.
    """

    def __init__(self, *, Py_ssize_t target_bytes_max=8192, **limits):
        super().__init__(**limits)
        if target_bytes_max < 1:
            raise UsageError("HTTP limits: target_bytes_max >= 1")
        self.target_bytes_max = target_bytes_max

    cdef int read_start_line(self) noexcept:
        """Read the request line (RFC 9112 section 3) and the empty line that may stand before it.
        """
        cdef const unsigned char* head
        cdef const unsigned char* p
        cdef const unsigned char* stop
        cdef const unsigned char* most
        cdef int outcome, state
        if self.position == self.end:
            return 0
        if self.state < S_METHOD:
            outcome = begin_request(self)
            if outcome <= 0:
                return outcome
        head = self.base + self.start
        p = self.base + self.position
        stop = readable_end(self)
        state = self.state
        while p < stop:
            if state == S_METHOD:
                p = skip(p, stop, C_TOKEN)
                if p == stop:
                    break
                if p[0] != c' ':
                    return self.fail(400, "a method holds a character that is not allowed")
                self.method = which_method(head, p - head)
                p += 1
                self.target_at = p - head
                state = S_TARGET
            if state == S_TARGET:
                most = head + self.target_at + self.target_bytes_max + 1
                p = skip(p, stop if most > stop else most, C_TARGET)
                if p - head - self.target_at > self.target_bytes_max:
                    return self.fail(414, "the target is too long")
                if p == stop:
                    break
                if p[0] != c' ' or p - head == self.target_at:
                    return self.fail(400, "the target is malformed")
                self.target_end = p - head
                p += 1
                self.version_at = p - head
                state = S_VERSION
            if state == S_VERSION:
                p = skip_version(p, stop, p - head - self.version_at)
                if p == stop:
                    break
                if p == NULL or p[0] != c'\r':
                    return self.fail(400, "the version is malformed")
                p += 1
                state = S_START_LINE_LF
            elif state == S_START_LINE_LF:
                if p[0] != c'\n':
                    return self.fail(400, "a carriage return stands alone")
                advance(self, p + 1, S_LINE)
                return self.check_request_line(head)
        return pause(self, p, state, 431, "the request line is too large")

    cdef int check_request_line(self, const unsigned char* head) noexcept:
        """The request line is whole. 1: it is taken; -1: refused."""
        cdef const unsigned char* version = head + self.version_at
        if version[MAJOR_AT] != c'1' or version[MINOR_AT] > c'1':
            return self.fail(505, "the version is not HTTP/1.0 or HTTP/1.1")
        self.http10 = version[MINOR_AT] == c'0'
        self.http_1_0 = self.http10
        if self.method == M_OTHER:
            return self.fail(501, "the method is not known")
        if self.method >= M_CONNECT:
            return self.fail(405, "CONNECT and TRACE are not served")
        return self.check_target(head + self.target_at, self.target_end - self.target_at)

    cdef int check_target(self, const unsigned char* p, Py_ssize_t n) noexcept:
        """The target's form (RFC 9112 section 3.2): origin, absolute, or asterisk for OPTIONS."""
        cdef Py_ssize_t at
        cdef Py_ssize_t end
        if p[0] == c'/' or (n == 1 and p[0] == c'*' and self.method == M_OPTIONS):
            return 1
        if n > 7 and same(p, b"http://", 7):
            at = 7
        elif n > 8 and same(p, b"https://", 8):
            return self.fail(421, "an https URI was asked for on a port that speaks plain http")
        else:
            return self.fail(400, "the target is neither a path nor an http URI")
        end = at
        while end < n and p[end] != c'/' and p[end] != c'?':
            end += 1
        if not valid_host(p + at, end - at):
            return self.fail(400, "the target's authority is malformed")
        # It stands for Host, whatever that says (RFC 9112 section 3.2.2).
        self.host_from_target = True
        self.host_at = self.target_at + at
        self.host_length = end - at
        return 1

    cdef int field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept:
        if n == 4 and same(name, b"host", 4):
            if self.host_seen:
                return self.fail(400, "Host is repeated")
            self.host_seen = True
            if not valid_host(value, length):
                return self.fail(400, "Host is malformed")
            if not self.host_from_target:
                self.host_at = value - (self.base + self.start)
                self.host_length = length
        elif n == 16 and same(name, b"content-encoding", 16):
            if self.encoding_seen:
                return self.fail(400, "Content-Encoding is repeated")
            self.encoding_seen = True
            if length and not (length == 8 and same(value, b"identity", 8)):
                self.content_encoded = True
        elif n == 6 and same(name, b"expect", 6):
            if length == 12 and same(value, b"100-continue", 12):
                self.continue_asked = True
            else:
                self.expect_unknown = True
        return self.common_field(name, n, value, length)

    cdef int head_done(self) noexcept:
        cdef int outcome
        if self.check_framing():
            return EV_ERROR
        if not self.host_seen and not self.http10:
            return self.fail(400, "Host is missing")
        if self.expect_unknown:
            return self.fail(417, "the expectation is not 100-continue")
        self.origin = <const char*>self.base + self.start
        self.publish()
        outcome = self.begin_body()
        if (
            outcome == BODY_FOLLOWS
            and self.continue_asked
            and not self.http10
            and self.position == self.end
            and (self.state == S_BODY_LENGTH or self.state == S_CHUNK_LINE)
        ):
            return EV_CONTINUE
        return outcome

    cdef void publish(self) noexcept:
        """Turn the recorded offsets into pointers."""
        cdef const char* p = self.origin + self.target_at
        cdef Py_ssize_t n = self.target_end - self.target_at
        cdef const char* mark
        self.target = p
        self.target_length = n
        self.host = self.origin + self.host_at
        if p[0] != c'/' and p[0] != c'*':  # absolute form: its path begins after the authority
            mark = <const char*>memchr(p, c':', n) + 3
            n -= mark - p
            p = mark
            while n > 0 and p[0] != c'/' and p[0] != c'?':
                p += 1
                n -= 1
        mark = <const char*>memchr(p, c'?', n) if n else NULL
        self.query = NULL
        self.query_length = 0
        self.path = p
        self.path_length = n
        if mark != NULL:
            self.path_length = mark - p
            self.query = mark + 1
            self.query_length = p + n - self.query
        if self.path_length == 0:
            self.path = b"/"
            self.path_length = 1
        MessageDecoder.publish(self)

    # -- for Python

    def poll(self):
        """The next request, or None while more bytes are needed; raises ``HttpError`` with a
        ``status``.

        ``continue_wanted`` is true after None if the peer waits for ``100 Continue``.
        """
        cdef int event = self.next_event()
        self.continue_wanted = event == EV_CONTINUE
        if event == EV_NEED_MORE or event == EV_CONTINUE:
            return None
        if event == EV_ERROR:
            raise HttpError(self.status, self.reason)
        return Request(
            METHODS[self.method],
            self.target[:self.target_length],
            self.path[:self.path_length],
            self.query[:self.query_length] if self.query != NULL else None,
            self.keep_alive,
            self.content_kind,
            self.content(),
            self.values(),
        )


cdef inline int begin_request(RequestDecoder self) noexcept:
    """Pass the empty line that may stand before a request. 1: the request is at ``position``."""
    cdef const unsigned char* p = self.base + self.position
    cdef const unsigned char* stop = self.base + self.end
    if self.state == S_START and p[0] == c'\r':
        p += 1
        self.state = S_START_LF
    if self.state == S_START_LF and p < stop:
        if p[0] != c'\n':
            return self.fail(400, "a method was expected")
        p += 1
        self.state = S_START_AGAIN
    self.position = p - self.base
    if p == stop:
        return 0
    if not CHARS[p[0]] & C_TOKEN:
        return self.fail(400, "a method was expected")
    self.begin_head()
    self.host_seen = False
    self.host_from_target = False
    self.host_length = 0
    self.encoding_seen = False
    self.content_encoded = False
    self.expect_unknown = False
    self.continue_asked = False
    self.state = S_METHOD
    return 1


cdef inline const unsigned char* skip_version(
    const unsigned char* p, const unsigned char* stop, Py_ssize_t at
) noexcept nogil:
    """Past what is there of a version, from its byte ``at`` on; NULL if that is none."""
    while p < stop and at < VERSION_BYTES:
        if at == MAJOR_AT or at == MINOR_AT:
            if p[0] < c'0' or p[0] > c'9':
                return NULL
        elif p[0] != <unsigned char>(b"HTTP/d.d"[at]):
            return NULL
        p += 1
        at += 1
    return p


cdef int which_method(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """The method's number; M_OTHER if it is none of those known."""
    if n == 3:
        if memcmp(p, b"GET", 3) == 0:
            return M_GET
        if memcmp(p, b"PUT", 3) == 0:
            return M_PUT
    elif n == 4:
        if memcmp(p, b"POST", 4) == 0:
            return M_POST
        if memcmp(p, b"HEAD", 4) == 0:
            return M_HEAD
    elif n == 5:
        if memcmp(p, b"PATCH", 5) == 0:
            return M_PATCH
        if memcmp(p, b"TRACE", 5) == 0:
            return M_TRACE
    elif n == 6:
        if memcmp(p, b"DELETE", 6) == 0:
            return M_DELETE
    elif n == 7:
        if memcmp(p, b"OPTIONS", 7) == 0:
            return M_OPTIONS
        if memcmp(p, b"CONNECT", 7) == 0:
            return M_CONNECT
    return M_OTHER


cdef bint valid_host(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """Whether it is ``uri-host [":" port]`` with a host (RFC 9110 section 7.2).

    No user, no path.
    """
    cdef Py_ssize_t at = 0
    if n < 1:
        return False
    if p[0] == c'[':  # an IP literal in brackets
        at = 1
        while at < n and (HEX[p[at]] or p[at] == c':' or p[at] == c'.'):
            at += 1
        if at < 4 or at == n or p[at] != c']':
            return False
        at += 1
    else:
        while at < n and CHARS[p[at]] & C_HOST:
            at += 1
        if at == 0:
            return False
    if at == n:
        return True
    if p[at] != c':' or n - at > 6:
        return False
    at += 1
    while at < n:
        if p[at] < c'0' or p[at] > c'9':
            return False
        at += 1
    return True
