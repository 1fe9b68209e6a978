"""Replies of providers made what their callers are given.

``dubbo.egress`` hands every reply under status 20 to ``read``, with what the caller asked for.
Whatever was asked in, the reply is read in the serialization that it names: a provider may answer
in its own. The invariant: a reply is checked before any of it is passed on, and one that is wrong
is an error of its call alone.
"""

from dragoman.dubbo.requests cimport AS_BODY, AS_TEXT, Asked
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo cimport DUBBO_FASTJSON, DUBBO_HESSIAN2
from dragoman.wire.fastjson cimport (
    FASTJSON_OK, REPLY_EXCEPTION, FastjsonReply, fastjson_problem, read_reply,
)
from dragoman.wire.invocation_hessian2 cimport (
    HESSIAN_OK, HessianReply, begin_hessian_reply, hessian_problem,
)
from dragoman.wire.jsonstring cimport json_string_to_utf8
from dragoman.wire.jsontext cimport write_strict_json
from dragoman.wire.throwable cimport exception_text

from dragoman.errors import Code

cdef int C_REMOTE = Code.REMOTE
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL


cdef class Replies:
    """Reads the replies of one provider."""

    def __cinit__(self):
        self._scratch = Buffer()

    cdef int read(
        self, const Asked* asked, int serialization, const char* body, Py_ssize_t n
    ) except -1:
        """0, and ``answer`` is for the caller; or an error's code, and ``problem`` says why."""
        if serialization == DUBBO_FASTJSON:
            return self._fastjson(asked, body, n)
        if serialization == DUBBO_HESSIAN2:
            return self._hessian2(asked, body, n)
        self.problem = f"the provider replied in serialization {serialization}, which is not known"
        return C_UPSTREAM_PROTOCOL

    cdef int _malformed(self, const char* why) except -1:
        self.problem = f"the provider's reply is malformed: {why.decode()}"
        return C_UPSTREAM_PROTOCOL

    cdef int _fastjson(self, const Asked* asked, const char* body, Py_ssize_t n) except -1:
        cdef FastjsonReply reply
        cdef Py_ssize_t length
        cdef int code = read_reply(body, n, &reply)
        if code != FASTJSON_OK:
            return self._malformed(fastjson_problem(code))
        if reply.kind == REPLY_EXCEPTION:
            self.problem = exception_text(reply.value.data, reply.value.length)
            return C_REMOTE
        self.answer = reply.value
        if reply.loose:
            self._scratch.clear()
            write_strict_json(self._scratch, reply.value.data, reply.value.length)
            self.answer.data = self._scratch.data
            self.answer.length = self._scratch.length
        elif asked.answer == AS_TEXT and reply.value.data[0] == 34:
            # The form contract returns a string's text, not its JSON.
            self._scratch.clear()
            length = json_string_to_utf8(
                reply.value.data, reply.value.length, self._scratch.reserve(reply.value.length)
            )
            if length < 0:
                self.problem = "the provider's string is no text"
                return C_UPSTREAM_PROTOCOL
            self.answer.data = self._scratch.data
            self.answer.length = length
        return 0

    cdef int _hessian2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1:
        cdef HessianReply reply
        cdef int code = begin_hessian_reply(body, n, &reply)
        if code != HESSIAN_OK:
            return self._malformed(hessian_problem(code))
        if asked.answer == AS_BODY:
            self.answer.data = body
            self.answer.length = n
            return 0
        self.problem = "the provider replied in hessian2"
        return C_UPSTREAM_PROTOCOL
