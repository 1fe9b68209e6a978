"""Strings of hessian2 as JSON strings, where it takes a look at their chunks and surrogates.

``hessian2.walker`` writes those with it that are not one chunk of characters of one unit. The
invariant: what is read has been measured by ``string_shape``, so that it is whole and well formed,
and what is written is valid JSON: half of a surrogate pair is escaped.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.heads cimport string_head
from dragoman.wire.hessian2.string cimport StringShape, utf8_point
from dragoman.wire.hessian2.tags cimport TAG_STRING_CHUNK
from dragoman.wire.json.scan cimport (
    HIGH_SURROGATE, LOW_SURROGATE, SURROGATE_LAST, copy_plain, put_utf8, three_run,
)

cdef const char* HEX = "0123456789abcdef"

cdef enum:
    # For the quotes, and for two escapes before room is made again.
    SPARE_BYTES = 16
    # What is not below is, in a string that was measured, the first of two bytes, or of more.
    TWO_BYTES = 0x80
    MORE_BYTES = 0xE0


cdef inline uint8_t* put_escape(uint8_t* to, uint32_t unit) noexcept nogil:
    """Write the escape of a unit, at most 6 bytes."""
    cdef int i
    to[0] = c'\\'
    if unit == c'"' or unit == c'\\':
        to[1] = <uint8_t>unit
        return to + 2
    to[1] = c'u'
    for i in range(4):
        to[5 - i] = HEX[(unit >> (4 * i)) & 15]
    return to + 6


cdef inline uint8_t* put_unit(uint8_t* to, uint32_t point) noexcept nogil:
    """Write a character, escaped if it has to be."""
    if (
        point < c' ' or point == c'"' or point == c'\\'
        or LOW_SURROGATE <= point <= SURROGATE_LAST
    ):
        return put_escape(to, point)
    return put_utf8(to, point)


cdef inline Py_ssize_t copy_run(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t* units, uint8_t* to
) noexcept nogil:
    """Copy the characters of one length that ``p[:n]`` begins with, at most ``units`` of them, and
    take them off ``units``; how many bytes they have. 0 where the first has to be looked at.
    """
    cdef Py_ssize_t run = 0, most
    if p[0] < TWO_BYTES:
        run = copy_plain(p, units[0] if units[0] < n else n, to)
        units[0] -= run
    elif p[0] < MORE_BYTES:
        most = 2 * units[0]
        while run < most and TWO_BYTES <= p[run] < MORE_BYTES:
            to[run] = p[run]
            to[run + 1] = p[run + 1]
            run += 2
        units[0] -= run // 2
    else:
        run = three_run(p, 3 * units[0] if 3 * units[0] < n else n)
        memcpy(to, p, run)
        units[0] -= run // 3
    return run


cdef int write_json_units(Buffer out, const uint8_t* p, const StringShape* shape) except -1:
    """Append the string that ``string_shape`` has measured as a JSON string.

    Two units that are a pair of surrogates become one character, be they in two chunks.
    """
    cdef Py_ssize_t at = shape.start, end = shape.end, units = 0, run
    # There is always room for as many bytes as are left to read, and for the spare ones.
    cdef uint8_t* to = <uint8_t*>out.reserve(end - at + SPARE_BYTES)
    cdef uint32_t point = 0, high = 0
    cdef bint last = False
    cdef int size
    to[0] = c'"'
    to += 1
    while not last:
        last = p[at] != TAG_STRING_CHUNK
        at = string_head(p, end, at, &units)
        while units > 0:
            if high == 0:
                run = copy_run(p + at, end - at, &units, to)
                if run:
                    at += run
                    to += run
                    continue
            size = utf8_point(p + at, end - at, &point)
            at += size
            units -= 2 if size == 4 else 1
            if high and LOW_SURROGATE <= point <= SURROGATE_LAST:
                to = put_utf8(to, 0x10000 + ((high - HIGH_SURROGATE) << 10) + point - LOW_SURROGATE)
                high = 0
                continue
            if high:
                to = put_escape(to, high)
            high = point if HIGH_SURROGATE <= point < LOW_SURROGATE else 0
            if high == 0:
                to = put_unit(to, point)
            out.length = to - <uint8_t*>out.data
            to = <uint8_t*>out.reserve(end - at + SPARE_BYTES)
    if high:
        to = put_escape(to, high)
    to[0] = c'"'
    out.length = to + 1 - <uint8_t*>out.data
    return 0
