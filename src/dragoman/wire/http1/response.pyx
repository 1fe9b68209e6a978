"""The client's side of HTTP/1.1: responses in, strictly (RFC 9112 sections 4 and 6.3).

The demo consumer and the load generator call it as the ingress calls the request decoder:
``receive``, then ``next_event`` until it wants more. The invariant: a body ends where RFC 9112
section 6.3 says and nowhere else; one that the end of the connection would have to end is whole
only after ``finish``.
"""

from dragoman.wire.http1.message import HttpError
from dragoman.wire.http1.events import Response

from dragoman.wire.http1.fields cimport TE_NONE
from dragoman.wire.http1.message cimport BODY_FOLLOWS
from dragoman.wire.http1.section cimport advance, pause, readable_end
from dragoman.wire.http1.states cimport (
    S_BODY_CLOSE,
    S_CODE,
    S_LINE,
    S_PHRASE,
    S_START,
    S_START_LINE_LF,
    S_VERSION,
)
from dragoman.wire.http1.tables cimport (
    C_VALUE,
    EV_ERROR,
    EV_NEED_MORE,
    EV_RESPONSE,
    MINOR_AT,
    VERSION_BYTES,
    skip,
)

cdef enum:
    CODE_END = 12  # of ``HTTP/1.1 200``


cdef class ResponseDecoder(MessageDecoder):
    """Decodes the responses of one connection; 1xx are passed over.

    At C level: ``receive``, then loop on ``next_event``. After EV_RESPONSE ``code``,
    ``keep_alive``, ``content_kind``, ``body`` and the wanted values describe the response;
    pointers live until the next call, those into ``body`` as long as ``owner`` is kept. Set
    ``head_only`` before the response to a HEAD request. When the peer closes, call ``finish``.
    """

    cdef int read_start_line(self) noexcept:
        """Read the status line (RFC 9112 section 4)."""
        cdef const unsigned char* p = self.base + self.position
        cdef const unsigned char* stop
        cdef int state = self.state
        cdef Py_ssize_t at
        if self.position == self.end:
            return 0
        if state == S_START:
            self.begin_head()
            self.line_at = 0
            self.code = 0
            state = S_VERSION
        stop = readable_end(self)
        at = self.line_at
        while p < stop:
            if state == S_VERSION:
                if at == MINOR_AT:
                    if p[0] != c'0' and p[0] != c'1':
                        return self.fail(502, "the response's version is not HTTP/1.0 or HTTP/1.1")
                    self.http10 = p[0] == c'0'
                elif p[0] != <unsigned char>(b"HTTP/1.d "[at]):
                    return self.fail(502, "the response's version is malformed")
                elif at == VERSION_BYTES:
                    state = S_CODE
                at += 1
                p += 1
            elif state == S_CODE:
                if at < CODE_END:
                    if p[0] < c'0' or p[0] > c'9':
                        return self.fail(502, "the status code is malformed")
                    self.code = self.code * 10 + (p[0] - c'0')
                elif p[0] == c' ':
                    state = S_PHRASE
                elif p[0] == c'\r':
                    state = S_START_LINE_LF
                else:
                    return self.fail(502, "the status code is malformed")
                at += 1
                p += 1
            elif state == S_PHRASE:
                p = skip(p, stop, C_VALUE)
                if p == stop:
                    break
                if p[0] != c'\r':
                    return self.fail(502, "the reason phrase holds a character that is not allowed")
                p += 1
                state = S_START_LINE_LF
            else:
                if p[0] != c'\n':
                    return self.fail(502, "a carriage return stands alone")
                advance(self, p + 1, S_LINE)
                if self.code < 100 or self.code > 599:
                    return self.fail(502, "the status code is out of range")
                return 1
        self.line_at = at
        return pause(self, p, state, 502, "the status line is too large")

    cdef int head_done(self) noexcept:
        if self.code < 200:
            if self.code == 101:
                return self.fail(502, "the peer switches protocols unasked")
            self.in_head = False
            self.state = S_START
            return 0
        if self.check_framing():
            return EV_ERROR
        self.origin = <const char*>self.base + self.start
        self.publish()
        if self.head_only or self.code == 204 or self.code == 304:
            self.coding = TE_NONE
            self.content_length = 0
        elif self.coding == TE_NONE and self.content_length < 0:
            self.keep_alive = False
            self.in_head = False
            self.keep_head()
            self.held_length = 0
            self.state = S_BODY_CLOSE
            return BODY_FOLLOWS
        return self.begin_body()

    cdef int finish(self) noexcept:
        """The peer has closed.

        EV_RESPONSE: that was the end of the body; else EV_NEED_MORE or EV_ERROR.
        """
        if self.state == S_BODY_CLOSE:
            if self.held == NULL and self.hold(self.base, 0, 0):
                return EV_ERROR
            self.complete()
            return EV_RESPONSE
        if self.state > S_START and self.state <= S_BODY_CLOSE or self.mid_message:
            self.fail(502, "the connection ended inside a response")
            self.mid_message = True  # whoever asks again gets the same answer
            return EV_ERROR
        return EV_NEED_MORE

    # -- for Python

    def poll(self):
        """The next response, or None while more bytes are needed; raises ``HttpError``."""
        return self.describe(self.next_event())

    def receive_eof(self):
        """The peer has closed: the response that this ends, or None; ``HttpError`` if it is cut."""
        return self.describe(self.finish())

    cdef object describe(self, int event):
        if event == EV_NEED_MORE:
            return None
        if event == EV_ERROR:
            raise HttpError(self.status, self.reason)
        return Response(
            self.code,
            self.keep_alive,
            self.content_kind,
            self.content(),
            self.values(),
        )
