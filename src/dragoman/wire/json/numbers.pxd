from libc.stdint cimport int64_t, uint64_t

from dragoman.wire.buffer cimport Buffer


cdef inline int put_byte(Buffer out, char byte) except -1:
    out.reserve(1)[0] = byte
    out.length += 1
    return 0


cdef inline char* two(char* to, int value) noexcept nogil:
    """Two digits; where the next goes."""
    to[0] = c'0' + value // 10
    to[1] = c'0' + value % 10
    return to + 2


cdef inline int put_int(Buffer out, int64_t value) except -1:
    """A number in decimal."""
    cdef char digits[24]
    cdef int at = 24
    cdef uint64_t rest = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    while True:
        at -= 1
        digits[at] = c'0' + <char>(rest % 10)
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        at -= 1
        digits[at] = c'-'
    return out.append(digits + at, 24 - at)


cdef int put(Buffer out, const char* text) except -1
cdef int put_double(Buffer out, double value) except -1
cdef int put_thousandths(Buffer out, int64_t value) except -1
cdef int put_date(Buffer out, int64_t year, int month, int day) except -1
cdef int put_moment(Buffer out, int64_t ms) except -1
cdef bint is_number(const char* p, Py_ssize_t n) noexcept nogil
cdef bint small_int(const char* p, Py_ssize_t n, int64_t* value) noexcept nogil
