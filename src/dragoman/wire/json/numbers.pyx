"""Numbers and dates written as JSON has them, straight into a buffer.

``hessian2.scanner`` makes its text of these. The invariant: what is appended is ASCII, and valid
JSON.
"""

from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, isnan
from libc.stdint cimport int64_t
from libc.string cimport strlen

from dragoman.wire.buffer cimport Buffer

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* type)
    int Py_DTSF_ADD_DOT_0

cdef enum:
    DAY_MS = 86_400_000


cdef int put(Buffer out, const char* text) except -1:
    """A text that ends with a NUL, as it is."""
    return out.append(text, strlen(text))


cdef int put_double(Buffer out, double value) except -1:
    """The shortest number that is the double; a text for those that JSON has no number for."""
    cdef char* text
    if not isfinite(value):
        return put(
            out, b'"NaN"' if isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"'
        )
    text = PyOS_double_to_string(value, c'r', 0, Py_DTSF_ADD_DOT_0, NULL)
    if text == NULL:
        raise MemoryError("no memory for the text of a double")
    try:
        return put(out, text)
    finally:
        PyMem_Free(text)


cdef int put_thousandths(Buffer out, int64_t value) except -1:
    """A number in thousandths as a decimal fraction, as Python writes it."""
    cdef char* to
    cdef int64_t rest
    if value < 0:
        put_byte(out, c'-')
        value = -value
    put_int(out, value // 1000)
    rest = value % 1000
    to = out.reserve(4)
    to[0] = c'.'
    to[1] = c'0' + <char>(rest // 100)
    to[2] = c'0' + <char>(rest // 10 % 10)
    to[3] = c'0' + <char>(rest % 10)
    out.length += 2 if rest % 100 == 0 else 3 if rest % 10 == 0 else 4
    return 0


cdef int put_year(Buffer out, int64_t year) except -1:
    """As ISO 8601 has it: four digits, with a sign if they are not enough."""
    cdef char* to
    if 0 <= year <= 9999:
        to = out.reserve(4)
        two(two(to, <int>(year // 100)), <int>(year % 100))
        out.length += 4
        return 0
    put_byte(out, c'-' if year < 0 else c'+')
    year = -year if year < 0 else year
    if year < 1000:
        out.append(b"000", 3 if year < 10 else 2 if year < 100 else 1)
    return put_int(out, year)


cdef int put_date(Buffer out, int64_t year, int month, int day) except -1:
    cdef char* to
    put_year(out, year)
    to = out.reserve(6)
    to[0] = c'-'
    to = two(to + 1, month)
    to[0] = c'-'
    two(to + 1, day)
    out.length += 6
    return 0


cdef int put_moment(Buffer out, int64_t ms) except -1:
    """``"2026-01-31T12:00:00.000Z"`` with its quotes."""
    cdef int64_t days = ms // DAY_MS, rest = ms - days * DAY_MS
    cdef int64_t z, era, of_era, year_of_era, of_year, shifted, month
    cdef char* to
    if rest < 0:  # C's division
        rest += DAY_MS
        days -= 1
    # The Gregorian calendar in eras of 400 years that begin on the first of March.
    z = days + 719468
    era = (z if z >= 0 else z - 146096) // 146097
    of_era = z - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    put_byte(out, c'"')
    put_date(
        out, year_of_era + era * 400 + (1 if month <= 2 else 0), <int>month,
        <int>(of_year - (153 * shifted + 2) // 5 + 1),
    )
    to = out.reserve(15)
    to[0] = c'T'
    to = two(to + 1, <int>(rest // 3600000))
    to[0] = c':'
    to = two(to + 1, <int>(rest // 60000 % 60))
    to[0] = c':'
    to = two(to + 1, <int>(rest // 1000 % 60))
    to[0] = c'.'
    to[1] = c'0' + <char>(rest // 100 % 10)
    two(to + 2, <int>(rest % 100))
    to[4] = c'Z'
    to[5] = c'"'
    out.length += 15
    return 0


cdef bint is_number(const char* p, Py_ssize_t n) noexcept nogil:
    """Whether ``p[:n]`` is a number as JSON has it (RFC 8259 section 6)."""
    cdef Py_ssize_t i = 0, start
    if i < n and p[i] == c'-':
        i += 1
    start = i
    while i < n and c'0' <= p[i] <= c'9':
        i += 1
    if i == start or (p[start] == c'0' and i > start + 1):
        return False
    if i < n and p[i] == c'.':
        i += 1
        start = i
        while i < n and c'0' <= p[i] <= c'9':
            i += 1
        if i == start:
            return False
    if i < n and (p[i] == c'E' or p[i] == c'e'):
        i += 1
        if i < n and (p[i] == c'+' or p[i] == c'-'):
            i += 1
        start = i
        while i < n and c'0' <= p[i] <= c'9':
            i += 1
        if i == start:
            return False
    return i == n


cdef bint small_int(const char* p, Py_ssize_t n, int64_t* value) noexcept nogil:
    """Whether ``p[:n]`` is an int of at most 10 digits."""
    cdef Py_ssize_t i = 1 if n > 0 and p[0] == c'-' else 0
    if n == i or n - i > 10:
        return False
    value[0] = 0
    while i < n:
        if not c'0' <= p[i] <= c'9':
            return False
        value[0] = value[0] * 10 + (p[i] - c'0')
        i += 1
    if p[0] == c'-':
        value[0] = -value[0]
    return True
