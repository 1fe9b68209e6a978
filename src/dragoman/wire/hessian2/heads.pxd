# Numbers and the heads of chunks: how hessian2 says a length, in the tag and the bytes behind it.
#
# Reader and walker take their numbers and lengths with these. No byte beyond the end is looked at.

from libc.stdint cimport int32_t, int64_t, uint8_t

from dragoman.wire.big_endian cimport read16, read32, read64
from dragoman.wire.hessian2.tags cimport (
    TAG_BINARY, TAG_BINARY_CHUNK, TAG_BINARY_SHORT, TAG_BINARY_SHORT_END, TAG_BINARY_TINY,
    TAG_BINARY_TINY_END, TAG_INT, TAG_INT_BYTE, TAG_INT_BYTE_END, TAG_INT_BYTE_ZERO, TAG_INT_SHORT,
    TAG_INT_SHORT_END, TAG_INT_SHORT_ZERO, TAG_INT_TINY, TAG_INT_TINY_END, TAG_INT_TINY_ZERO,
    TAG_LONG, TAG_LONG_BYTE, TAG_LONG_BYTE_ZERO, TAG_LONG_INT, TAG_LONG_SHORT, TAG_LONG_SHORT_END,
    TAG_LONG_SHORT_ZERO, TAG_LONG_TINY, TAG_LONG_TINY_END, TAG_LONG_TINY_ZERO, TAG_STRING,
    TAG_STRING_CHUNK, TAG_STRING_SHORT, TAG_STRING_SHORT_END, TAG_STRING_TINY_END,
)

cdef enum:
    CUT_SHORT = -1
    NO_SUCH = -2    # the tag is another kind of value's


cdef inline int read_number(
    uint8_t tag, const uint8_t* p, Py_ssize_t left, int64_t* number
) noexcept nogil:
    """The int or long of a tag and of ``p[:left]`` behind it; how many of these bytes it takes, or
    CUT_SHORT, or NO_SUCH.
    """
    if TAG_INT_TINY <= tag < TAG_INT_TINY_END:
        number[0] = <int64_t>tag - TAG_INT_TINY_ZERO
        return 0
    if TAG_LONG_TINY <= tag < TAG_LONG_TINY_END:
        number[0] = <int64_t>tag - TAG_LONG_TINY_ZERO
        return 0
    if TAG_INT_BYTE <= tag < TAG_INT_BYTE_END or TAG_LONG_BYTE <= tag:
        if left < 1:
            return CUT_SHORT
        number[0] = p[0] + 256 * (
            <int64_t>tag - (TAG_INT_BYTE_ZERO if tag < TAG_LONG_BYTE else TAG_LONG_BYTE_ZERO)
        )
        return 1
    if TAG_INT_SHORT <= tag < TAG_INT_SHORT_END or TAG_LONG_SHORT <= tag < TAG_LONG_SHORT_END:
        if left < 2:
            return CUT_SHORT
        number[0] = <int64_t>read16(p) + 65536 * (
            <int64_t>tag - (TAG_INT_SHORT_ZERO if tag >= TAG_INT_SHORT else TAG_LONG_SHORT_ZERO)
        )
        return 2
    if tag == TAG_INT or tag == TAG_LONG_INT:
        if left < 4:
            return CUT_SHORT
        number[0] = <int32_t>read32(p)
        return 4
    if tag == TAG_LONG:
        if left < 8:
            return CUT_SHORT
        number[0] = <int64_t>read64(p)
        return 8
    return NO_SUCH


cdef inline Py_ssize_t string_head(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* units
) noexcept nogil:
    """Where the text of the chunk at ``p[at]`` begins and how many units it has; -1 where there is
    no such head, or not all of it.
    """
    cdef uint8_t tag
    if at >= n:
        return -1
    tag = p[at]
    if tag < TAG_STRING_TINY_END:
        units[0] = tag
        return at + 1
    if TAG_STRING_SHORT <= tag < TAG_STRING_SHORT_END and n - at >= 2:
        units[0] = ((tag - TAG_STRING_SHORT) << 8) | p[at + 1]
        return at + 2
    if (tag == TAG_STRING or tag == TAG_STRING_CHUNK) and n - at >= 3:
        units[0] = read16(p + at + 1)
        return at + 3
    return -1


cdef inline int binary_head(const uint8_t* p, Py_ssize_t left, Py_ssize_t* size) noexcept nogil:
    """How many bytes the head of the chunk ``p[:left]`` takes, and how many follow it; CUT_SHORT
    where they are not all there, NO_SUCH where it is no chunk.
    """
    cdef int head
    if left < 1:
        return CUT_SHORT
    if TAG_BINARY_TINY <= p[0] < TAG_BINARY_TINY_END:
        head = 1
        size[0] = p[0] - TAG_BINARY_TINY
    elif TAG_BINARY_SHORT <= p[0] < TAG_BINARY_SHORT_END:
        head = 2
        size[0] = ((p[0] - TAG_BINARY_SHORT) << 8) + p[1] if left > 1 else 0
    elif p[0] == TAG_BINARY or p[0] == TAG_BINARY_CHUNK:
        head = 3
        size[0] = read16(p + 1) if left > 2 else 0
    else:
        return NO_SUCH
    return head if left >= head + size[0] else CUT_SHORT
