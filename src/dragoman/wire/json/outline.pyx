"""The outline of a large JSON object: what it says beside one array that is only passed over.

``agent.contract`` reads large calls with it: it wants to know which service is called, and how
many arguments there are, but not what these are. The invariants: the work is one pass over the
bytes that looks for quotes and brackets alone, and can be left off and taken up again anywhere in a
value and in white space; nothing is made of the array's values; all else is bounded. What is in the
values is not checked: whoever reads them does that.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memchr

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.scan cimport LOWER, is_space
from dragoman.wire.json.string cimport JSON_BAD, json_equals, json_problem
from dragoman.wire.json.text cimport json_value_end

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


cdef struct Value:
    Py_ssize_t start
    Py_ssize_t at     # what is before it has been passed
    Py_ssize_t depth  # brackets that are open there
    Py_ssize_t text   # within a string: where no backslash before counts any more; else -1


cdef inline bint pass_string(const uint8_t* p, Py_ssize_t bound, Value* value) noexcept nogil:
    """Go on in a string; whether it ends before ``bound``."""
    cdef const uint8_t* quote
    cdef Py_ssize_t i = value.at, before, near
    while i < bound:
        quote = <const uint8_t*>memchr(p + i, c'"', bound - i)
        if quote == NULL:
            i = bound
            break
        before = quote - p
        while before > value.text and p[before - 1] == c'\\':
            before -= 1
        i = (quote - p) + 1
        if ((quote - p) - before) & 1 == 0:
            value.at = i
            value.text = -1
            return True
        # Such quotes come in crowds, in which to look byte for byte is faster.
        near = min(bound, i + 64)
        while i < near:
            if p[i] == c'"':
                value.at = i + 1
                value.text = -1
                return True
            i += 2 if p[i] == c'\\' else 1
        value.text = i
    value.at = i
    return False


cdef int pass_value(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t stop, Value* value
) noexcept nogil:
    """Go on in a value, by its brackets and quotes alone. 1: it has ended; 0: not before ``stop``;
    -1: nor before the end."""
    cdef Py_ssize_t bound = min(n, stop), i, scalar
    cdef uint8_t c
    if value.text >= 0:
        if not pass_string(p, bound, value):
            return 0 if value.at < n else -1
        if value.depth == 0:
            return 1
    i = scalar = value.at
    while i < bound:
        if i >= scalar and value.depth:
            i += inside(p + i, bound - i, &value.depth)
            scalar = i + 32
            if i == bound:
                break
        c = p[i]
        if c == c'"':
            value.at = value.text = i + 1
            if not pass_string(p, bound, value):
                return 0 if value.at < n else -1
            i = value.at
            if value.depth == 0:
                return 1
            continue
        if c | LOWER == c'{':  # or [
            value.depth += 1
        elif c | LOWER == c'}' and value.depth:  # or ]
            value.depth -= 1
            if value.depth == 0:
                value.at = i + 1
                return 1
        elif value.depth == 0 and (
            c | LOWER == c'}' or c == c',' or is_space(c)
        ):
            value.at = i
            return 1 if i > value.start else -1
        i += 1
    value.at = i
    return 0 if i < n else -1


cdef object bad():
    return UsageError(json_problem(JSON_BAD).decode())


# What is expected where the outline has been left off, after white space.
cdef enum:
    AT_OBJECT
    AT_FIRST_MEMBER
    AT_MEMBER
    AT_COLON
    AT_VALUE
    AT_FIRST_ITEM
    AT_ITEM
    IN_ITEM
    BEHIND_ITEM
    BEHIND_VALUE
    AT_END
    WHOLE


cdef class Outline:
    """Of ``json``, an object whose member ``name`` is an array: ``look`` until that says True, then
    ``take``."""

    cdef const uint8_t[::1] _json
    cdef bytes _name
    cdef int _items_max
    cdef Py_ssize_t _beside_max
    cdef Buffer _out
    cdef Py_ssize_t _at
    cdef int _state
    cdef Py_ssize_t _brace  # the closing one
    cdef bint _named        # the member is the array that is meant
    cdef int _items
    cdef Value _value

    def __init__(
        self, const unsigned char[::1] json not None, bytes name not None, int items_max,
        Py_ssize_t beside_max
    ):
        self._json = json
        self._name = name
        self._items_max = items_max
        self._beside_max = beside_max
        self._out = Buffer()
        self._state = AT_OBJECT

    def take(self):
        """``json`` with each value of the array as null; and where its closing brace is."""
        if self._state != WHOLE:
            raise UsageError("the outline is not whole, or has been taken")
        self._state = AT_OBJECT
        self._at = self._json.shape[0]
        return self._out.take(), self._brace

    def look(self, Py_ssize_t most):
        """Go through about ``most`` bytes more, white space among them; whether that was all.

        UsageError when it is no object, when the array has more than ``items_max`` values, and
        when all else has more than ``beside_max`` bytes.
        """
        cdef const uint8_t* p
        cdef Py_ssize_t n = self._json.shape[0], i = self._at, stop = min(n, i + max(most, 1))
        if self._state == WHOLE:
            return True
        if n == 0:
            raise bad()
        p = &self._json[0]
        while True:
            if self._state != IN_ITEM:
                while i < stop and is_space(p[i]):
                    i += 1
            if i >= stop:
                break
            i = self._token(p, i, n, stop)
        self._at = i
        if i < n:
            return False
        if self._state != AT_END:
            raise bad()
        self._state = WHOLE
        return True

    cdef Py_ssize_t _token(
        self, const uint8_t* p, Py_ssize_t i, Py_ssize_t n, Py_ssize_t stop
    ) except -1:
        """Past the token at ``i``, or, within a value of the array, to ``stop``."""
        cdef uint8_t c = p[i]
        cdef int state = self._state
        cdef int outcome
        if state == IN_ITEM:
            outcome = pass_value(p, n, stop, &self._value)
            if outcome < 0:
                raise bad()
            if outcome == 1:
                self._out.append(b"null", 4)
                self._state = BEHIND_ITEM
            return self._value.at
        if (state == AT_FIRST_ITEM or state == BEHIND_ITEM) and c == c']':
            self._state = BEHIND_VALUE
        elif state == BEHIND_ITEM and c == c',':
            self._state = AT_ITEM
        elif state == AT_FIRST_ITEM or state == AT_ITEM:
            self._begin_item(i)
            return i
        elif state == AT_OBJECT and c == c'{':
            self._state = AT_FIRST_MEMBER
        elif (state == AT_FIRST_MEMBER or state == BEHIND_VALUE) and c == c'}':
            self._brace = i
            self._state = AT_END
        elif state == BEHIND_VALUE and c == c',':
            self._state = AT_MEMBER
        elif (state == AT_FIRST_MEMBER or state == AT_MEMBER) and c == c'"':
            return self._beside(p, i, n, AT_COLON)
        elif state == AT_COLON and c == c':':
            self._state = AT_VALUE
        elif state == AT_VALUE and self._named and c == c'[':
            self._items = 0
            self._state = AT_FIRST_ITEM
        elif state == AT_VALUE:
            return self._beside(p, i, n, BEHIND_VALUE)
        else:
            raise bad()
        self._out.append(<const char*>p + i, 1)
        return i + 1

    cdef int _begin_item(self, Py_ssize_t i) except -1:
        self._items += 1
        if self._items > self._items_max:
            raise UsageError(f"{self._name.decode()}: at most {self._items_max} were expected")
        self._value.start = self._value.at = i
        self._value.depth = 0
        self._value.text = -1
        self._state = IN_ITEM
        return 0

    cdef Py_ssize_t _beside(
        self, const uint8_t* p, Py_ssize_t i, Py_ssize_t n, int then
    ) except -1:
        """Past a name, or a value, that stands beside the array."""
        cdef Py_ssize_t bound = min(n, i + self._beside_max)
        cdef Py_ssize_t end = json_value_end(<const char*>p, bound, i)
        if end < 0:
            raise bad() if bound == n else too_long(self._name, self._beside_max)
        self._out.append(<const char*>p + i, end - i)
        if <Py_ssize_t>self._out.length > self._beside_max:
            raise too_long(self._name, self._beside_max)
        if then == AT_COLON:
            self._named = json_equals(
                <const char*>p + i, end - i, PyBytes_AS_STRING(self._name), len(self._name)
            )
        self._state = then
        return end


cdef object too_long(bytes name, Py_ssize_t beside_max):
    return UsageError(f"what stands beside {name.decode()} is longer than {beside_max} bytes")
