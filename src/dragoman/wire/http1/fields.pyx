"""The values of the fields that HTTP/1.1 framing depends on (RFC 9112 sections 6 and 7).

``MessageDecoder`` calls these once for each such field. The invariant: a value is either exactly of
the form that dragoman takes, or named as something else; nothing is guessed.
"""

from libc.stdint cimport INT64_MAX, uint64_t
from libc.string cimport memchr

from dragoman.wire.http1.tables cimport (
    C_TOKEN,
    CHARS,
    CT_FORM,
    CT_JSON,
    CT_JSON_OTHERWISE,
    CT_OTHER,
    same,
)

# 2^63 - 1 has 19 digits; h11 takes at most 20.
cdef int LENGTH_DIGITS_MAX = 19


cdef bint is_framing(const unsigned char* name, Py_ssize_t n) noexcept nogil:
    """Whether a trailer's name is one that must not stand there (RFC 9110 section 6.5.1).

    Trailers are discarded; these could only be meant to confuse another reader.
    """
    return (n == 14 and same(name, b"content-length", 14)) or (
        n == 17 and same(name, b"transfer-encoding", 17)
    )


cdef Py_ssize_t parse_length(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """The value of 1*DIGIT up to 2^63 - 1, or -1."""
    cdef uint64_t value = 0
    cdef Py_ssize_t i
    if n < 1 or n > LENGTH_DIGITS_MAX:
        return -1
    for i in range(n):
        if p[i] < c'0' or p[i] > c'9':
            return -1
        value = value * 10 + (p[i] - c'0')
    return <Py_ssize_t>value if value <= <uint64_t>INT64_MAX else -1


cdef int parse_coding(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """Judge a Transfer-Encoding: only exactly ``chunked`` is one that dragoman takes."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t end
    cdef Py_ssize_t last
    cdef int chunked = 0
    cdef bint unknown = False
    cdef bint final = False
    if n == 7 and same(p, b"chunked", 7):
        return TE_CHUNKED
    while True:
        while at < n and (p[at] == c' ' or p[at] == c'\t'):
            at += 1
        end = at
        while end < n and CHARS[p[end]] & C_TOKEN:
            end += 1
        last = end
        while end < n and (p[end] == c' ' or p[end] == c'\t'):
            end += 1
        if last == at or (end < n and p[end] != c','):
            return TE_BAD
        final = last - at == 7 and same(p + at, b"chunked", 7)
        if final:
            chunked += 1
        elif not is_coding(p + at, last - at):
            unknown = True
        if end == n:
            break
        at = end + 1
    if unknown:
        return TE_UNKNOWN
    return TE_UNKNOWN if final and chunked == 1 else TE_BAD


cdef bint is_coding(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """Whether it is a registered transfer coding other than chunked (RFC 9112 section 7.2)."""
    return (
        (n == 4 and same(p, b"gzip", 4))
        or (n == 6 and same(p, b"x-gzip", 6))
        or (n == 7 and same(p, b"deflate", 7))
        or (n == 8 and same(p, b"compress", 8))
        or (n == 10 and same(p, b"x-compress", 10))
    )


cdef int parse_content_type(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """Which media type it is. Of the parameters only JSON's ``charset`` matters: JSON is UTF-8
    (RFC 8259), and a form's percent signs are, whatever it says."""
    cdef const unsigned char* semicolon = NULL
    cdef const unsigned char* stop = p + n
    if n > 16:
        semicolon = <const unsigned char*>memchr(p, c';', n)
        if semicolon != NULL:
            n = semicolon - p
    while n > 0 and (p[n - 1] == c' ' or p[n - 1] == c'\t'):
        n -= 1
    if n == 33 and same(p, b"application/x-www-form-urlencoded", 33):
        return CT_FORM
    if n == 16 and same(p, b"application/json", 16):
        if semicolon == NULL or utf8_or_unsaid(semicolon, stop):
            return CT_JSON
        return CT_JSON_OTHERWISE
    return CT_OTHER


cdef bint utf8_or_unsaid(const unsigned char* p, const unsigned char* stop) noexcept nogil:
    """Whether the parameters (RFC 9110 section 5.6.6) from their semicolon on name no charset but
    UTF-8 or a part of it. Malformed parameters do not matter, but for a malformed charset."""
    cdef unsigned char value[8]
    cdef const unsigned char* name
    cdef Py_ssize_t n
    cdef bint charset, quoted
    while p < stop:
        if p[0] == c';' or p[0] == c' ' or p[0] == c'\t':
            p += 1
            continue
        name = p
        while p < stop and CHARS[p[0]] & C_TOKEN:
            p += 1
        charset = p - name == 7 and same(name, b"charset", 7)
        n = 0
        quoted = False
        if p < stop and p[0] == c'=':
            p += 1
            quoted = p < stop and p[0] == c'"'
            if quoted:
                p += 1
            while p < stop:
                if quoted:
                    if p[0] == c'"':
                        break
                elif not CHARS[p[0]] & C_TOKEN:
                    break
                if quoted and p[0] == c'\\' and p + 1 < stop:
                    p += 1
                if n < 8:
                    value[n] = p[0]
                n += 1
                p += 1
            if quoted:
                if p == stop:
                    return not charset
                p += 1
        while p < stop and (p[0] == c' ' or p[0] == c'\t'):
            p += 1
        if charset and ((p < stop and p[0] != c';') or not is_utf8(value, n)):
            return False
        while p < stop and p[0] != c';':
            p += 1
    return True


cdef bint is_utf8(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    """Whether it is a name of UTF-8, or of ASCII, which is a part of it."""
    return (
        (n == 5 and same(p, b"utf-8", 5))
        or (n == 4 and same(p, b"utf8", 4))
        or (n == 8 and same(p, b"us-ascii", 8))
        or (n == 5 and same(p, b"ascii", 5))
    )


cdef bint has_option(
    const unsigned char* p, Py_ssize_t n, const char* option, Py_ssize_t length
) noexcept nogil:
    """Whether the comma list holds the lower-case ``option``."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t end
    cdef Py_ssize_t last
    if n < length:
        return False
    while at <= n:
        while at < n and (p[at] == c' ' or p[at] == c'\t'):
            at += 1
        end = at
        while end < n and p[end] != c',':
            end += 1
        last = end
        while last > at and (p[last - 1] == c' ' or p[last - 1] == c'\t'):
            last -= 1
        if last - at == length and same(p + at, option, length):
            return True
        at = end + 1
    return False


cdef bint tab_around(const unsigned char* value, Py_ssize_t length) noexcept nogil:
    """Whether a tab is in the white space around a field's value."""
    cdef const unsigned char* p = value - 1
    while p[0] == c' ':
        p -= 1
    if p[0] == c'\t':
        return True
    p = value + length
    while p[0] == c' ':
        p += 1
    return p[0] == c'\t'
