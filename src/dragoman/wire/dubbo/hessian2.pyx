"""Bodies of Dubbo requests and replies in hessian2 (serialization 2), at the level of bytes.

A request's fields, one hessian2 value after another in one stream: protocol version, path (the
interface), service version or null, method, parameter descriptor (all strings), the arguments, a
map of attachments. A reply's: the type as an int (0 exception, 1 value, 2 null; 3, 4, 5 the same
with attachments), the value or throwable, the attachments.

``dubbo.upstream.encode_request``, ``dubbo.upstream.decode_reply``, ``wire.dubbo.invocation`` and
the demo provider call this; the values in it are ``wire.hessian2``'s. The invariants: what is
written is a whole body whatever the texts hold, and a refused request leaves the buffer as it was.
Arguments are taken as they come: they are values in a stream of their own, and none of the fields
before them can be referred to.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from dragoman.wire.big_endian cimport put32
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.decimal cimport put_decimal
from dragoman.wire.dubbo.frame cimport (
    DUBBO_HEADER_BYTES, DUBBO_HESSIAN2, DUBBO_REQUEST, DUBBO_TWO_WAY, begin_frame, end_frame,
)
from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.hessian2 cimport write_hessian_string
from dragoman.wire.hessian2.heads cimport string_head
from dragoman.wire.hessian2.tags cimport (
    CHUNK_MAX, STRING_SHORT_MAX, STRING_TINY_MAX, TAG_END, TAG_INT_TINY_ZERO, TAG_MAP,
    TAG_MAP_TYPED, TAG_NULL, TAG_STRING, TAG_STRING_CHUNK, TAG_STRING_SHORT, TAG_STRING_TINY,
)
from dragoman.wire.json.string cimport Slice, json_problem


cdef inline bint is_ascii(const char* text, Py_ssize_t n) noexcept nogil:
    cdef uint64_t word, seen = 0
    while n >= 8:
        memcpy(&word, text, 8)
        seen |= word
        text += 8
        n -= 8
    while n > 0:
        seen |= <uint64_t>(<uint8_t>text[0])
        text += 1
        n -= 1
    return not seen & 0x8080808080808080ULL


cdef int write_text(Buffer out, const char* utf8, Py_ssize_t n) except -1:
    """Append ``n`` bytes of UTF-8 as a string; HESSIAN_BAD_UTF8, and nothing, if they are none."""
    cdef uint8_t* to
    if not is_ascii(utf8, n):
        return HESSIAN_BAD_UTF8 if write_hessian_string(out, utf8, n) else HESSIAN_OK
    if n > CHUNK_MAX:
        # Room for all of it, so that a failure leaves no half of it.
        out.reserve(n + 3 * (n // CHUNK_MAX + 1))
    while n > CHUNK_MAX:
        to = <uint8_t*>out.data + out.length
        to[0] = TAG_STRING_CHUNK
        to[1] = CHUNK_MAX >> 8
        to[2] = CHUNK_MAX & 255
        memcpy(to + 3, utf8, CHUNK_MAX)
        out.length += CHUNK_MAX + 3
        utf8 += CHUNK_MAX
        n -= CHUNK_MAX
    to = <uint8_t*>out.reserve(n + 3)
    if n <= STRING_TINY_MAX:
        to[0] = <uint8_t>(TAG_STRING_TINY + n)
        to += 1
    elif n <= STRING_SHORT_MAX:
        to[0] = <uint8_t>(TAG_STRING_SHORT + (n >> 8))
        to[1] = <uint8_t>n
        to += 2
    else:
        to[0] = TAG_STRING
        to[1] = <uint8_t>(n >> 8)
        to[2] = <uint8_t>n
        to += 3
    memcpy(to, utf8, n)
    out.length = to + n - <uint8_t*>out.data
    return HESSIAN_OK


cdef inline int write_slice(Buffer out, const Slice* text) except -1:
    """A string, or null when it is absent."""
    if text.data == NULL:
        out.append(b"N", 1)
        return HESSIAN_OK
    return write_text(out, text.data, text.length)


cdef inline int write_attachment(Buffer out, const char* name, const Slice* text) except -1:
    """One entry of the attachments; none when it is absent."""
    if text.data == NULL:
        return HESSIAN_OK
    write_text(out, name, strlen(name))
    return write_text(out, text.data, text.length)


cdef int write_head(Buffer out, const Invocation* call) except -1:
    """The fields before the arguments."""
    cdef int code = HESSIAN_OK
    if call.version.data == NULL:
        out.append(b"\x052.0.1", 6)
    else:
        code = write_slice(out, &call.version)
    if code == HESSIAN_OK:
        code = write_slice(out, &call.interface)
    if code == HESSIAN_OK:
        code = write_slice(out, &call.service_version)
    if code == HESSIAN_OK:
        code = write_slice(out, &call.method)
    if code == HESSIAN_OK:
        code = write_slice(out, &call.descriptor)
    return code


cdef int write_timeout(Buffer out, uint32_t timeout_ms) except -1:
    """The attachments that say how long the call may take, as Java's consumers write them: one is
    text, the other, from which services count down, an int.
    """
    cdef char* to = out.reserve(32)
    cdef int count
    memcpy(to, b"\x07timeout", 8)
    count = put_decimal(to + 9, timeout_ms)
    to[8] = <char>count
    to += 9 + count
    memcpy(to, b"\x03_TOI", 5)
    put32(<uint8_t*>to + 5, timeout_ms)
    out.length += 9 + count + 9
    return 0


cdef int finish_request(Buffer out, const Invocation* call, Py_ssize_t start) except -1:
    """The attachments, then the length in the header."""
    cdef int code
    out.append(b"H", 1)
    code = write_attachment(
        out, b"path", &call.interface if call.path.data == NULL else &call.path
    )
    if code == HESSIAN_OK:
        code = write_attachment(out, b"interface", &call.interface)
    if code == HESSIAN_OK:
        code = write_attachment(out, b"version", &call.service_version)
    if code == HESSIAN_OK:
        code = write_attachment(out, b"group", &call.group)
    if code == HESSIAN_OK:
        code = write_attachment(out, b"token", &call.token)
    if code != HESSIAN_OK:
        return code
    if call.timeout_ms:
        write_timeout(out, call.timeout_ms)
    if call.attachments.data != NULL:
        out.append(call.attachments.data, call.attachments.length)
    out.append(b"Z", 1)
    if <Py_ssize_t>out.length - start - DUBBO_HEADER_BYTES > 0x7FFFFFFF:
        return HESSIAN_TOO_LONG
    end_frame(out, start)
    return HESSIAN_OK


cdef int write_hessian_text_request(
    Buffer out, uint64_t id, const Invocation* call, const char* argument, Py_ssize_t n
) except -1:
    """Append a two-way request with one argument, a text of ``n`` bytes of UTF-8.

    ``call.attachments`` holds entries as ``write_own_attachments`` makes them. Returns HESSIAN_OK;
    or what is wrong, with nothing appended.
    """
    cdef Py_ssize_t start = begin_frame(out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_HESSIAN2, 0, id)
    cdef int code
    try:
        code = write_head(out, call)
        if code == HESSIAN_OK:
            code = write_text(out, argument, n)
        if code == HESSIAN_OK:
            code = finish_request(out, call, start)
    except MemoryError:  # half a frame would be the end of all that comes after it
        out.length = start
        raise
    if code != HESSIAN_OK:
        out.length = start
    return code


cdef int write_hessian_request(
    Buffer out, uint64_t id, const Invocation* call, const char* arguments, Py_ssize_t n
) except -1:
    """Append a two-way request whose arguments are hessian2 already, in a stream of their own.

    Otherwise as ``write_hessian_text_request``.
    """
    cdef Py_ssize_t start = begin_frame(out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_HESSIAN2, 0, id)
    cdef int code
    try:
        code = write_head(out, call)
        if code == HESSIAN_OK:
            out.append(arguments, n)
            code = finish_request(out, call, start)
    except MemoryError:
        out.length = start
        raise
    if code != HESSIAN_OK:
        out.length = start
    return code


cdef inline Py_ssize_t string_end(const char* data, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the string (or null) at ``i``, or -1; its text is not checked, only how long it is."""
    cdef const uint8_t* p = <const uint8_t*>data
    cdef Py_ssize_t units = 0
    cdef bint last = False
    if i < n and p[i] == TAG_NULL:
        return i + 1
    while not last:
        last = i < n and p[i] != TAG_STRING_CHUNK
        i = string_head(p, n, i, &units)
        if i < 0:
            return -1
        while units > 0:
            if i >= n:
                return -1
            if p[i] >= 0xF0:  # four bytes stand for two units
                units -= 1
                i += 4
            else:
                i += 1 if p[i] < 0x80 else 2 if p[i] < 0xE0 else 3
            units -= 1
        if i > n:
            return -1
    return i


cdef inline bint is_ours(const char* data, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether the string between is the name of an attachment that the call itself sets.

    It is read as Java reads it, in whichever of the many forms that hessian2 has for a text: in
    chunks, with a longer length than needed, with characters in more bytes than needed.
    """
    cdef const uint8_t* p = <const uint8_t*>data + start
    cdef const uint8_t* stop = <const uint8_t*>data + end
    cdef char text[10]
    cdef Py_ssize_t n = 0, units = 0, head
    cdef int unit
    while p < stop:
        head = string_head(p, stop - p, 0, &units)
        if head < 0:
            return False
        p += head
        while units > 0 and p < stop:
            if n == 9:
                return False
            if p[0] < 0x80:
                unit = p[0]
                p += 1
            elif p[0] < 0xE0:
                unit = ((p[0] & 0x1F) << 6) | (p[1] & 0x3F)
                p += 2
            elif p[0] < 0xF0:
                unit = ((p[0] & 0x0F) << 12) | ((p[1] & 0x3F) << 6) | (p[2] & 0x3F)
                p += 3
            else:
                return False
            if unit > 0x7F:
                return False
            text[n] = <char>unit
            n += 1
            units -= 1
    return (
        (n == 4 and memcmp(text, b"path", 4) == 0)
        or (n == 5 and memcmp(text, b"group", 5) == 0)
        or (n == 7 and memcmp(text, b"version", 7) == 0)
        or (n == 9 and memcmp(text, b"interface", 9) == 0)
    )


cdef inline bint is_timeout(const char* data, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether the string between is the name of an attachment that says how long a call may take.
    """
    cdef const char* text = data + start + 1
    cdef Py_ssize_t n = end - start - 1
    return (
        (n == 7 and memcmp(text, b"timeout", 7) == 0)
        or (n == 3 and memcmp(text, b"_TO", 3) == 0)
    )


cdef int write_own_attachments(
    Buffer out, const char* stream, Py_ssize_t n, bint* timed
) except -1:
    """Append the entries of the one map of strings in ``stream[:n]``, for ``call.attachments``.

    Leaves out those that the call itself sets: path, interface, version, group. ``timed`` says
    whether the caller has said itself how long the call may take. HESSIAN_BAD_MAP,
    with nothing appended, when there is anything else. An empty stream is an empty map.
    """
    cdef size_t begun = out.length
    cdef Py_ssize_t i = 1, start, middle
    if n == 0 or (n == 1 and stream[0] == TAG_NULL):
        return HESSIAN_OK
    if stream[0] == TAG_MAP_TYPED:
        i = string_end(stream, 1, n)  # the map's class, which does not matter
    elif stream[0] != TAG_MAP:
        return HESSIAN_BAD_MAP
    while 0 <= i < n and stream[i] != TAG_END:
        start = i
        middle = string_end(stream, i, n)
        i = string_end(stream, middle, n) if middle >= 0 else -1
        if i >= 0 and not is_ours(stream, start, middle):
            out.append(stream + start, i - start)
            if is_timeout(stream, start, middle):
                timed[0] = True
    if i != n - 1:
        out.length = begun
        return HESSIAN_BAD_MAP
    return HESSIAN_OK


cdef int begin_hessian_reply(const char* body, Py_ssize_t n, HessianReply* reply) noexcept nogil:
    """Read a reply's type: HESSIAN_OK or HESSIAN_BAD_TYPE."""
    cdef int kind = <int>(<uint8_t>body[0]) - <int>TAG_INT_TINY_ZERO if n > 0 else -1
    if not 0 <= kind <= 5:
        return HESSIAN_BAD_TYPE
    reply.kind = kind % 3
    reply.has_attachments = kind >= 3
    reply.rest.data = body + 1
    reply.rest.length = n - 1
    return HESSIAN_OK


cdef const char* hessian_problem(int code) noexcept nogil:
    """The meaning of an outcome of this module, for a message."""
    if code == HESSIAN_TOO_LONG:
        return "body is too long"
    if code == HESSIAN_BAD_TYPE:
        return "reply type is not 0 to 5"
    if code == HESSIAN_BAD_MAP:
        return "attachments are not one hessian2 map of strings"
    return json_problem(code)
