"""Replies of providers made what their callers are given.

``dubbo.upstream.egress`` hands every reply under status 20 to ``read``, with what the caller asked
for. Whatever was asked in, the reply is read in the serialization that it names: a provider may
answer in its own. The invariants: a reply is checked before any of it is passed on; one that is
malformed (``upstream-protocol``) or well formed but nothing that JSON can say (``bad-result``) is
an error of its call alone, for whatever a frame holds, the provider has answered.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from dragoman.dubbo.upstream.encode_request cimport AS_BODY, AS_TEXT, Asked
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport DUBBO_FASTJSON, DUBBO_FASTJSON2, DUBBO_HESSIAN2
from dragoman.wire.dubbo.fastjson cimport (
    FASTJSON_OK, REPLY_EXCEPTION, REPLY_NULL, REPLY_VALUE, FastjsonReply, fastjson_problem,
    read_reply,
)
from dragoman.wire.hessian2 cimport Hessian2Reader, Hessian2Scanner
from dragoman.wire.dubbo.hessian2 cimport (
    HESSIAN_OK, HessianReply, begin_hessian_reply, hessian_problem,
)
from dragoman.wire.json.string cimport (
    JSON_LONE_SURROGATE, JSON_NUMBER_TOO_LONG, JSON_OK, JSON_TOO_DEEP, json_problem,
    json_string_to_utf8,
)
from dragoman.wire.json.loose cimport write_strict_json
from dragoman.wire.json.text cimport json_check, write_json_without_class
from dragoman.wire.java.throwable cimport exception_text, throwable_text

from dragoman.errors import Code, LimitError, ProtocolError, UsageError
from dragoman.wire.hessian2 import encode as hessian2_encode
from dragoman.wire.dubbo.invocation import throwable
from dragoman.wire.dubbo.fastjson2 import reply_as_hessian2
from dragoman.wire.java.from_json import natural, read_json

cdef int C_REMOTE = Code.REMOTE
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_BAD_RESULT = Code.BAD_RESULT


cdef class Replies:
    """Reads the replies of one provider."""

    def __cinit__(self):
        self._first = Buffer()
        self._second = Buffer()
        self._scanner = Hessian2Scanner()

    cdef int read(
        self, const Asked* asked, int serialization, const char* body, Py_ssize_t n
    ) except -1:
        """0, and ``answer`` is for the caller; or an error's code, and ``problem`` says why."""
        cdef int code
        self.attachments.data = NULL
        if serialization == DUBBO_FASTJSON:
            code = self._fastjson(asked, body, n)
        elif serialization == DUBBO_HESSIAN2:
            code = self._hessian2(asked, body, n)
        elif serialization == DUBBO_FASTJSON2:
            code = self._fastjson2(asked, body, n)
        else:
            self.problem = (
                f"the provider replied in serialization {serialization}, which is not known"
            )
            return C_UPSTREAM_PROTOCOL
        if code != 0 or asked.answer == AS_BODY:
            return code
        return self._as_text() if asked.answer == AS_TEXT else self._as_json(asked)

    def give(self, int serialization, bytes body not None, *, str answer, **wants):
        """The answer to a reply as ``(code, bytes or text)`` (for tests).

        ``answer`` is ``text``, ``json`` or ``body``; ``wants`` are the other members of Asked.
        """
        cdef Asked asked
        memset(&asked, 0, sizeof(Asked))
        asked.answer = ("text", "json", "body").index(answer)
        asked.envelope = wants.get("envelope", False)
        asked.class_names = wants.get("class_names", False)
        asked.generic = wants.get("generic", False)
        asked.gson = wants.get("gson", False)
        cdef int code = self.read(&asked, serialization, PyBytes_AS_STRING(body), len(body))
        if code != 0:
            return code, self.problem
        return 0, self.answer.data[:self.answer.length]

    def answer_to(self, bytes asked not None, int serialization, bytes body not None):
        """The answer to a reply as ``give`` has it; ``asked`` is ``Asked``'s bytes."""
        cdef Asked wants
        if len(asked) != sizeof(Asked):
            raise UsageError(f"{len(asked)} bytes of Asked")
        memcpy(&wants, PyBytes_AS_STRING(asked), sizeof(Asked))
        cdef int code = self.read(&wants, serialization, PyBytes_AS_STRING(body), len(body))
        if code != 0:
            return code, self.problem
        return 0, self.answer.data[:self.answer.length]

    cdef int _bad(self, str why) except -1:
        self.problem = f"the provider's reply is malformed: {why}"
        return C_UPSTREAM_PROTOCOL

    cdef int _unsayable(self, str why) except -1:
        """The reply is well formed, and cannot be said in the form that was asked for."""
        self.problem = f"the provider's result cannot be said in JSON: {why}"
        return C_BAD_RESULT

    cdef int _bad_json(self, int code) except -1:
        """An outcome of ``fastjson`` or ``json.text`` other than 0."""
        cdef str why = fastjson_problem(code).decode()
        if code == JSON_TOO_DEEP or code == JSON_NUMBER_TOO_LONG or code == JSON_LONE_SURROGATE:
            return self._unsayable(why)
        return self._bad(why)

    cdef Buffer _other(self):
        """An empty buffer that ``answer`` does not lie in."""
        cdef Buffer free = self._first
        if free.data <= self.answer.data < free.data + free.capacity:
            free = self._second
        free.clear()
        return free

    cdef void _take(self, Buffer made) noexcept:
        self.answer.data = made.data
        self.answer.length = made.length

    cdef int _fastjson(self, const Asked* asked, const char* body, Py_ssize_t n) except -1:
        """``answer`` becomes the value as JSON, or the whole body in hessian2."""
        cdef FastjsonReply reply
        cdef int code = read_reply(body, n, &reply)
        if code != FASTJSON_OK:
            return self._bad_json(code)
        if asked.answer == AS_BODY:
            return self._fastjson_body(&reply)
        if reply.kind == REPLY_EXCEPTION:
            self.problem = exception_text(reply.value.data, reply.value.length)
            return C_REMOTE
        self.answer = reply.value
        self.attachments = reply.attachments
        if reply.loose:
            self._first.clear()
            try:
                write_strict_json(self._first, reply.value.data, reply.value.length)
            except LimitError as error:
                return self._unsayable(str(error))
            self._take(self._first)
        return 0

    cdef int _as_text(self) except -1:
        """The form contract returns a string's text, not its JSON."""
        cdef Buffer out
        cdef Py_ssize_t length
        if self.answer.data[0] != 34:
            return 0
        out = self._other()
        length = json_string_to_utf8(
            self.answer.data, self.answer.length, out.reserve(self.answer.length)
        )
        if length < 0:
            return self._bad_json(<int>-length)
        out.length = length
        self._take(out)
        return 0

    cdef int _as_json(self, const Asked* asked) except -1:
        """The JSON contract returns the value, or it and the attachments."""
        cdef Buffer out
        cdef int code
        if asked.gson and self.answer.data[0] == 34:
            code = self._as_text()
            if code != 0:
                return code
            code = json_check(self.answer.data, self.answer.length, &self.answer)
            if code != JSON_OK:
                return self._bad(f"its string should be JSON: {json_problem(code).decode()}")
        if asked.generic and not asked.class_names:
            out = self._other()
            write_json_without_class(out, self.answer.data, self.answer.length)
            self._take(out)
        if asked.envelope:
            out = self._other()
            out.append(b'{"result":', 10)
            out.append(self.answer.data, self.answer.length)
            out.append(b',"attachments":', 15)
            if self.attachments.data == NULL or self.attachments.data[0] == 110:
                out.append(b"{}", 2)
            else:
                out.append(self.attachments.data, self.attachments.length)
            out.append(b"}", 1)
            self._take(out)
        return 0

    cdef int _hessian2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1:
        """``answer`` becomes the value as JSON, or the whole body."""
        cdef HessianReply reply
        cdef const char* json
        cdef Py_ssize_t length = 0
        cdef int code = begin_hessian_reply(body, n, &reply)
        if code != HESSIAN_OK:
            return self._bad(hessian_problem(code).decode())
        if asked.answer == AS_BODY:
            self.answer.data = body
            self.answer.length = n
            return 0
        if reply.kind == REPLY_EXCEPTION:
            return self._hessian2_exception(reply.rest.data[:reply.rest.length])
        self.answer.data = "null"
        self.answer.length = 4
        try:
            self._scanner.with_class = asked.class_names
            self._scanner.start(None, <const uint8_t*>reply.rest.data, reply.rest.length)
            if reply.kind == REPLY_VALUE:
                self.answer.data = self._scanner.value(&self.answer.length)
            if reply.has_attachments and asked.envelope:
                # What follows may move what has been read.
                self._first.clear()
                self._first.append(self.answer.data, self.answer.length)
                self._take(self._first)
                json = self._scanner.value(&length)
                if json[0] == 123:
                    self.attachments.data = json
                    self.attachments.length = length
            elif reply.has_attachments:
                return 0  # nobody wants to see them
        except LimitError as error:
            return self._unsayable(str(error))
        except ProtocolError as error:
            return self._bad(str(error))
        if self._scanner.at != reply.rest.length:
            return self._bad("it goes on after its last field")
        return 0

    cdef int _fastjson2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1:
        """The same of a body in fastjson2, by way of hessian2.

        What came as an enum's constant is kept in mind: in hessian2 a bean whose one field is
        ``name`` looks like one, and fastjson2 leaves out fields that are null, 0 or false.
        """
        cdef set constants = set()
        try:
            self._kept = reply_as_hessian2(body[:n], constants)
        except LimitError as error:
            return self._unsayable(str(error))
        except ProtocolError as error:
            return self._bad(str(error))
        self._scanner.enums = frozenset(
            [name.encode("utf-8", "surrogatepass") for name in constants]
        )
        try:
            return self._hessian2(asked, PyBytes_AS_STRING(self._kept), len(self._kept))
        finally:
            self._scanner.enums = None

    cdef int _hessian2_exception(self, bytes rest) except -1:
        try:
            self.problem = throwable_text(Hessian2Reader(rest).read())
        except ProtocolError as error:
            self.problem = f"the provider raised an exception that cannot be read: {error}"
        return C_REMOTE

    cdef int _fastjson_body(self, const FastjsonReply* reply) except -1:
        """``answer`` becomes the body that the provider would have sent in hessian2."""
        cdef Buffer out
        cdef bytes made
        cdef int kind = reply.kind
        values = []
        try:
            if kind != REPLY_NULL:
                self.answer = reply.value
                if reply.loose:
                    self._first.clear()
                    write_strict_json(self._first, reply.value.data, reply.value.length)
                    self._take(self._first)
                value = read_json(self.answer.data[:self.answer.length])
                values.append(
                    throwable(value) if kind == REPLY_EXCEPTION else natural(value, beans=False)
                )
            if reply.attachments.data != NULL and reply.attachments.data[0] == 123:
                kind += 3
                values.append(read_json(reply.attachments.data[:reply.attachments.length]))
            made = hessian2_encode(kind, *values)
        except LimitError as error:
            # It could be said in hessian2, but is read as JSON before it is written so.
            self.problem = (
                f"the provider's result in fastjson cannot be passed on in hessian2: {error}"
            )
            return C_BAD_RESULT
        except UsageError as error:
            return self._bad(str(error))
        out = self._other()
        out.append(PyBytes_AS_STRING(made), len(made))
        self._take(out)
        return 0
