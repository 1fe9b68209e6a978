"""Requests and responses out (RFC 9112), straight into a ``Buffer``.

The ingress, the demo consumer and the load generator call it. The invariant: what is written is
framed by Content-Length, or has no body by its status; no value is written unchecked that a peer
chose.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy, strlen

from dragoman.errors import UsageError

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.http1.tables cimport (
    C_TARGET,
    C_TOKEN,
    C_VALUE,
    CHARS,
    format_uint,
)

# Room for a status line, our own field names and a number.
cdef enum:
    HEAD_ROOM = 256


cdef const char* phrase(int status) noexcept nogil:
    """The reason phrase of RFC 9110 section 15; clients do not read it."""
    if status == 200:
        return b"OK"
    if status == 100:
        return b"Continue"
    if status == 202:
        return b"Accepted"
    if status == 204:
        return b"No Content"
    if status == 304:
        return b"Not Modified"
    if status == 400:
        return b"Bad Request"
    if status == 401:
        return b"Unauthorized"
    if status == 403:
        return b"Forbidden"
    if status == 404:
        return b"Not Found"
    if status == 405:
        return b"Method Not Allowed"
    if status == 408:
        return b"Request Timeout"
    if status == 413:
        return b"Content Too Large"
    if status == 414:
        return b"URI Too Long"
    if status == 415:
        return b"Unsupported Media Type"
    if status == 417:
        return b"Expectation Failed"
    if status == 421:
        return b"Misdirected Request"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 500:
        return b"Internal Server Error"
    if status == 501:
        return b"Not Implemented"
    if status == 502:
        return b"Bad Gateway"
    if status == 503:
        return b"Service Unavailable"
    if status == 504:
        return b"Gateway Timeout"
    if status == 505:
        return b"HTTP Version Not Supported"
    return b"Other"


cdef inline char* put(char* p, const char* source, Py_ssize_t n) noexcept nogil:
    memcpy(p, source, n)
    return p + n


cdef int write_response(
    Buffer out,
    int status,
    const char* content_type,
    Py_ssize_t content_type_length,
    const char* fields,
    Py_ssize_t fields_length,
    const char* body,
    Py_ssize_t body_length,
    int connection,
) except -1:
    """Write a whole response.

    ``content_type`` may be NULL. ``fields`` are further field lines, each with its CR LF, or NULL.
    ``body`` may be NULL with a length: the answer to HEAD. A 1xx, 204 or 304 has neither body nor
    Content-Length.
    """
    cdef char* start = out.reserve(
        HEAD_ROOM + content_type_length + fields_length + (body_length if body != NULL else 0)
    )
    cdef char* p = start
    cdef const char* words
    if status == 200:
        p = put(p, b"HTTP/1.1 200 OK\r\n", 17)
    else:
        p = put(p, b"HTTP/1.1 ", 9)
        p += format_uint(p, status)
        p[0] = c' '
        p += 1
        words = phrase(status)
        p = put(p, words, strlen(words))
        p = put(p, b"\r\n", 2)
    if connection == CONNECTION_CLOSE:
        p = put(p, b"connection: close\r\n", 19)
    elif connection == CONNECTION_KEEP_ALIVE:
        p = put(p, b"connection: keep-alive\r\n", 24)
    if fields != NULL:
        p = put(p, fields, fields_length)
    if status < 200 or status == 204 or status == 304:
        p = put(p, b"\r\n", 2)
        out.length += p - start
        return 0
    if content_type != NULL:
        p = put(p, b"content-type: ", 14)
        p = put(p, content_type, content_type_length)
        p = put(p, b"\r\n", 2)
    p = put(p, b"content-length: ", 16)
    p += format_uint(p, body_length)
    p = put(p, b"\r\n\r\n", 4)
    if body != NULL:
        p = put(p, body, body_length)
    out.length += p - start
    return 0


cdef int write_request(
    Buffer out,
    const char* head,
    Py_ssize_t head_length,
    const char* body,
    Py_ssize_t body_length,
) except -1:
    """Write a request whose ``head`` was made by ``request_head``, with its Content-Length and
    body.
    """
    cdef char* start = out.reserve(HEAD_ROOM + head_length + body_length)
    cdef char* p = put(start, head, head_length)
    p = put(p, b"content-length: ", 16)
    p += format_uint(p, body_length)
    p = put(p, b"\r\n\r\n", 4)
    if body_length:
        p = put(p, body, body_length)
    out.length += p - start
    return 0


cdef int check(str what, bytes text, int allowed) except -1:
    cdef const unsigned char* p = <const unsigned char*>PyBytes_AS_STRING(text)
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(text)):
        if not CHARS[p[i]] & allowed:
            raise UsageError(f"{what}: {text!r} holds a character that is not allowed there")
    return 0


cdef bytes request_head(str method, str target, str host, str content_type, tuple fields):
    """A request's head but for Content-Length and the empty line, to be used for many requests.

    ``fields`` are pairs of name and value. Raises ``UsageError`` for what does not belong in a
    head.
    """
    cdef list lines = []
    cdef bytes name
    cdef bytes value
    name = method.encode("latin-1")
    check("method", name, C_TOKEN)
    value = target.encode("latin-1", "replace")
    check("target", value, C_TARGET)
    if not name or not value:
        raise UsageError("a request needs a method and a target")
    lines.append(name + b" " + value + b" HTTP/1.1\r\n")
    pairs = [("host", host)]
    if content_type is not None:
        pairs.append(("content-type", content_type))
    for field_name, field_value in [*pairs, *fields]:
        name = field_name.encode("latin-1", "replace")
        value = field_value.encode("latin-1", "replace")
        check("field name", name, C_TOKEN)
        check(f"field {field_name}", value, C_VALUE)
        lines.append(name + b": " + value + b"\r\n")
    return b"".join(lines)


# -- for Python


def encode_request_head(method, target, *, host, content_type=None, fields=()):
    """A request's head but for Content-Length and the empty line, for ``write_request``."""
    return request_head(method, target, host, content_type, tuple(fields))


def encode_request(method, target, *, host, body=b"", content_type=None, fields=()):
    """A whole request as bytes; ``fields`` are pairs of name and value. Raises ``UsageError``."""
    cdef bytes head = request_head(method, target, host, content_type, tuple(fields))
    cdef bytes content = body
    cdef Buffer out = Buffer()
    write_request(
        out,
        PyBytes_AS_STRING(head),
        PyBytes_GET_SIZE(head),
        PyBytes_AS_STRING(content),
        PyBytes_GET_SIZE(content),
    )
    return out.take()


def encode_response(
    status, *, body=b"", content_type=None, fields=(), connection=CONNECTION_DEFAULT
):
    """A whole response as bytes; ``connection`` is 0 (say nothing), 1 (close) or 2 (keep-alive)."""
    cdef bytes content = body
    cdef bytes kind = content_type.encode("latin-1") if content_type is not None else b""
    cdef bytes more = b"".join(
        name.encode("latin-1") + b": " + value.encode("latin-1") + b"\r\n" for name, value in fields
    )
    cdef Buffer out = Buffer()
    check("content_type", kind, C_VALUE)
    check("fields", more.replace(b"\r\n", b"", len(fields)), C_VALUE)
    write_response(
        out,
        status,
        PyBytes_AS_STRING(kind) if kind else NULL,
        len(kind),
        PyBytes_AS_STRING(more) if more else NULL,
        len(more),
        PyBytes_AS_STRING(content),
        len(content),
        connection,
    )
    return out.take()
