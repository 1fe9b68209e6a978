"""JSON strings written from UTF-8 and read back into it (RFC 8259 section 7).

The fastjson bodies, the agents' JSON contract and the demo provider call this. The invariant: what
comes out is valid (JSON, or UTF-8) whatever went in, or the text is refused and nothing is written.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.scan cimport (
    HIGH_SURROGATE,
    LOW_SURROGATE,
    SURROGATE_LAST,
    copy_plain,
    hex4,
    put_utf8,
    three_run,
    utf8_sequence,
)

from dragoman.errors import UsageError

cdef const char* HEX = "0123456789abcdef"


cdef inline uint8_t* write_escape(uint8_t* to, uint8_t c) noexcept nogil:
    """Write the escape of a character, at most 6 bytes; where the next goes."""
    to[0] = c'\\'
    if c == c'"' or c == c'\\':
        to[1] = c
    elif c == c'\n':
        to[1] = c'n'
    elif c == c'\r':
        to[1] = c'r'
    elif c == c'\t':
        to[1] = c't'
    elif c == c'\b':
        to[1] = c'b'
    elif c == c'\f':
        to[1] = c'f'
    else:
        memcpy(to + 1, <const char*>"u00", 3)
        to[4] = HEX[c >> 4]
        to[5] = HEX[c & 15]
        return to + 6
    return to + 2


cdef int write_json_string(Buffer out, const char* utf8, Py_ssize_t n) except -1:
    """Append the JSON string of ``n`` bytes of UTF-8, quotes included.

    Returns ``JSON_OK``, or ``JSON_BAD_UTF8`` with nothing appended. Escapes what RFC 8259 section 7
    demands and no more: all else stays UTF-8.
    """
    cdef const uint8_t* src = <const uint8_t*>utf8
    cdef size_t start = out.length
    cdef uint8_t* dst = <uint8_t*>out.reserve(n + 2)
    cdef uint8_t* begin = dst
    cdef Py_ssize_t i = 0, run
    cdef uint8_t c
    cdef int size
    dst[0] = c'"'
    dst += 1
    while True:
        run = copy_plain(src + i, n - i, dst)
        i += run
        dst += run
        if i == n:
            break
        c = src[i]
        if c >= 0x80:
            # Such characters come in runs.
            while c >= 0x80:
                size = utf8_sequence(src + i, n - i)
                if size == 0:
                    out.length = start
                    return JSON_BAD_UTF8
                dst[0] = c
                dst[1] = src[i + 1]
                if size > 2:
                    dst[2] = src[i + 2]
                    if size > 3:
                        dst[3] = src[i + 3]
                dst += size
                i += size
                if size == 3 and c != 0xE0:
                    run = three_run(src + i, n - i)
                    memcpy(dst, src + i, run)
                    dst += run
                    i += run
                if i == n:
                    break
                c = src[i]
            continue
        # An escape takes more room than was reserved for its byte.
        out.length = start + (dst - begin)
        dst = <uint8_t*>out.reserve(n - i + 7)
        begin = dst - (out.length - start)
        dst = write_escape(dst, c)
        i += 1
    dst[0] = c'"'
    out.length = start + (dst - begin) + 1
    return JSON_OK


cdef inline uint8_t escaped(uint8_t letter) noexcept nogil:
    """The character that a backslash before ``letter`` stands for; 0 if that is no such escape."""
    if letter == c'"' or letter == c'\\' or letter == c'/':
        return letter
    if letter == c'n':
        return c'\n'
    if letter == c'r':
        return c'\r'
    if letter == c't':
        return c'\t'
    if letter == c'b':
        return c'\b'
    if letter == c'f':
        return c'\f'
    return 0


cdef inline int escaped_point(const uint8_t* p, Py_ssize_t n, uint32_t* point) noexcept nogil:
    """Read the character whose ``\\u`` stands before ``p``: four digits, or a pair of escapes.

    Returns how many bytes after that ``\\u`` belong to it, or a negated outcome.
    """
    cdef int unit, low
    if n < 4:
        return -JSON_BAD
    unit = hex4(p)
    if unit < 0:
        return -JSON_BAD
    point[0] = unit
    if unit < HIGH_SURROGATE or unit > SURROGATE_LAST:
        return 4
    if unit >= LOW_SURROGATE or n < 10 or p[4] != c'\\' or p[5] != c'u':
        return -JSON_LONE_SURROGATE
    low = hex4(p + 6)
    if low < LOW_SURROGATE or low > SURROGATE_LAST:
        return -JSON_LONE_SURROGATE
    point[0] = (
        0x10000 + ((<uint32_t>unit - HIGH_SURROGATE) << 10) + (<uint32_t>low - LOW_SURROGATE)
    )
    return 10


cdef Py_ssize_t json_string_to_utf8(const char* json, Py_ssize_t n, char* dst) noexcept nogil:
    """Decode the JSON string ``json[:n]``, quotes included, into ``dst`` with room for ``n`` bytes.

    Returns the length in bytes, or ``-JSON_BAD``, ``-JSON_BAD_UTF8`` or ``-JSON_LONE_SURROGATE``
    (half a character has no UTF-8).
    """
    cdef const uint8_t* src = <const uint8_t*>json
    cdef uint8_t* to = <uint8_t*>dst
    cdef Py_ssize_t i = 1, end = n - 1, run
    cdef uint8_t c
    cdef int size
    cdef uint32_t point
    if n < 2 or src[0] != c'"' or src[end] != c'"':
        return -JSON_BAD
    while True:
        run = copy_plain(src + i, end - i, to)
        i += run
        to += run
        if i == end:
            return to - <uint8_t*>dst
        c = src[i]
        if c >= 0x80:
            size = utf8_sequence(src + i, end - i)
            if size == 0:
                return -JSON_BAD_UTF8
            memcpy(to, src + i, size)
            to += size
            i += size
            if size == 3 and c != 0xE0:
                run = three_run(src + i, end - i)
                memcpy(to, src + i, run)
                to += run
                i += run
            continue
        if c != c'\\' or end - i < 2:
            return -JSON_BAD
        c = src[i + 1]
        i += 2
        if c == c'u':
            size = escaped_point(src + i, end - i, &point)
            if size < 0:
                return size
            i += size
            to = put_utf8(to, point)
        else:
            c = escaped(c)
            if c == 0:
                return -JSON_BAD
            to[0] = c
            to += 1


cdef bint json_equals(
    const char* json, Py_ssize_t n, const char* utf8, Py_ssize_t m
) noexcept nogil:
    """Whether the JSON string ``json[:n]`` reads ``utf8[:m]``, whatever escapes it uses."""
    cdef char text[1024]
    if n == m + 2 and json[0] == c'"' and memcmp(json + 1, utf8, m) == 0:
        return True
    if n <= m + 2 or n > 1024 or memchr(json, c'\\', n) == NULL:
        return False
    return json_string_to_utf8(json, n, text) == m and memcmp(text, utf8, m) == 0


cdef const char* json_problem(int code) noexcept nogil:
    """The meaning of a ``JSON_*`` outcome, for a message."""
    if code == JSON_BAD_UTF8:
        return "text is not valid UTF-8"
    if code == JSON_TOO_DEEP:
        return "JSON is nested too deep"
    if code == JSON_NUMBER_TOO_LONG:
        return "JSON number is too long"
    if code == JSON_LONE_SURROGATE:
        return "JSON string holds half a surrogate pair"
    if code == JSON_TYPE_NAMED:
        return "JSON names a class with @type"
    if code == JSON_REFERENCE_NAMED:
        return "JSON has a reference with $ref"
    return "not one well-formed JSON value"


def encode_string(bytes utf8 not None):
    """The JSON string of UTF-8 bytes, quotes included. UsageError when they are not UTF-8."""
    cdef Buffer out = Buffer()
    cdef int code = write_json_string(out, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8))
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    return out.take()


def decode_string(bytes json not None):
    """The UTF-8 bytes that a JSON string (quotes included) stands for.

    UsageError when it is none.
    """
    cdef bytes result = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(json))
    cdef Py_ssize_t length = json_string_to_utf8(
        PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), PyBytes_AS_STRING(result)
    )
    if length < 0:
        raise UsageError(json_problem(<int>-length).decode())
    return result[:length]
