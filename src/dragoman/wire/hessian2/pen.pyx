"""Single values of hessian2 as hessian-lite writes them: numbers, texts, bytes and dates.

``Hessian2Writer`` is built on it (the forms: ``hessian2.reader``). The invariant: a value takes the
shortest form that Java would choose for it.
"""

from libc.math cimport floor, signbit
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport put32, put64
from dragoman.wire.hessian2.string cimport write_hessian_string, write_text
from dragoman.wire.hessian2.tags cimport (
    BINARY_SHORT_MAX, BINARY_TINY_MAX, CHUNK_MAX, TAG_BINARY, TAG_BINARY_CHUNK, TAG_BINARY_SHORT,
    TAG_BINARY_TINY, TAG_DATE, TAG_DATE_MINUTES, TAG_DOUBLE, TAG_DOUBLE_BYTE, TAG_DOUBLE_MILLS,
    TAG_DOUBLE_ONE, TAG_DOUBLE_SHORT, TAG_DOUBLE_ZERO, TAG_FALSE, TAG_INT, TAG_INT_BYTE_ZERO,
    TAG_INT_SHORT_ZERO, TAG_INT_TINY_ZERO, TAG_LONG, TAG_LONG_BYTE_ZERO, TAG_LONG_INT,
    TAG_LONG_SHORT_ZERO, TAG_LONG_TINY_ZERO, TAG_NULL, TAG_TRUE,
)
from dragoman.wire.java.short_number cimport put_short_number


cdef class Hessian2Pen:
    """Writes single values to the end of ``out``; for compiled callers."""

    cdef int tag(self, uint8_t byte) except -1:
        self.out.reserve(1)[0] = <char>byte
        self.out.length += 1
        return 0

    cdef int null(self) except -1:
        return self.tag(TAG_NULL)

    cdef int boolean(self, bint value) except -1:
        return self.tag(TAG_TRUE if value else TAG_FALSE)

    cdef int int32(self, int32_t value) except -1:
        """An int."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(5)
        cdef int size = put_short_number(
            to, value, -16, 47, TAG_INT_TINY_ZERO, TAG_INT_BYTE_ZERO, TAG_INT_SHORT_ZERO
        )
        if size == 0:
            to[0] = TAG_INT
            put32(to + 1, <uint32_t>value)
            size = 5
        self.out.length += size
        return 0

    cdef int int64(self, int64_t value) except -1:
        """A long."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(9)
        cdef int size = put_short_number(
            to, value, -8, 15, TAG_LONG_TINY_ZERO, TAG_LONG_BYTE_ZERO, TAG_LONG_SHORT_ZERO
        )
        if size == 0:
            if -0x80000000 <= value <= 0x7FFFFFFF:
                to[0] = TAG_LONG_INT
                put32(to + 1, <uint32_t>value)
                size = 5
            else:
                to[0] = TAG_LONG
                put64(to + 1, <uint64_t>value)
                size = 9
        self.out.length += size
        return 0

    cdef int double(self, double value) except -1:
        """A double, in the form that Java chooses; only minus zero keeps its sign, unlike there."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(9)
        cdef int32_t whole, mills
        cdef uint64_t bits
        if -32768 <= value <= 32767 and floor(value) == value and not (
            value == 0 and signbit(value)
        ):
            whole = <int32_t>value
            if whole == 0 or whole == 1:
                to[0] = TAG_DOUBLE_ONE if whole else TAG_DOUBLE_ZERO
                self.out.length += 1
            elif -128 <= whole <= 127:
                to[0] = TAG_DOUBLE_BYTE
                to[1] = whole & 255
                self.out.length += 2
            else:
                to[0] = TAG_DOUBLE_SHORT
                to[1] = (whole >> 8) & 255
                to[2] = whole & 255
                self.out.length += 3
            return 0
        if -2147483.648 <= value <= 2147483.647 and not (value == 0 and signbit(value)):
            mills = <int32_t>(value * 1000)
            if 0.001 * <double>mills == value:
                to[0] = TAG_DOUBLE_MILLS
                put32(to + 1, <uint32_t>mills)
                self.out.length += 5
                return 0
        memcpy(&bits, &value, 8)
        to[0] = TAG_DOUBLE
        put64(to + 1, bits)
        self.out.length += 9
        return 0

    cdef int milliseconds(self, int64_t value) except -1:
        """A java.util.Date, in milliseconds since 1970."""
        cdef uint8_t* to = <uint8_t*>self.out.reserve(9)
        cdef int64_t minutes = value // 60000
        if minutes * 60000 == value and -0x80000000 <= minutes <= 0x7FFFFFFF:
            to[0] = TAG_DATE_MINUTES
            put32(to + 1, <uint32_t>minutes)
            self.out.length += 5
        else:
            to[0] = TAG_DATE
            put64(to + 1, <uint64_t>value)
            self.out.length += 9
        return 0

    cdef int text(self, str value) except -1:
        """A string, null for None."""
        if value is None:
            return self.null()
        return write_text(self.out, value)

    cdef int utf8(self, const char* data, Py_ssize_t n) except -1:
        """A string from UTF-8; 1, nothing written, when it is none."""
        return write_hessian_string(self.out, data, n)

    cdef int binary(self, const uint8_t* data, Py_ssize_t n) except -1:
        """Bytes."""
        cdef uint8_t* to
        cdef Py_ssize_t size
        while n > CHUNK_MAX:
            to = <uint8_t*>self.out.reserve(CHUNK_MAX + 3)
            to[0] = TAG_BINARY_CHUNK
            to[1] = CHUNK_MAX >> 8
            to[2] = CHUNK_MAX & 255
            memcpy(to + 3, data, CHUNK_MAX)
            self.out.length += CHUNK_MAX + 3
            data += CHUNK_MAX
            n -= CHUNK_MAX
        to = <uint8_t*>self.out.reserve(n + 3)
        if n <= BINARY_TINY_MAX:
            to[0] = TAG_BINARY_TINY + n
            size = 1
        elif n <= BINARY_SHORT_MAX:
            to[0] = TAG_BINARY_SHORT + (n >> 8)
            to[1] = n & 255
            size = 2
        else:
            to[0] = TAG_BINARY
            to[1] = n >> 8
            to[2] = n & 255
            size = 3
        memcpy(to + size, data, n)
        self.out.length += n + size
        return 0
