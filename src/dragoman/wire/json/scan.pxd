# How JSON strings look at their bytes and write characters: inline code shared by ``json.string``,
# ``json.text`` and ``json.numbers``.

from libc.stdint cimport uint8_t, uint32_t

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
       on. */
    static inline Py_ssize_t dm_copy_plain(
        const unsigned char *src, Py_ssize_t n, unsigned char *dst
    ) {
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

    /* How many bytes, 3 for each, the characters take that p begins with, if each is of three
       bytes and there is no doubt about it: none that begins with 0xe0 or 0xed, of which some are
       none. */
    static inline Py_ssize_t dm_three_run(const unsigned char *p, Py_ssize_t n) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        /* Four characters, and four bytes that do not count. */
        const __m128i kind = _mm_setr_epi8((char)0xf0, (char)0xc0, (char)0xc0, (char)0xf0,
            (char)0xc0, (char)0xc0, (char)0xf0, (char)0xc0, (char)0xc0, (char)0xf0, (char)0xc0,
            (char)0xc0, 0, 0, 0, 0);
        const __m128i three = _mm_setr_epi8((char)0xe0, (char)0x80, (char)0x80, (char)0xe0,
            (char)0x80, (char)0x80, (char)0xe0, (char)0x80, (char)0x80, (char)0xe0, (char)0x80,
            (char)0x80, 0, 0, 0, 0);
        for (; n - i >= 16; i += 12) {
            __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xe0)),
                _mm_cmpeq_epi8(v, _mm_set1_epi8((char)0xed)));
            __m128i same = _mm_cmpeq_epi8(_mm_and_si128(v, kind), three);
            if (_mm_movemask_epi8(same) != 0xffff || _mm_movemask_epi8(odd) & 0xfff) break;
        }
    #endif
        for (; n - i >= 3; i += 3) {
            if ((p[i] & 0xf0) != 0xe0 || p[i] == 0xe0 || p[i] == 0xed
                || (p[i + 1] & 0xc0) != 0x80 || (p[i + 2] & 0xc0) != 0x80) break;
        }
        return i;
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
    Py_ssize_t three_run "dm_three_run"(const uint8_t* p, Py_ssize_t n) noexcept nogil
    int hex4 "dm_hex4"(const uint8_t* p) noexcept nogil


cdef inline bint is_space(uint8_t c) noexcept nogil:
    return c == c' ' or c == c'\n' or c == c'\r' or c == c'\t'


cdef inline Py_ssize_t skip_space(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and is_space(p[i]):
        i += 1
    return i


cdef enum:
    LOWER = 0x20  # the bit that makes a letter a lower-case one, and of ``[`` and ``]`` braces


cdef enum:  # the halves of a character above U+FFFF in UTF-16: from, from, up to
    HIGH_SURROGATE = 0xD800
    LOW_SURROGATE = 0xDC00
    SURROGATE_LAST = 0xDFFF


cdef inline uint8_t* put_utf8(uint8_t* to, uint32_t point) noexcept nogil:
    """Write a character, at most 4 bytes; where the next goes."""
    if point < 0x80:
        to[0] = <uint8_t>point
        return to + 1
    if point < 0x800:
        to[0] = 0xC0 | (point >> 6)
        to[1] = 0x80 | (point & 63)
        return to + 2
    if point < 0x10000:
        to[0] = 0xE0 | (point >> 12)
        to[1] = 0x80 | ((point >> 6) & 63)
        to[2] = 0x80 | (point & 63)
        return to + 3
    to[0] = 0xF0 | (point >> 18)
    to[1] = 0x80 | ((point >> 12) & 63)
    to[2] = 0x80 | ((point >> 6) & 63)
    to[3] = 0x80 | (point & 63)
    return to + 4
