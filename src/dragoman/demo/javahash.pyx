"""Java's ``String.hashCode``: ``s[0]*31^(n-1) + ... + s[n-1]`` over UTF-16 units, modulo 2^32.

The demo provider computes it from JSON as it came, the demo consumer from the text that it sent.
The invariant: the same result as Java for every text, whatever the escapes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr

cdef extern from *:
    """
    /* Whether n bytes are all ASCII. A plain loop: compilers make vectors of it. */
    static inline int dm_ascii(const unsigned char *p, Py_ssize_t n) {
        unsigned char seen = 0;
        for (Py_ssize_t i = 0; i < n; i++) seen |= p[i];
        return seen < 0x80;
    }

    /* h after n units of one byte each. Eight at a time, so that one multiplication in eight waits
       for the one before it. */
    static inline uint32_t dm_hash_ascii(uint32_t h, const unsigned char *p, Py_ssize_t n) {
        for (; n >= 8; n -= 8, p += 8)
            h = h * 0x94446f01u + p[0] * 0x67e12cdfu + p[1] * 887503681u + p[2] * 28629151u
                + p[3] * 923521u + p[4] * 29791u + p[5] * 961u + p[6] * 31u + p[7];
        while (n-- > 0) h = h * 31u + *p++;
        return h;
    }
    """
    int all_ascii "dm_ascii"(const uint8_t* p, Py_ssize_t n) noexcept nogil
    uint32_t hash_ascii "dm_hash_ascii"(uint32_t h, const uint8_t* p, Py_ssize_t n) noexcept nogil


cdef inline uint32_t hash_unit(uint32_t h, uint32_t unit) noexcept nogil:
    return h * 31 + unit


cdef inline uint32_t hash_sequence(uint32_t h, const uint8_t* p, int* size) noexcept nogil:
    """The hash after the character at ``p`` of valid UTF-8, and how many bytes it has."""
    cdef uint32_t point
    if p[0] < 0x80:
        size[0] = 1
        return hash_unit(h, p[0])
    if p[0] < 0xE0:
        size[0] = 2
        return hash_unit(h, <uint32_t>(p[0] & 31) << 6 | (p[1] & 63))
    if p[0] < 0xF0:
        size[0] = 3
        return hash_unit(
            h, <uint32_t>(p[0] & 15) << 12 | <uint32_t>(p[1] & 63) << 6 | (p[2] & 63)
        )
    size[0] = 4
    point = (
        <uint32_t>(p[0] & 7) << 18 | <uint32_t>(p[1] & 63) << 12
        | <uint32_t>(p[2] & 63) << 6 | (p[3] & 63)
    )
    return hash_unit(hash_unit(h, 0xD7C0 + (point >> 10)), 0xDC00 + (point & 0x3FF))


cdef int32_t java_hash_utf8(const char* utf8, Py_ssize_t n) noexcept nogil:
    """The hash of ``n`` bytes of valid UTF-8."""
    cdef const uint8_t* p = <const uint8_t*>utf8
    cdef Py_ssize_t i = 0
    cdef uint32_t h = 0
    cdef int size = 0
    if all_ascii(p, n):
        return <int32_t>hash_ascii(0, p, n)
    while i < n:
        h = hash_sequence(h, p + i, &size)
        i += size
    return <int32_t>h


cdef inline uint32_t hex_digit(uint8_t c) noexcept nogil:
    return c - c'0' if c <= c'9' else (c | 32) - c'a' + 10


cdef int32_t java_hash_json(const char* json, Py_ssize_t n) noexcept nogil:
    """The hash of a JSON string with its quotes, which ``json_check`` has found well formed."""
    cdef const uint8_t* p = <const uint8_t*>json + 1
    cdef Py_ssize_t i = 0, end = n - 2
    cdef uint32_t h = 0
    cdef uint8_t c
    cdef int size = 0
    if memchr(p, c'\\', end) == NULL:
        return java_hash_utf8(<const char*>p, end)
    while i < end:
        if p[i] != c'\\':
            h = hash_sequence(h, p + i, &size)
            i += size
            continue
        c = p[i + 1]
        i += 2
        if c == c'u':
            h = hash_unit(
                h,
                hex_digit(p[i]) << 12 | hex_digit(p[i + 1]) << 8
                | hex_digit(p[i + 2]) << 4 | hex_digit(p[i + 3]),
            )
            i += 4
        elif c == c'n':
            h = hash_unit(h, c'\n')
        elif c == c'r':
            h = hash_unit(h, c'\r')
        elif c == c't':
            h = hash_unit(h, c'\t')
        elif c == c'b':
            h = hash_unit(h, c'\b')
        elif c == c'f':
            h = hash_unit(h, c'\f')
        else:
            h = hash_unit(h, c)
    return <int32_t>h


def java_hash(str text not None):
    """The result of ``text.hashCode()`` in Java. Lone surrogates count as the units they are."""
    cdef bytes utf8 = text.encode("utf-8", "surrogatepass")
    return java_hash_utf8(PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8))


def java_hash_of_json(bytes json not None):
    """The same, of a well-formed JSON string with its quotes."""
    return java_hash_json(PyBytes_AS_STRING(json), PyBytes_GET_SIZE(json))
