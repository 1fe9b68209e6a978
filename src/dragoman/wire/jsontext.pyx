"""JSON as text: strings written and read, values checked, nothing built (RFC 8259).

The fastjson bodies, the agents' JSON contract and the demo provider carry JSON through without
making objects of it. This module writes a JSON string from UTF-8, reads one back, and checks that
bytes are exactly one JSON value. The invariants: a string that comes out is valid JSON whatever
went in or is refused, and a value that was accepted is well formed, valid UTF-8, at most
``JSON_DEPTH_MAX`` deep and holds no number of more than ``JSON_NUMBER_BYTES_MAX`` bytes. No
function allocates by what its input claims, and none recurses.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

from dragoman.wire.buffer cimport Buffer

from dragoman.errors import UsageError

DEPTH_MAX = JSON_DEPTH_MAX
NUMBER_BYTES_MAX = JSON_NUMBER_BYTES_MAX

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* A byte that stands for itself in a JSON string: ASCII, no control, no quote, no backslash. */
    #define DM_PLAIN(c) ((c) >= 0x20 && (c) < 0x80 && (c) != '"' && (c) != '\\\\')

    /* How many plain bytes src begins with. */
    static inline Py_ssize_t dm_plain_run(const unsigned char *src, Py_ssize_t n) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        const __m128i space = _mm_set1_epi8(0x20);
        const __m128i quote = _mm_set1_epi8('"');
        const __m128i slash = _mm_set1_epi8('\\\\');
        for (; n - i >= 16; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(src + i));
            /* signed: both controls and bytes from 0x80 on are below 0x20 */
            __m128i special = _mm_or_si128(_mm_cmplt_epi8(v, space),
                _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
            int mask = _mm_movemask_epi8(special);
            if (mask) return i + __builtin_ctz(mask);
        }
    #endif
        while (i < n && DM_PLAIN(src[i])) i++;
        return i;
    }

    /* The same, and copies them. dst has room for n bytes, and bytes after the run may be scribbled
    on. */ static inline Py_ssize_t dm_copy_plain(const unsigned char *src, Py_ssize_t n, unsigned
    char *dst) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        const __m128i space = _mm_set1_epi8(0x20);
        const __m128i quote = _mm_set1_epi8('"');
        const __m128i slash = _mm_set1_epi8('\\\\');
        for (; n - i >= 16; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(src + i));
            __m128i special = _mm_or_si128(_mm_cmplt_epi8(v, space),
                _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
            int mask = _mm_movemask_epi8(special);
            _mm_storeu_si128((__m128i *)(dst + i), v);
            if (mask) return i + __builtin_ctz(mask);
        }
    #endif
        while (i < n && DM_PLAIN(src[i])) { dst[i] = src[i]; i++; }
        return i;
    }

    /* Length of the UTF-8 sequence of 2 to 4 bytes at p, 0 if there is none (RFC 3629, table 3-7 of
       Unicode: no overlong form, no surrogate, nothing above U+10FFFF). */
    static inline int dm_utf8(const unsigned char *p, Py_ssize_t n) {
        unsigned char a = p[0];
        if (a < 0xc2) return 0;
        if (a < 0xe0) return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
        if (a < 0xf0) {
            if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
            if (a == 0xe0 && p[1] < 0xa0) return 0;
            if (a == 0xed && p[1] > 0x9f) return 0;
            return 3;
        }
        if (a < 0xf5) {
            if (n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
                return 0;
            if (a == 0xf0 && p[1] < 0x90) return 0;
            if (a == 0xf4 && p[1] > 0x8f) return 0;
            return 4;
        }
        return 0;
    }

    /* Four hexadecimal digits, or -1. */
    static inline int dm_hex4(const unsigned char *p) {
        int value = 0;
        for (int i = 0; i < 4; i++) {
            unsigned char c = p[i];
            int digit = c >= '0' && c <= '9' ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
            if (digit < 0) return -1;
            value = value << 4 | digit;
        }
        return value;
    }
    """
    Py_ssize_t plain_run "dm_plain_run"(const uint8_t* src, Py_ssize_t n) noexcept nogil
    Py_ssize_t copy_plain "dm_copy_plain"(
        const uint8_t* src, Py_ssize_t n, uint8_t* dst
    ) noexcept nogil
    int utf8_sequence "dm_utf8"(const uint8_t* p, Py_ssize_t n) noexcept nogil
    int hex4 "dm_hex4"(const uint8_t* p) noexcept nogil

cdef const char* HEX = "0123456789abcdef"


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
    dst[0] = 34  # "
    dst += 1
    while True:
        run = copy_plain(src + i, n - i, dst)
        i += run
        dst += run
        if i == n:
            break
        c = src[i]
        if c >= 0x80:
            size = utf8_sequence(src + i, n - i)
            if size == 0:
                out.length = start
                return JSON_BAD_UTF8
            memcpy(dst, src + i, size)
            dst += size
            i += size
            continue
        # An escape takes more room than was reserved for its byte.
        out.length = start + (dst - begin)
        dst = <uint8_t*>out.reserve(n - i + 7)
        begin = dst - (out.length - start)
        dst[0] = 92  # \
        if c == 34 or c == 92:
            dst[1] = c
        elif c == 10:
            dst[1] = 110  # n
        elif c == 13:
            dst[1] = 114  # r
        elif c == 9:
            dst[1] = 116  # t
        elif c == 8:
            dst[1] = 98  # b
        elif c == 12:
            dst[1] = 102  # f
        else:
            memcpy(dst + 1, <const char*>"u00", 3)
            dst[4] = HEX[c >> 4]
            dst[5] = HEX[c & 15]
            dst += 4
        dst += 2
        i += 1
    dst[0] = 34
    out.length = start + (dst - begin) + 1
    return JSON_OK


cdef int write_json_line(Buffer out, const char* json, Py_ssize_t n) except -1:
    """Append JSON text with its line breaks made spaces, so that it stays one line.

    In well-formed JSON a raw line break is always white space: strings hold theirs escaped.
    """
    cdef char* dst = out.reserve(n)
    cdef Py_ssize_t i
    memcpy(dst, json, n)
    if memchr(json, 10, n) != NULL or memchr(json, 13, n) != NULL:
        for i in range(n):
            if dst[i] == 10 or dst[i] == 13:
                dst[i] = 32
    out.length += n
    return JSON_OK


cdef Py_ssize_t json_string_to_utf8(const char* json, Py_ssize_t n, char* dst) noexcept nogil:
    """Decode the JSON string ``json[:n]``, quotes included, into ``dst`` with room for ``n`` bytes.

    Returns the length in bytes, or ``-JSON_BAD``, ``-JSON_BAD_UTF8`` or ``-JSON_LONE_SURROGATE``
    (half a character has no UTF-8).
    """
    cdef const uint8_t* src = <const uint8_t*>json
    cdef uint8_t* to = <uint8_t*>dst
    cdef Py_ssize_t i = 1, end = n - 1, run
    cdef uint8_t c
    cdef int size, unit, low
    cdef uint32_t point
    if n < 2 or src[0] != 34 or src[end] != 34:
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
            continue
        if c != 92 or end - i < 2:
            return -JSON_BAD
        c = src[i + 1]
        i += 2
        if c == 34 or c == 92 or c == 47:
            to[0] = c
        elif c == 110:
            to[0] = 10
        elif c == 114:
            to[0] = 13
        elif c == 116:
            to[0] = 9
        elif c == 98:
            to[0] = 8
        elif c == 102:
            to[0] = 12
        elif c == 117:
            if end - i < 4:
                return -JSON_BAD
            unit = hex4(src + i)
            if unit < 0:
                return -JSON_BAD
            i += 4
            point = unit
            if 0xD800 <= unit <= 0xDFFF:
                if unit > 0xDBFF or end - i < 6 or src[i] != 92 or src[i + 1] != 117:
                    return -JSON_LONE_SURROGATE
                low = hex4(src + i + 2)
                if low < 0xDC00 or low > 0xDFFF:
                    return -JSON_LONE_SURROGATE
                i += 6
                point = 0x10000 + ((<uint32_t>unit - 0xD800) << 10) + (<uint32_t>low - 0xDC00)
            if point < 0x80:
                to[0] = <uint8_t>point
            elif point < 0x800:
                to[0] = 0xC0 | (point >> 6)
                to[1] = 0x80 | (point & 63)
                to += 1
            elif point < 0x10000:
                to[0] = 0xE0 | (point >> 12)
                to[1] = 0x80 | ((point >> 6) & 63)
                to[2] = 0x80 | (point & 63)
                to += 2
            else:
                to[0] = 0xF0 | (point >> 18)
                to[1] = 0x80 | ((point >> 12) & 63)
                to[2] = 0x80 | ((point >> 6) & 63)
                to[3] = 0x80 | (point & 63)
                to += 3
        else:
            return -JSON_BAD
        to += 1


cdef inline Py_ssize_t string_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the string whose content begins at ``i``, or a negated outcome."""
    cdef uint8_t c
    cdef int size
    while True:
        i += plain_run(p + i, n - i)
        if i >= n:
            return -JSON_BAD
        c = p[i]
        if c == 34:
            return i + 1
        if c == 92:
            if n - i < 2:
                return -JSON_BAD
            c = p[i + 1]
            if c == 117:
                if n - i < 6 or hex4(p + i + 2) < 0:
                    return -JSON_BAD
                i += 6
            elif (c == 34 or c == 92 or c == 47 or c == 98 or c == 102 or c == 110 or c == 114
                  or c == 116):
                i += 2
            else:
                return -JSON_BAD
        elif c >= 0x80:
            size = utf8_sequence(p + i, n - i)
            if size == 0:
                return -JSON_BAD_UTF8
            i += size
        else:
            return -JSON_BAD


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef inline Py_ssize_t number_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the number at ``i`` (RFC 8259 section 6), or a negated outcome."""
    cdef Py_ssize_t start = i
    if p[i] == 45:
        i += 1
    if i >= n or not is_digit(p[i]):
        return -JSON_BAD
    if p[i] == 48:
        i += 1
        if i < n and is_digit(p[i]):
            return -JSON_BAD
    else:
        while i < n and is_digit(p[i]):
            i += 1
    if i < n and p[i] == 46:
        i += 1
        if i >= n or not is_digit(p[i]):
            return -JSON_BAD
        while i < n and is_digit(p[i]):
            i += 1
    if i < n and (p[i] | 32) == 101:
        i += 1
        if i < n and (p[i] == 43 or p[i] == 45):
            i += 1
        if i >= n or not is_digit(p[i]):
            return -JSON_BAD
        while i < n and is_digit(p[i]):
            i += 1
    if i - start > JSON_NUMBER_BYTES_MAX:
        return -JSON_NUMBER_TOO_LONG
    return i


cdef inline Py_ssize_t skip_space(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and (p[i] == 32 or p[i] == 10 or p[i] == 13 or p[i] == 9):
        i += 1
    return i


cdef inline Py_ssize_t word_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past ``true``, ``false`` or ``null``."""
    if n - i >= 4 and (memcmp(p + i, b"null", 4) == 0 or memcmp(p + i, b"true", 4) == 0):
        return i + 4
    if n - i >= 5 and memcmp(p + i, b"false", 5) == 0:
        return i + 5
    return -JSON_BAD


cdef bint names_type(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Whether the JSON string ``p[:n]`` reads ``@type``, however it is escaped."""
    cdef char text[40]
    if n == 7:
        return memcmp(p, b'"@type"', 7) == 0
    # Each of five characters as \\uXXXX is the longest spelling.
    if n < 7 or n > 32 or memchr(p, 92, n) == NULL:
        return False
    return (json_string_to_utf8(<const char*>p, n, text) == 5 and memcmp(text, b"@type", 5) == 0)


# How walk takes the names of members: as JSON says; the same, but not ``@type``; or also as
# fastjson writes a map's keys that are not text, ``{1:"a",true:"b",null:"c"}``.
cdef enum:
    STRICT = 0
    REFUSE_TYPE = 1
    LOOSE = 2


cdef Py_ssize_t walk(const uint8_t* p, Py_ssize_t n, Py_ssize_t i, int names) noexcept nogil:
    """Past the one value at ``i`` (no white space before it), or a negated outcome."""
    cdef uint8_t closers[JSON_DEPTH_MAX]  # what closes each open object or array
    cdef int depth = 0
    cdef Py_ssize_t start
    cdef bint opened  # an object that is not empty
    cdef uint8_t c
    while True:
        # Here a value must begin.
        if i >= n:
            return -JSON_BAD
        c = p[i]
        opened = False
        if c == 123 or c == 91:  # { [
            if depth == JSON_DEPTH_MAX:
                return -JSON_TOO_DEEP
            closers[depth] = c + 2
            depth += 1
            i = skip_space(p, i + 1, n)
            if i >= n:
                return -JSON_BAD
            if p[i] == c + 2:
                i += 1
                depth -= 1
            elif c == 91:
                continue
            else:
                opened = True
        elif c == 34:
            i = string_end(p, i + 1, n)
        elif c == 45 or is_digit(c):
            i = number_end(p, i, n)
        else:
            i = word_end(p, i, n)
        if i < 0:
            return i
        if not opened:  # here a value has ended
            while True:
                if depth == 0:
                    return i
                i = skip_space(p, i, n)
                if i >= n:
                    return -JSON_BAD
                if p[i] == 44:  # ,
                    i = skip_space(p, i + 1, n)
                    break
                if p[i] != closers[depth - 1]:
                    return -JSON_BAD
                i += 1
                depth -= 1
            if closers[depth - 1] == 93:
                continue
        # Here a member's name must begin.
        if i >= n:
            return -JSON_BAD
        start = i
        if p[i] == 34:
            i = string_end(p, i + 1, n)
        elif names != LOOSE:
            return -JSON_BAD
        elif p[i] == 45 or is_digit(p[i]):
            i = number_end(p, i, n)
        else:
            i = word_end(p, i, n)
        if i < 0:
            return i
        if names == REFUSE_TYPE and names_type(p + start, i - start):
            return -JSON_TYPE_NAMED
        i = skip_space(p, i, n)
        if i >= n or p[i] != 58:  # :
            return -JSON_BAD
        i = skip_space(p, i + 1, n)


cdef Py_ssize_t json_value_end(const char* json, Py_ssize_t n, Py_ssize_t start) noexcept nogil:
    """Where the JSON value at ``start`` ends, or a negated ``JSON_*`` outcome.

    Ignores what follows it.
    """
    return walk(<const uint8_t*>json, n, start, STRICT)


cdef int json_check(const char* json, Py_ssize_t n, Slice* value) noexcept nogil:
    """Whether ``json[:n]`` is exactly one value with optional white space around it.

    Returns ``JSON_OK`` and the value without that white space, or what is wrong. A ``\\uD800``
    without its other half is well formed (RFC 8259 section 8.2) and passes: only decoding refuses
    it.
    """
    return check(json, n, value, STRICT)


cdef int json_check_loose(const char* json, Py_ssize_t n, Slice* value) noexcept nogil:
    """``json_check``, but names of members may be numbers, true, false or null, as fastjson's are.

    What passes here and not there becomes JSON by ``write_strict_json``.
    """
    return check(json, n, value, LOOSE)


cdef int check(const char* json, Py_ssize_t n, Slice* value, int names) noexcept nogil:
    cdef const uint8_t* p = <const uint8_t*>json
    cdef Py_ssize_t start = skip_space(p, 0, n)
    cdef Py_ssize_t end = walk(p, n, start, names)
    if end < 0:
        return <int>-end
    value.data = json + start
    value.length = end - start
    return JSON_OK if skip_space(p, end, n) == n else JSON_BAD


cdef int write_strict_json(Buffer out, const char* json, Py_ssize_t n) except -1:
    """Append what ``json_check_loose`` let pass, with every name of a member in quotes."""
    cdef const uint8_t* p = <const uint8_t*>json
    cdef Py_ssize_t i = 0, copied = 0, start
    cdef uint8_t c
    while i < n:
        c = p[i]
        if c == 34:
            i = string_end(p, i + 1, n)
        elif c == 45 or is_digit(c) or 97 <= c <= 122:  # a number or a word
            start = i
            i = word_end(p, i, n) if c >= 97 else number_end(p, i, n)
            if i > 0 and skip_space(p, i, n) < n and p[skip_space(p, i, n)] == 58:
                out.append(p + copied, start - copied)
                out.append(b'"', 1)
                out.append(p + start, i - start)
                out.append(b'"', 1)
                copied = i
        else:
            i += 1
        if i < 0:
            raise UsageError("not JSON as fastjson writes it")  # it was never checked
    out.append(p + copied, n - copied)
    return JSON_OK


cdef int json_names_a_type(const char* json, Py_ssize_t n) noexcept nogil:
    """``JSON_TYPE_NAMED`` when some object has the member ``@type``, however it is escaped.

    fastjson makes an object of the class that ``@type`` names: an agent must not let a stranger's
    request do that to a provider. ``JSON_OK`` when there is none, else what is wrong with the JSON.
    """
    cdef const uint8_t* p = <const uint8_t*>json
    cdef Py_ssize_t end = walk(p, n, skip_space(p, 0, n), REFUSE_TYPE)
    return JSON_OK if end >= 0 else <int>-end


cdef bint json_equals(
    const char* json, Py_ssize_t n, const char* utf8, Py_ssize_t m
) noexcept nogil:
    """Whether the JSON string ``json[:n]`` reads ``utf8[:m]``, whatever escapes it uses."""
    cdef char text[1024]
    if n == m + 2 and json[0] == 34 and memcmp(json + 1, utf8, m) == 0:
        return True
    if n <= m + 2 or n > 1024 or memchr(json, 92, n) == NULL:
        return False
    return json_string_to_utf8(json, n, text) == m and memcmp(text, utf8, m) == 0


cdef const char* json_problem(int code) noexcept nogil:
    """What a ``JSON_*`` outcome means, for a message."""
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


def check_value(bytes json not None):
    """The one JSON value in ``json`` without the white space around it.

    UsageError when it is not one.
    """
    cdef Slice value
    cdef int code = json_check(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), &value)
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    return value.data[:value.length]


def strict(bytes json not None):
    """``json`` with members' names that are numbers or words in quotes. UsageError otherwise."""
    cdef Slice value
    cdef Buffer out = Buffer()
    cdef int code = json_check_loose(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json), &value)
    if code != JSON_OK:
        raise UsageError(json_problem(code).decode())
    write_strict_json(out, value.data, value.length)
    return out.take()


def names_a_type(bytes json not None):
    """Whether some object in well-formed ``json`` has a member ``@type``.

    UsageError when malformed.
    """
    cdef int code = json_names_a_type(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
    if code != JSON_OK and code != JSON_TYPE_NAMED:
        raise UsageError(json_problem(code).decode())
    return code == JSON_TYPE_NAMED
