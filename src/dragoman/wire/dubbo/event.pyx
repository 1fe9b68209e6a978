"""Dubbo's events: frames by which two ends of a connection speak of it and of no call.

A heartbeat's body is a null, ``R`` says that a provider is about to stop, ``W`` that it takes
requests again. The agents' links, the demo provider and the tests call this. The invariant: an
event is read in whichever serialization it came, and answered in the same.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.frame cimport (
    DUBBO_EVENT, DUBBO_FASTJSON, DUBBO_HESSIAN2, DUBBO_OK, DUBBO_REQUEST, DUBBO_SERIALIZATION,
    DUBBO_TWO_WAY, write_frame,
)
from dragoman.wire.jsonb.tags cimport TAG_ASCII_TINY, TAG_NULL


cdef int write_heartbeat(Buffer out, uint64_t id, int serialization) except -1:
    """Append a heartbeat that asks for an answer, in fastjson or else in hessian2."""
    cdef uint8_t flags = DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_EVENT
    if serialization == DUBBO_FASTJSON:
        return write_frame(out, flags | DUBBO_FASTJSON, 0, id, b"null\n", 5)
    return write_frame(out, flags | DUBBO_HESSIAN2, 0, id, b"N", 1)


cdef int write_heartbeat_reply(
    Buffer out, uint64_t id, int serialization, const char* body, Py_ssize_t n
) except -1:
    """Append the answer to a heartbeat: its own serialization and its own null, handed back."""
    return write_frame(
        out, DUBBO_EVENT | (serialization & DUBBO_SERIALIZATION), DUBBO_OK, id, body, n
    )


cdef int write_readonly(Buffer out, uint64_t id, int serialization) except -1:
    """Append the one-way event by which a provider says that it is about to stop."""
    cdef uint8_t flags = DUBBO_REQUEST | DUBBO_EVENT
    if serialization == DUBBO_FASTJSON:
        return write_frame(out, flags | DUBBO_FASTJSON, 0, id, b'"R"\n', 4)
    return write_frame(out, flags | DUBBO_HESSIAN2, 0, id, b"\x01R", 2)


cdef int event_kind(const char* body, Py_ssize_t n) noexcept nogil:
    """The meaning of an event's body, in whichever serialization: heartbeat (a null), "R" or "W".

    Knows hessian2, fastjson with a newline or a length in front, fastjson2 (JSONB) and Java's. An
    empty body is a heartbeat.
    """
    cdef char letter = 0
    if n >= 4 and memcmp(body, b"\0\0\0", 3) == 0 and body[3] == n - 4:  # a u32 length in front
        body += 4
        n -= 4
    while n > 0 and (body[n - 1] == c'\n' or body[n - 1] == c'\r'):
        n -= 1
    if (
        n == 0
        or (n == 1 and (body[0] == c'N' or <uint8_t>body[0] == TAG_NULL))
        or (n == 4 and memcmp(body, b"null", 4) == 0)
        or (n == 5 and memcmp(body, b"\xac\xed\x00\x05p", 5) == 0)
    ):
        return DUBBO_EVENT_HEARTBEAT
    if n == 2 and (body[0] == 1 or body[0] == TAG_ASCII_TINY + 1):
        letter = body[1]
    elif n == 3 and body[0] == c'"' and body[2] == c'"':
        letter = body[1]
    elif n == 4 and memcmp(body, b"S\0\x01", 3) == 0:
        letter = body[3]
    if letter == c'R':
        return DUBBO_EVENT_READONLY
    if letter == c'W':
        return DUBBO_EVENT_WRITABLE
    return DUBBO_EVENT_UNKNOWN


def encode_heartbeat(uint64_t id, *, int serialization=DUBBO_HESSIAN2):
    """A heartbeat that asks for an answer."""
    cdef Buffer out = Buffer()
    write_heartbeat(out, id, serialization)
    return out.take()


def encode_readonly(uint64_t id, *, int serialization=DUBBO_HESSIAN2):
    """The event by which a provider says that it is about to stop."""
    cdef Buffer out = Buffer()
    write_readonly(out, id, serialization)
    return out.take()


def event_name(bytes body not None):
    """``heartbeat``, ``readonly``, ``writable``, or None for an event that nobody knows."""
    cdef int kind = event_kind(PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
    return (None, "heartbeat", "readonly", "writable")[kind]
