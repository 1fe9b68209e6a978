"""The outline of a large JSON object: what it says beside one array that is only passed over.

``agent.contract`` reads large calls with it: it wants to know which service is called, and how
many arguments there are, but not what these are. The invariants: the work is one pass over the
bytes that looks for quotes and brackets alone; nothing is made of the array's values; all else is
bounded. What is in the values is not checked: whoever reads them does that.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memchr

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.jsonstring cimport JSON_BAD, json_equals, json_problem
from dragoman.wire.jsontext cimport json_value_end

from dragoman.errors import UsageError


cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* How many of the bytes from p on, in pieces of 16, leave the depth at least 1 without a quote;
       *depth becomes what it is behind them. */
    static inline Py_ssize_t dm_inside(const unsigned char *p, Py_ssize_t n, Py_ssize_t *depth) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        const __m128i quote = _mm_set1_epi8('"');
        const __m128i lower = _mm_set1_epi8(0x20);
        const __m128i open = _mm_set1_epi8('{');
        const __m128i close = _mm_set1_epi8('}');
        for (; n - i >= 16; i += 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i w = _mm_or_si128(v, lower);
            int closed;
            if (_mm_movemask_epi8(_mm_cmpeq_epi8(v, quote))) break;
            closed = __builtin_popcount(_mm_movemask_epi8(_mm_cmpeq_epi8(w, close)));
            if (closed >= *depth) break;
            *depth += __builtin_popcount(_mm_movemask_epi8(_mm_cmpeq_epi8(w, open))) - closed;
        }
    #endif
        return i;
    }
    """
    Py_ssize_t inside "dm_inside"(const uint8_t* p, Py_ssize_t n, Py_ssize_t* depth) noexcept nogil


cdef inline Py_ssize_t past_space(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and (p[i] == 32 or p[i] == 10 or p[i] == 13 or p[i] == 9):
        i += 1
    return i


cdef inline Py_ssize_t past_string(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the string whose content begins at ``i``, or -1."""
    cdef const uint8_t* quote
    cdef Py_ssize_t before, near
    while i < n:
        quote = <const uint8_t*>memchr(p + i, 34, n - i)
        if quote == NULL:
            return -1
        before = quote - p
        while before > i and p[before - 1] == 92:
            before -= 1
        if ((quote - p) - before) & 1 == 0:
            return (quote - p) + 1
        # Such quotes come in crowds, in which to look byte for byte is faster.
        i = (quote - p) + 1
        near = min(n, i + 64)
        while i < near:
            if p[i] == 34:
                return i + 1
            i += 2 if p[i] == 92 else 1
    return -1


cdef Py_ssize_t past_value(const uint8_t* p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """Past the value at ``i``, by its brackets and quotes alone, or -1."""
    cdef Py_ssize_t depth = 0, start = i, scalar = i
    cdef uint8_t c
    while i < n:
        c = p[i]
        if i >= scalar and depth:
            i += inside(p + i, n - i, &depth)
            scalar = i + 32
            if i == n:
                break
            c = p[i]
        if c == 34:
            i = past_string(p, i + 1, n)
            if i < 0:
                return -1
            if depth == 0:
                return i
            continue
        if c | 32 == 123:  # [ {
            depth += 1
        elif c | 32 == 125:  # ] }
            if depth == 0:
                return i if i > start else -1
            depth -= 1
            if depth == 0:
                return i + 1
        elif depth == 0 and (c == 44 or c == 32 or c == 10 or c == 13 or c == 9):
            return i if i > start else -1
        i += 1
    return -1


cdef object bad():
    return UsageError(json_problem(JSON_BAD).decode())


def outline(
    const unsigned char[::1] json not None, bytes name not None, int items_max,
    Py_ssize_t beside_max
):
    """``json``, an object, with each value of the array that is its member ``name`` as null; and
    where its closing brace is.

    UsageError when it is no object, when the array has more than ``items_max`` values, and when all
    else has more than ``beside_max`` bytes.
    """
    cdef const uint8_t* p
    cdef const char* key = PyBytes_AS_STRING(name)
    cdef Py_ssize_t n = json.shape[0], i, end, start, bound
    cdef int items
    cdef bint first = True
    cdef Buffer out = Buffer()
    if n == 0:
        raise bad()
    p = &json[0]
    i = past_space(p, 0, n)
    if i == n or p[i] != 123:
        raise bad()
    i = past_space(p, i + 1, n)
    out.append(b"{", 1)
    while i < n and (p[i] != 125 or not first):
        start = i
        # The name, a colon, and perhaps the array's bracket.
        if p[i] != 34:
            raise bad()
        bound = min(n, i + beside_max)
        end = json_value_end(<const char*>p, bound, i)
        if end < 0:
            raise bad() if bound == n else too_long(name, beside_max)
        i = past_space(p, end, n)
        if i == n or p[i] != 58:
            raise bad()
        i = past_space(p, i + 1, n)
        if i == n:
            raise bad()
        out.append(p + start, end - start)
        out.append(b":", 1)
        if p[i] == 91 and json_equals(<const char*>p + start, end - start, key, len(name)):
            i = past_space(p, i + 1, n)
            out.append(b"[", 1)
            items = 0
            while i < n and (p[i] != 93 or items):
                items += 1
                if items > items_max:
                    raise UsageError(f"{name.decode()}: at most {items_max} were expected")
                i = past_value(p, i, n)
                if i < 0:
                    raise bad()
                i = past_space(p, i, n)
                out.append(b"null,", 5)
                if i < n and p[i] == 93:
                    break
                if i == n or p[i] != 44:
                    raise bad()
                i = past_space(p, i + 1, n)
            if i == n:
                raise bad()
            i += 1
            if items:
                out.length -= 1
            out.append(b"]", 1)
        else:
            bound = min(n, i + beside_max)
            end = json_value_end(<const char*>p, bound, i)
            if end < 0:
                raise bad() if bound == n else too_long(name, beside_max)
            out.append(p + i, end - i)
            i = end
        if <Py_ssize_t>out.length > beside_max:
            raise too_long(name, beside_max)
        i = past_space(p, i, n)
        first = False
        if i < n and p[i] == 44:
            out.append(b",", 1)
            i = past_space(p, i + 1, n)
            continue
        if i == n or p[i] != 125:
            raise bad()
        break
    if i == n or past_space(p, i + 1, n) != n:
        raise bad()
    out.append(b"}", 1)
    return out.take(), i


cdef object too_long(bytes name, Py_ssize_t beside_max):
    return UsageError(f"what stands beside {name.decode()} is longer than {beside_max} bytes")
