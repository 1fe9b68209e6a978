"""Single values of hessian2: numbers, texts, bytes and dates (the forms: ``hessian2.reader``).

``Hessian2Reader`` is built on it. The invariants: a length is believed only as far as bytes are
there, and whatever is wrong is a ProtocolError that names the byte.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport read16, read32, read64
from dragoman.wire.hessian2.heads cimport CUT_SHORT, NO_SUCH, binary_head, read_number
from dragoman.wire.hessian2.string cimport read_text
from dragoman.wire.hessian2.tags cimport (
    TAG_BINARY_CHUNK, TAG_DATE, TAG_DOUBLE_BYTE, TAG_DOUBLE_MILLS, TAG_DOUBLE_ONE,
    TAG_DOUBLE_SHORT, TAG_DOUBLE_ZERO, TAG_NULL, date_bytes, double_bytes, is_string,
)
from dragoman.wire.java.moment cimport moment_of

cdef object ZERO = 0.0, ONE = 1.0


cdef class Hessian2Cursor(BoundedReader):
    """A place in bytes, and the value that begins there."""

    def __cinit__(self):
        self.format = "hessian2"

    # ---- the next value

    cdef int32_t int32(self) except? -1:
        """The next value, which must be an int (or a long in its range)."""
        cdef Py_ssize_t at = self.at
        cdef int64_t number = self.number(self.tag())
        if not -0x80000000 <= number <= 0x7FFFFFFF:
            self.bad("a number beyond an int", at)
        return <int32_t>number

    cdef str text(self):
        """The next value, which must be a string or null."""
        cdef uint8_t tag = self.tag()
        if tag == TAG_NULL:
            return None
        if not is_string(tag):
            self.bad(f"no string but a value that begins with 0x{tag:02x}", self.at - 1)
        return self.string()

    # ---- what begins with a byte that has been taken

    cdef uint8_t tag(self) except? 255:
        """Take the byte that a value begins with."""
        if self.at >= self.n:
            self.cut("a value")
        self.at += 1
        return self.data[self.at - 1]

    cdef int64_t number(self, uint8_t tag) except? -1:
        """The int or long that begins with ``tag``, which has been taken."""
        cdef int64_t number = 0
        cdef int size = read_number(tag, self.data + self.at, self.n - self.at, &number)
        if size < 0:
            if size == CUT_SHORT:
                self.cut("a number")
            self.bad(f"no int but a value that begins with 0x{tag:02x}", self.at - 1)
        self.at += size
        return number

    cdef object double(self, uint8_t tag):
        """The double that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = double_bytes(tag)
        cdef uint64_t bits
        cdef double number
        if size > self.n - self.at:
            self.cut("a double")
        self.at += size
        if tag == TAG_DOUBLE_ZERO:
            return ZERO
        if tag == TAG_DOUBLE_ONE:
            return ONE
        if tag == TAG_DOUBLE_BYTE:
            return <double>(<int8_t>p[0])
        if tag == TAG_DOUBLE_SHORT:
            return <double>(<int16_t>read16(p))
        if tag == TAG_DOUBLE_MILLS:
            # As Java computes it: not the same as a division by 1000.
            return 0.001 * <double>(<int32_t>read32(p))
        bits = read64(p)
        memcpy(&number, &bits, 8)
        return number

    cdef object string(self):
        """The string whose first byte has been taken."""
        cdef Py_ssize_t end = 0
        cdef str result = read_text(self.data, self.n, self.at - 1, &end)
        if result is None:
            if end >= self.n:
                self.cut("a string")
            self.bad("a string's text or chunk is malformed", end)
        self.at = end
        return result

    cdef bytes binary(self):
        """The bytes whose first byte has been taken."""
        cdef Py_ssize_t start = self.at - 1, at = start, total = 0, size = 0
        cdef bytes result
        cdef char* to
        cdef int head
        cdef bint last = False
        while not last:
            head = binary_head(self.data + at, self.n - at, &size)
            if head == NO_SUCH:
                self.bad(f"no chunk of a binary value begins with 0x{self.data[at]:02x}", at)
            if head == CUT_SHORT:
                self.cut("a binary value")
            last = self.data[at] != TAG_BINARY_CHUNK
            total += size
            at += head + size
        self.at = at
        result = PyBytes_FromStringAndSize(NULL, total)
        to = PyBytes_AS_STRING(result)
        at = start
        while at < self.at:
            at += binary_head(self.data + at, self.n - at, &size)
            memcpy(to, self.data + at, size)
            to += size
            at += size
        return result

    cdef object date(self, uint8_t tag):
        """The date that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = date_bytes(tag)
        if size > self.n - self.at:
            self.cut("a date")
        self.at += size
        if tag == TAG_DATE:
            return moment_of(<int64_t>read64(p))
        return moment_of(<int64_t>(<int32_t>read32(p)) * 60000)
