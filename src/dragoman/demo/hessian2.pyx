"""The demo provider's service in hessian2, as real providers speak by default.

``dragoman.demo.provider`` calls it when it was told to speak hessian2. ``hash`` of a plain text, by
which the agents are measured, is served without Python objects; every other call is decoded,
answered and encoded as the SDK does it. Generic invocation of the same methods works too. The
invariant: every request is answered by one frame, with an error status if it cannot be read.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, strlen

from dragoman.demo.javahash cimport java_hash_utf8
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport (
    DUBBO_BAD_REQUEST, DUBBO_HESSIAN2, DUBBO_OK, DUBBO_SERVICE_NOT_FOUND, begin_frame, end_frame,
    write_error_reply, write_frame,
)
from dragoman.wire.hessian2 cimport Hessian2Writer, hessian_string_to_utf8

import json

from dragoman.demo.javahash import java_hash
from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo.invocation import HESSIAN2, decode_request, encode_reply
from dragoman.wire.java import Bean, Long

NOW = 1527811200000
GENERIC = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"

cdef Buffer scratch = Buffer()
cdef Hessian2Writer writer = Hessian2Writer()


cdef inline bint take(
    const char* body, Py_ssize_t n, Py_ssize_t* at, char* room, const char* wanted
) noexcept nogil:
    """Whether the string at ``at`` reads ``wanted``; then moves past it."""
    cdef Py_ssize_t used = 0
    cdef Py_ssize_t length = hessian_string_to_utf8(body + at[0], n - at[0], room, &used)
    if length != <Py_ssize_t>strlen(wanted) or memcmp(room, wanted, length) != 0:
        return False
    at[0] += used
    return True


cdef int run_hessian2(
    Buffer out, uint64_t id, const char* body, Py_ssize_t n, const char* path
) except -1:
    """Serve one request, appending its reply to ``out``."""
    cdef char* room
    cdef Py_ssize_t at = 0, used = 0, length, start
    scratch.clear()
    room = scratch.reserve(n + 1)
    if (
        take(body, n, &at, room, b"2.0.1") and take(body, n, &at, room, path)
        and at < n and body[at] == c'N'
    ):
        at += 1
        if take(body, n, &at, room, b"hash") and take(body, n, &at, room, b"Ljava/lang/String;"):
            length = hessian_string_to_utf8(body + at, n - at, room, &used)
            if length >= 0:
                start = begin_frame(out, DUBBO_HESSIAN2, DUBBO_OK, id)
                out.append(b"\x91", 1)
                writer.start(out, 16)
                writer.int32(java_hash_utf8(room, length))
                end_frame(out, start)
                return 0
    return run_any(out, id, body[:n], path)


cdef int run_any(Buffer out, uint64_t id, bytes body, const char* path) except -1:
    cdef bytes reply
    try:
        request = decode_request(body, HESSIAN2)
    except ProtocolError as error:
        return refuse(out, id, DUBBO_BAD_REQUEST, f"Fail to decode request: {error}")
    if request.path != path.decode():
        return refuse(
            out, id, DUBBO_SERVICE_NOT_FOUND, f"Not found exported service: {request.path:.200}"
        )
    attachments = {"dubbo": "2.0.2"} if request.takes_attachments else None
    try:
        reply = encode_reply(answer(request), attachments=attachments)
    except Refused as refused:
        exception = Bean(refused.args[0], detailMessage=refused.args[1])
        reply = encode_reply(exception=exception, attachments=attachments)
    except UsageError as error:  # too deep to be written, say
        exception = Bean("java.io.IOException", detailMessage=str(error))
        reply = encode_reply(exception=exception, attachments=attachments)
    write_frame(out, DUBBO_HESSIAN2, DUBBO_OK, id, PyBytes_AS_STRING(reply), len(reply))
    return 0


cdef int refuse(Buffer out, uint64_t id, int status, str why) except -1:
    cdef bytes text = why.encode("utf-8", "replace")
    return write_error_reply(out, id, DUBBO_HESSIAN2, status, PyBytes_AS_STRING(text), len(text))


class Refused(Exception):
    """An exception that a method throws: a class and a message."""


cdef answer(request):
    """The result of the request's method."""
    if request.method != "$invoke":
        return call(request.method, request.descriptor, request.arguments)
    if request.descriptor != GENERIC:
        raise Refused("java.lang.NoSuchMethodException", "$invoke")
    method, types, arguments = request.arguments
    if request.attachments.get("generic") != "gson":
        return call(method, None, arguments)
    try:
        arguments = [json.loads(argument) for argument in arguments]
    except (TypeError, ValueError) as error:
        raise Refused("com.google.gson.JsonSyntaxException", str(error)) from None
    return json.dumps(call(method, None, arguments), separators=(",", ":"))


cdef call(str method, descriptor, list arguments):
    """A method found by its name and descriptor, or by its name alone (None)."""
    known = METHODS.get(method)
    if known is None or len(arguments) != known[2] or descriptor not in (known[0], None):
        raise Refused(
            "java.lang.NoSuchMethodException", f"Not found method {method:.100}({descriptor})"
        )
    return known[1](*arguments)


def _hash(text):
    if not isinstance(text, str):
        raise Refused("java.lang.NullPointerException", "str is null")
    return java_hash(text)


def _fail(message):
    raise Refused("java.lang.RuntimeException", message)


def _same(value):
    return value


METHODS = {
    "hash": ("Ljava/lang/String;", _hash, 1),
    "echo": ("Ljava/lang/String;", _same, 1),
    "bean": ("Ljava/util/Map;", _same, 1),
    "$echo": ("Ljava/lang/Object;", _same, 1),
    "fail": ("Ljava/lang/String;", _fail, 1),
    "add": ("II", lambda a, b: (a + b + 0x80000000) % 0x100000000 - 0x80000000, 2),
    "now": ("", lambda: Long(NOW), 0),
    "names": ("", lambda: {1: "one", 2: "two"}, 0),
    "nothing": ("", lambda: None, 0),
}
