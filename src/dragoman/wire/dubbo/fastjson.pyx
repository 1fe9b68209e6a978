"""Bodies of Dubbo requests and replies in fastjson (serialization 6).

Each field is one JSON value. On the wire a field is either a line (Dubbo 2's
``FastJsonObjectOutput``: the value, then a newline) or has a big-endian u32 length before it (the
later extension). A body that begins with byte ``00`` has lengths, any other has lines. Replies are
written in lines, requests in either form, and both are read.

A request's fields: protocol version, path (the interface), service version or null, method,
parameter descriptor, the arguments, an object of attachments.
A reply's: type; then the value (types 1, 4) or throwable (0, 3), nothing for null (2, 5); then
attachments (3, 4, 5).

The agents' links and the demo provider call this. The invariants: what is written is one valid JSON
value a line whatever the texts hold, a refused request leaves the buffer as it was, and values that
are read are checked and passed on as text. Nothing that a peer names is ever instantiated.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memset, strlen

from dragoman.wire.big_endian cimport read32
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.java.descriptor cimport descriptor_count
from dragoman.wire.dubbo.fastjson_request cimport (
    FASTJSON_TOO_LONG, Invocation, write_json_request, write_string_request,
)
from dragoman.wire.dubbo.frame cimport DUBBO_FASTJSON, DUBBO_OK, begin_frame, end_frame
from dragoman.wire.json.string cimport (
    JSON_BAD,
    JSON_OK,
    Slice,
    json_problem,
    write_json_string,
)
from dragoman.wire.json.loose cimport mentions_ref, write_strict_json
from dragoman.wire.json.text cimport json_check, json_check_loose, write_json_line
from dragoman.wire.java.throwable cimport exception_text

from typing import NamedTuple

from dragoman.errors import ProtocolError, UsageError


cdef inline int next_field(
    const char** at, const char* end, bint lengths, Slice* field
) noexcept nogil:
    """The field at ``at``, moving past it: FASTJSON_OK, or FASTJSON_TRUNCATED at the end."""
    cdef const uint8_t* p = <const uint8_t*>at[0]
    cdef const char* newline
    cdef uint32_t length
    if lengths:
        if end - at[0] < 4:
            return FASTJSON_TRUNCATED
        length = read32(p)
        if <Py_ssize_t>length > end - at[0] - 4:
            return FASTJSON_TRUNCATED
        field.data = at[0] + 4
        field.length = length
        at[0] = field.data + length
    else:
        if at[0] == end:
            return FASTJSON_TRUNCATED
        newline = <const char*>memchr(p, 10, end - at[0])
        field.data = at[0]
        # Java's readLine takes a last line without its newline, so we do.
        field.length = (newline if newline != NULL else end) - at[0]
        at[0] = newline + 1 if newline != NULL else end
    return FASTJSON_OK


cdef inline int next_value(
    const char** at, const char* end, bint lengths, Slice* field
) noexcept nogil:
    """The field at ``at`` as one well-formed JSON value, or what is wrong."""
    cdef int code = next_field(at, end, lengths, field)
    return json_check(field.data, field.length, field) if code == FASTJSON_OK else code


cdef inline int check_loosely(const Slice* field, Slice* value, bint* loose) noexcept nogil:
    """Check one value, which may be as fastjson writes maps, or hold references; ``loose`` is set
    then.
    """
    cdef Slice given = field[0]
    cdef int code = json_check(given.data, given.length, value)
    if code == JSON_BAD:
        code = json_check_loose(given.data, given.length, value)
        if code == JSON_OK:
            loose[0] = True
    elif mentions_ref(given.data, given.length):
        loose[0] = True
    return code


cdef inline bint only_space(const char* at, const char* end) noexcept nogil:
    while at < end and (at[0] == c'\n' or at[0] == c'\r' or at[0] == c' '):
        at += 1
    return at == end


cdef int read_request(const char* body, Py_ssize_t n, FastjsonRequest* request) noexcept nogil:
    """Read a request's fields: FASTJSON_OK, or what is wrong. Everything points into ``body``.

    Maps whose keys are not text are as in replies: ``loose``.
    """
    cdef const char* at = body
    cdef const char* end = body + n
    cdef bint lengths = n > 0 and body[0] == 0
    cdef Slice* fields[5]
    cdef int i, code
    fields[0] = &request.version
    fields[1] = &request.path
    fields[2] = &request.service_version
    fields[3] = &request.method
    fields[4] = &request.descriptor
    request.count = 0
    for i in range(5):
        code = next_value(&at, end, lengths, fields[i])
        if code != FASTJSON_OK:
            return code
        if fields[i].data[0] != c'"' and (i != 2 or fields[i].data[0] != c'n'):
            return FASTJSON_BAD_FIELD
    request.descriptor.data += 1
    request.descriptor.length -= 2
    request.count = descriptor_count(request.descriptor.data, request.descriptor.length)
    if request.count < 0:
        return FASTJSON_BAD_DESCRIPTOR
    request.loose = False
    for i in range(request.count):
        code = next_field(&at, end, lengths, &request.arguments[i])
        if code != FASTJSON_OK:
            return code
        code = check_loosely(&request.arguments[i], &request.arguments[i], &request.loose)
        if code != FASTJSON_OK:
            return code
    code = next_value(&at, end, lengths, &request.attachments)
    if code != FASTJSON_OK:
        return code
    if request.attachments.data[0] != c'{' and request.attachments.data[0] != c'n':
        return FASTJSON_BAD_FIELD
    return FASTJSON_OK if only_space(at, end) else FASTJSON_TRAILING


cdef int read_reply(const char* body, Py_ssize_t n, FastjsonReply* reply) noexcept nogil:
    """Read a reply under status 20: FASTJSON_OK, or what is wrong. The value is not copied.

    fastjson writes maps whose keys are not text as no JSON allows, and refers to what was there
    before: ``loose`` says so.
    """
    cdef const char* at = body
    cdef const char* end = body + n
    cdef bint lengths = n > 0 and body[0] == 0
    cdef Slice field
    cdef int kind
    cdef int code = next_field(&at, end, lengths, &field)
    reply.attachments.data = NULL
    reply.attachments.length = 0
    reply.loose = False
    if code != FASTJSON_OK:
        return code
    if field.length == 2 and field.data[1] == c'\r':
        field.length = 1
    if field.length != 1 or not c'0' <= field.data[0] <= c'5':
        return FASTJSON_BAD_TYPE
    kind = field.data[0] - c'0'
    reply.kind = kind % 3
    if reply.kind == REPLY_NULL:
        reply.value.data = "null"
        reply.value.length = 4
    else:
        code = next_field(&at, end, lengths, &field)
        if code != FASTJSON_OK:
            return code
        code = check_loosely(&field, &reply.value, &reply.loose)
        if code != JSON_OK:
            return code
    if kind >= 3:
        code = next_value(&at, end, lengths, &reply.attachments)
        if code != FASTJSON_OK:
            return code
        if reply.attachments.data[0] != c'{' and reply.attachments.data[0] != c'n':
            return FASTJSON_BAD_FIELD
    return FASTJSON_OK if only_space(at, end) else FASTJSON_TRAILING


cdef const char* fastjson_problem(int code) noexcept nogil:
    """The meaning of an outcome of this module or of ``json.text`` means, for a message."""
    if code == FASTJSON_TRUNCATED:
        return "body ends before its last field"
    if code == FASTJSON_BAD_TYPE:
        return "reply type is not 0 to 5"
    if code == FASTJSON_TRAILING:
        return "body goes on after its last field"
    if code == FASTJSON_BAD_DESCRIPTOR:
        return "malformed parameter descriptor"
    if code == FASTJSON_BAD_FIELD:
        return "field is of the wrong JSON type"
    if code == FASTJSON_TOO_LONG:
        return "body is too long"
    return json_problem(code)


cdef int write_value_reply(Buffer out, uint64_t id, const char* json, Py_ssize_t n) except -1:
    """Append a reply with a value given as well-formed JSON text."""
    cdef Py_ssize_t start = begin_frame(out, DUBBO_FASTJSON, DUBBO_OK, id)
    out.append(b"1\n", 2)
    write_json_line(out, json, n)
    out.append(b"\n", 1)
    end_frame(out, start)
    return 0


cdef int write_int_reply(Buffer out, uint64_t id, int32_t value) except -1:
    """Append a reply with an ``int``."""
    cdef Py_ssize_t start = begin_frame(out, DUBBO_FASTJSON, DUBBO_OK, id)
    cdef char digits[10]
    cdef char* to = out.reserve(16)
    cdef uint32_t rest = <uint32_t>value
    cdef int n = 0
    to[0] = c'1'
    to[1] = c'\n'
    to += 2
    if value < 0:
        to[0] = c'-'
        to += 1
        rest = 0 - rest
    while True:
        digits[n] = c'0' + rest % 10
        n += 1
        rest //= 10
        if rest == 0:
            break
    while n > 0:
        n -= 1
        to[0] = digits[n]
        to += 1
    to[0] = c'\n'
    out.length = to + 1 - out.data
    end_frame(out, start)
    return 0


cdef int write_null_reply(Buffer out, uint64_t id) except -1:
    """Append a reply whose value is null."""
    cdef Py_ssize_t start = begin_frame(out, DUBBO_FASTJSON, DUBBO_OK, id)
    out.append(b"2\n", 2)
    end_frame(out, start)
    return 0


cdef int write_exception_reply(
    Buffer out, uint64_t id, const char* class_name, const char* utf8, Py_ssize_t n
) except -1:
    """Append a reply with a throwable as fastjson writes one.

    Returns 1, nothing appended, if not UTF-8.
    """
    cdef Py_ssize_t start = begin_frame(out, DUBBO_FASTJSON, DUBBO_OK, id)
    out.append(b'0\n{"@type":', 11)
    write_json_string(out, class_name, strlen(class_name))
    out.append(b',"message":', 11)
    if write_json_string(out, utf8, n):
        out.length = start
        return 1
    out.append(b',"stackTrace":[]}\n', 18)
    end_frame(out, start)
    return 0


class Reply(NamedTuple):
    """A reply read: ``kind`` is ``value``, ``null`` or ``exception``; the others are JSON text."""

    kind: str
    value: bytes
    attachments: bytes | None


class Request(NamedTuple):
    """A request read: all JSON text but ``descriptor``."""

    version: bytes
    path: bytes
    service_version: bytes
    method: bytes
    descriptor: bytes
    arguments: tuple[bytes, ...]
    attachments: bytes


cdef inline void point(Slice* slice, bytes text) noexcept:
    """Let a Slice borrow from ``text``; None is absent."""
    if text is None:
        slice.data = NULL
        slice.length = 0
    else:
        slice.data = PyBytes_AS_STRING(text)
        slice.length = PyBytes_GET_SIZE(text)


def encode_request(
    uint64_t id, bytes interface not None, bytes method not None, bytes descriptor not None, *,
    bytes text=None, arguments=(), bytes version=None, bytes service_version=None, bytes group=None,
    bytes attachments=None, bint lengths=False,
):
    """A request frame with one text argument (``text``), or with ``arguments`` that are JSON text.

    ``lengths``: with a length before each field instead of a newline after it.
    Texts are UTF-8. UsageError when they are not, or an argument is no JSON, or their number is not
    the descriptor's.
    """
    cdef Invocation call
    cdef Buffer out = Buffer()
    cdef Slice slices[FASTJSON_ARGUMENTS_MAX]
    cdef int code, i, count
    memset(&call, 0, sizeof(Invocation))
    point(&call.version, version)
    point(&call.interface, interface)
    point(&call.service_version, service_version)
    point(&call.method, method)
    point(&call.descriptor, descriptor)
    point(&call.group, group)
    point(&call.attachments, attachments)
    call.lengths = lengths
    count = descriptor_count(call.descriptor.data, call.descriptor.length)
    given = tuple(arguments)
    if count < 0:
        raise UsageError(fastjson_problem(FASTJSON_BAD_DESCRIPTOR).decode())
    if count != (1 if text is not None else len(given)):
        raise UsageError(f"the descriptor has {count} parameters, not {len(given)}")
    if text is not None:
        code = write_string_request(
            out, id, &call, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
        )
    else:
        code = JSON_OK
        for i in range(count):
            point(&slices[i], given[i])
            if code == JSON_OK:
                code = json_check(slices[i].data, slices[i].length, &slices[i])
        if code == JSON_OK:
            code = write_json_request(out, id, &call, slices, count)
    if code != JSON_OK:
        raise UsageError(fastjson_problem(code).decode())
    return out.take()


def decode_reply(bytes body not None):
    """Read the body of a reply under status 20. ProtocolError when it is malformed."""
    cdef FastjsonReply reply
    cdef Buffer out
    cdef int code = read_reply(PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), &reply)
    if code != FASTJSON_OK:
        raise ProtocolError(fastjson_problem(code).decode())
    value = reply.value.data[:reply.value.length]
    if reply.loose:
        out = Buffer()
        write_strict_json(out, reply.value.data, reply.value.length)
        value = out.take()
    return Reply(
        ("exception", "value", "null")[reply.kind],
        value,
        None if reply.attachments.data == NULL
        else reply.attachments.data[:reply.attachments.length],
    )


cdef bytes strictly(const Slice* value, bint loose):
    """A value's text as JSON has it."""
    cdef Buffer out
    if not loose:
        return value.data[:value.length]
    out = Buffer()
    write_strict_json(out, value.data, value.length)
    return out.take()


def decode_request(bytes body not None):
    """Read the body of a request. ProtocolError when it is malformed."""
    cdef FastjsonRequest request
    cdef int i
    cdef int code = read_request(PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body), &request)
    if code != FASTJSON_OK:
        raise ProtocolError(fastjson_problem(code).decode())
    return Request(
        request.version.data[:request.version.length],
        request.path.data[:request.path.length],
        request.service_version.data[:request.service_version.length],
        request.method.data[:request.method.length],
        request.descriptor.data[:request.descriptor.length],
        tuple([
            strictly(&request.arguments[i], request.loose) for i in range(request.count)
        ]),
        request.attachments.data[:request.attachments.length],
    )


def encode_int_reply(uint64_t id, int32_t value):
    """A reply frame with an ``int``."""
    cdef Buffer out = Buffer()
    write_int_reply(out, id, value)
    return out.take()


def encode_value_reply(uint64_t id, bytes json not None):
    """A reply frame with a value given as well-formed JSON text."""
    cdef Buffer out = Buffer()
    write_value_reply(out, id, PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
    return out.take()


def encode_null_reply(uint64_t id):
    """A reply frame whose value is null."""
    cdef Buffer out = Buffer()
    write_null_reply(out, id)
    return out.take()


def encode_exception_reply(uint64_t id, bytes class_name not None, bytes message not None):
    """A reply frame with a throwable. UsageError when ``message`` is not UTF-8."""
    cdef Buffer out = Buffer()
    if write_exception_reply(
        out, id, PyBytes_AS_STRING(class_name), PyBytes_AS_STRING(message),
        PyBytes_GET_SIZE(message),
    ):
        raise UsageError("an exception's message must be valid UTF-8")
    return out.take()


def describe_exception(bytes json not None):
    """The throwable of a JSON text as ``class: message``, best effort, bounded, on one line."""
    return exception_text(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
