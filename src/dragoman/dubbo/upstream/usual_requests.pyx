"""Usual JSON calls made Dubbo requests, straight into the buffer of the connection.

``dubbo.upstream.encode_request`` asks it first. In fastjson arguments go as they came. In hessian2
strings, numbers and booleans whose types say so are written without an object between; other
arguments go the way of ``java.from_json``. The invariant: the request is the one that
``encode_request`` would make, or there is none, with nothing appended: whatever is wrong with a
call is found and said there.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from dragoman.dubbo.upstream.signatures cimport (
    OF_BOOLEAN, OF_DOUBLE, OF_INT, OF_LONG, OF_TEXT, Signature, signature_of, whole_number,
)
from dragoman.dubbo.upstream.target cimport Target, point
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson cimport FASTJSON_OK
from dragoman.wire.dubbo.fastjson_request cimport Invocation, write_json_request
from dragoman.wire.dubbo.frame cimport (
    DUBBO_HESSIAN2, DUBBO_REQUEST, DUBBO_TWO_WAY, begin_frame,
)
from dragoman.wire.dubbo.hessian2 cimport HESSIAN_OK, finish_request, write_head, write_text
from dragoman.wire.hessian2 cimport Hessian2Writer
from dragoman.wire.json.string cimport JSON_OK, Slice, json_string_to_utf8
from dragoman.wire.json.text cimport json_commands_fastjson
from dragoman.wire.json.usual_call cimport UsualCall

import msgspec

from dragoman.dubbo.upstream.json_call import COMMANDS, GENERIC_DESCRIPTOR, OWN_ATTACHMENTS
from dragoman.errors import UsageError
from dragoman.wire.hessian2 import DEPTH_MAX, encode
from dragoman.wire.java.from_json import fit_json, read_natural

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* s, char** endptr, object overflow) except? -1.0

cdef enum:
    # No number of so many characters without an exponent is near to a double's limits.
    DOUBLE_CHARACTERS = 40

cdef bytes OF_GENERIC = GENERIC_DESCRIPTOR
cdef dict SAYS_GENERIC = {"generic": "true"}
cdef bytes SAID_GENERIC = map_entries(SAYS_GENERIC)
cdef int DEPTH = DEPTH_MAX
_encode = msgspec.json.Encoder().encode
_attachments = msgspec.json.Decoder(dict[str, str]).decode


cdef class UsualRequests:
    """Writes them, one at a time, in fastjson or in hessian2."""

    def __cinit__(self, bint fastjson):
        self._fastjson = fastjson
        if not fastjson:
            self._writer = Hessian2Writer()
            self._text = Buffer()

    cdef Signature write(
        self, Target target, Buffer out, uint64_t id, const Slice* names, const UsualCall* call,
        uint32_t timeout_ms
    ):
        """Append the request of a call whose interface and method are the first of ``names``: its
        signature, or None if it takes a closer look, and nothing is appended."""
        cdef Invocation invocation
        cdef size_t start = out.length
        cdef bint written = False
        cdef bytes attachments = None
        cdef dict extra = None
        cdef Signature signature = signature_of(call)
        if signature is None:
            return None
        if call.attachments.data != NULL:
            extra = attachments_of(call)
            if extra is None:
                return None
            if "timeout" in extra or "_TO" in extra:
                timeout_ms = 0
        begin_invocation(&invocation, target, names, call, timeout_ms)
        if self._fastjson:
            written = write_fastjson(out, id, &invocation, call, signature, extra)
            return signature if written else None
        if extra:
            attachments = map_entries({**extra, **SAYS_GENERIC} if signature.generic else extra)
        elif signature.generic:
            attachments = SAID_GENERIC
        point(&invocation.attachments, attachments)
        try:
            self._writer.start(out, DEPTH)
            # What is read from JSON holds nothing twice.
            self._writer.tree = True
            written = self._request(out, id, &invocation, call, signature)
        except UsageError:
            pass
        finally:
            if not written:
                out.length = start
            self._writer.start(None, DEPTH)
        return signature if written else None

    cdef bint _request(
        self, Buffer out, uint64_t id, Invocation* invocation, const UsualCall* call,
        Signature signature
    ) except -1:
        cdef Slice method = invocation.method
        cdef Py_ssize_t start = begin_frame(
            out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_HESSIAN2, 0, id
        )
        point(&invocation.descriptor, signature.descriptor)
        if signature.generic:
            point(&invocation.descriptor, OF_GENERIC)
            invocation.method.data = "$invoke"
            invocation.method.length = 7
        return (
            write_head(out, invocation) == HESSIAN_OK
            and self._arguments(out, call, signature, &method)
            and finish_request(out, invocation, start) == HESSIAN_OK
        )

    cdef bint _arguments(
        self, Buffer out, const UsualCall* call, Signature signature, const Slice* method
    ) except -1:
        """The arguments; those of generic invocation are the method, its types, and a list."""
        cdef int i
        if signature.generic:
            if write_text(out, method.data, method.length) != HESSIAN_OK:
                return False
            self._writer.typed(signature.names, "[Ljava/lang/String;")
            self._writer.enter()
            self._writer.list_begin(call.count, "[object")
        for i in range(call.count):
            if not self._argument(&call.args[i], signature, i):
                return False
        if signature.generic:
            self._writer.leave()
        return True

    cdef bint _argument(self, const Slice* json, Signature signature, int i) except -1:
        cdef bytes raw
        if self._plain(json, signature.forms[i]):
            return True
        raw = PyBytes_FromStringAndSize(json.data, json.length)
        if signature.natural[i] and b"\\u" not in raw and (
            signature.generic or b"class" not in raw
        ):
            value = read_natural(raw)
        else:
            value = fit_json(
                raw, signature.kinds[i], beans=not signature.generic, fields=signature.fields
            )
        if signature.generic:
            self._writer.value(value)
        else:
            self._writer.typed(value, signature.descriptors[i])
        return True

    cdef bint _plain(self, const Slice* json, int form) except -1:
        """Write a value of a form that needs no object; False if it is none of it: ``null``, a
        number in quotes or with an exponent, or what does not fit."""
        cdef char digits[DOUBLE_CHARACTERS + 1]
        cdef long long number = 0
        cdef Py_ssize_t n
        if form == OF_TEXT:
            return self._string(json)
        if form == OF_INT:
            if not whole_number(json, &number) or not -0x80000000 <= number <= 0x7FFFFFFF:
                return False
            self._writer.int32(<int32_t>number)
            return True
        if form == OF_LONG:
            if not whole_number(json, &number):
                return False
            self._writer.int64(number)
            return True
        if form == OF_BOOLEAN and (json.data[0] == c't' or json.data[0] == c'f'):
            self._writer.boolean(json.data[0] == c't')
            return True
        if form != OF_DOUBLE or not is_decimal(json):
            return False
        n = json.length
        memcpy(digits, json.data, n)
        digits[n] = 0
        self._writer.double(PyOS_string_to_double(digits, NULL, None))
        return True

    cdef bint _string(self, const Slice* json) except -1:
        cdef Py_ssize_t n = json.length
        if json.data[0] != c'"':
            return False
        if memchr(json.data, c'\\', n) == NULL:
            return write_text(self._writer.out, json.data + 1, n - 2) == HESSIAN_OK
        self._text.clear()
        n = json_string_to_utf8(json.data, n, self._text.reserve(n))
        if n < 0:
            # Half of a surrogate pair has no UTF-8.
            return False
        self._text.length = n
        n = write_text(self._writer.out, self._text.data, n)
        self._text.clear()
        return n == HESSIAN_OK


cdef int begin_invocation(
    Invocation* invocation, Target target, const Slice* names, const UsualCall* call,
    uint32_t timeout_ms
) except -1:
    target.invocation(invocation, timeout_ms)
    invocation.interface = names[0]
    invocation.method = names[1]
    target.serve_under(invocation)
    if call.envelope:
        # To an older protocol a provider gives no attachments back.
        invocation.version.data = "2.0.2"
        invocation.version.length = 5
    return 0


cdef bint write_fastjson(
    Buffer out, uint64_t id, Invocation* invocation, const UsualCall* call, Signature signature,
    dict extra
) except -1:
    """Append the request in fastjson; False, with nothing appended, if fastjson would obey one of
    its members, or it cannot be sent."""
    cdef bytes attachments = None
    cdef int i
    for i in range(call.count):
        if json_commands_fastjson(call.args[i].data, call.args[i].length) != JSON_OK:
            return False
    if extra:
        for name in COMMANDS:
            if name in extra:
                return False
        attachments = _encode(extra)
        attachments = attachments[1:len(attachments) - 1]
    point(&invocation.attachments, attachments)
    point(&invocation.descriptor, signature.descriptor)
    return write_json_request(out, id, invocation, call.args, call.count) == FASTJSON_OK


cdef bint is_decimal(const Slice* json) noexcept nogil:
    """Whether it is a number without an exponent that a double is near to, and no whole ``-0``,
    whose sign only a fraction has."""
    cdef const char* p = json.data
    cdef Py_ssize_t i
    if json.length > DOUBLE_CHARACTERS or (json.length == 2 and p[0] == c'-' and p[1] == c'0'):
        return False
    for i in range(json.length):
        if p[i] != c'-' and p[i] != c'.' and not c'0' <= p[i] <= c'9':
            return False
    return True


cdef dict attachments_of(const UsualCall* call):
    """None if there are some that the call itself sets."""
    cdef dict extra = _attachments(call.attachments.data[:call.attachments.length])
    for name in extra:
        if name in OWN_ATTACHMENTS:
            return None
    return extra


cdef bytes map_entries(dict entries):
    """A map's entries, without the bytes that stand around all attachments."""
    cdef bytes whole = encode(entries)
    return whole[1:len(whole) - 1]
