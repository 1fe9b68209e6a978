"""Single values of JSONB: numbers, texts and dates, byte by byte (the forms: ``jsonb.reader``).

``JsonbReader`` is built on it. The invariants: a length is believed only as far as bytes are
there, the digits of a number are bounded, and whatever is wrong is a ProtocolError that names the
byte.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF16
from libc.math cimport fabs, floor, isfinite
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.wire.big_endian cimport read16, read32, read64
from dragoman.wire.jsonb.tags cimport (
    TAG_ASCII, TAG_ASCII_TINY, TAG_BIGINTEGER, TAG_BIGINTEGER_LONG, TAG_BYTE, TAG_DOUBLE,
    TAG_DOUBLE_LONG, TAG_DOUBLE_ONE, TAG_DOUBLE_ZERO, TAG_FLOAT_INT, TAG_GB18030, TAG_INT,
    TAG_INT_BYTE_END, TAG_INT_BYTE_ZERO, TAG_INT_SHORT_END, TAG_INT_SHORT_ZERO, TAG_INT_TINY,
    TAG_INT_TINY_END, TAG_LOCAL_DATE, TAG_LOCAL_DATETIME, TAG_LOCAL_TIME, TAG_LONG, TAG_LONG_BYTE,
    TAG_LONG_BYTE_ZERO, TAG_LONG_INT, TAG_LONG_SHORT, TAG_LONG_SHORT_ZERO, TAG_LONG_TINY,
    TAG_LONG_TINY_ZERO, TAG_MILLISECONDS, TAG_MINUTES, TAG_NULL, TAG_SECONDS, TAG_SHORT, TAG_UTF16,
    TAG_UTF16_BIG, TAG_UTF8, is_text,
)
from dragoman.wire.java.moment cimport moment_of

from dragoman.errors import LimitError, ProtocolError
from dragoman.wire.java import Long
from dragoman.wire.jsonb.classes import date_of, datetime_of, instant_of, time_of, zoned_of

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* type)
    double PyOS_string_to_double(const char* text, char** end, object error) except? -1.0

cdef enum:
    BIG_BYTES_MAX = 8192  # of a number: making its digits costs the square of its length


# Powers of ten that a double holds beside the 24 bits of a float.
cdef double[13] TENS
TENS[:] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12]


cdef double shortest(float single) except? -1:
    """The double that is written as the float is: 0.1 for Java's 0.1f, not 0.10000000149011612.

    Of the decimal fractions that read as this float it is the one of the fewest digits. What is
    multiplied here has at most 53 bits, so that nothing is rounded but the digits themselves.
    """
    cdef double value = single, size = fabs(value), made
    cdef int whole, digits, places
    cdef char* text
    if not isfinite(value) or value == floor(value) and size < 16777216:
        return value
    if 1e-3 <= size < 1e9:
        whole = 0
        while size >= TENS[whole]:
            whole += 1
        # Zeros behind the point are no digits; a few more places cost nothing.
        for places in range(max(0, 6 - whole), 13):
            if size * TENS[places] >= 4503599627370496.0:
                break
            made = floor(size * TENS[places] + 0.5) / TENS[places]
            if <float>made == <float>size:
                return made if value > 0 else -made
    # Below the least normal float there are fewer digits to tell.
    for digits in range(6 if size > 1.2e-38 else 2, 10):
        text = PyOS_double_to_string(value, 101, digits - 1, 0, NULL)
        if text == NULL:
            raise MemoryError("no memory for the text of a float")
        try:
            made = PyOS_string_to_double(text, NULL, None)
        finally:
            PyMem_Free(text)
        if <float>made == single:
            return made
    return value


cdef class JsonbCursor(BoundedReader):
    """A place in bytes, and the value that begins there."""

    def __cinit__(self):
        self.format = "fastjson2"

    cdef const uint8_t* take(self, Py_ssize_t count, str what) except NULL:
        """The next ``count`` bytes."""
        cdef const uint8_t* p = self.data + self.at
        if count > self.n - self.at:
            self.cut(what)
        self.at += count
        return p

    # ---- numbers

    cdef int64_t number(self) except? -1:
        """An int or a long."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag = self.take(1, "a number")[0]
        cdef const uint8_t* p
        if tag >= TAG_INT_TINY or tag < TAG_INT_TINY_END:
            return <int8_t>tag
        if tag < TAG_INT_BYTE_END:
            return ((<int64_t>tag - TAG_INT_BYTE_ZERO) << 8) + self.take(1, "a number")[0]
        if tag < TAG_INT_SHORT_END:
            p = self.take(2, "a number")
            return ((<int64_t>tag - TAG_INT_SHORT_ZERO) << 16) + read16(p)
        if tag == TAG_INT or tag == TAG_LONG_INT:
            return <int32_t>read32(self.take(4, "a number"))
        if TAG_LONG_TINY <= tag:
            return <int64_t>tag - TAG_LONG_TINY_ZERO
        if TAG_LONG_BYTE <= tag:
            return ((<int64_t>tag - TAG_LONG_BYTE_ZERO) << 8) + self.take(1, "a number")[0]
        if TAG_LONG_SHORT <= tag:
            p = self.take(2, "a number")
            return ((<int64_t>tag - TAG_LONG_SHORT_ZERO) << 16) + read16(p)
        if tag == TAG_LONG:
            return <int64_t>read64(self.take(8, "a number"))
        if tag == TAG_BYTE:
            return <int8_t>self.take(1, "a number")[0]
        if tag == TAG_SHORT:
            return <int16_t>read16(self.take(2, "a number"))
        self.bad(f"no number but a value that begins with 0x{tag:02x}", at)

    cdef int64_t int32(self, int64_t least, int64_t most, str what) except? -1:
        """A number in a range: lengths, scales and such."""
        cdef Py_ssize_t at = self.at
        cdef int64_t number = self.number()
        if not least <= number <= most:
            self.bad(f"{what} of {number}", at)
        return number

    cdef object integer(self):
        """The number of a BigDecimal, or what follows the mark of a BigInteger."""
        cdef uint8_t tag
        cdef int64_t size
        if self.at >= self.n:
            self.cut("a number")
        tag = self.data[self.at]
        if tag == TAG_BIGINTEGER_LONG:
            self.at += 1
            return self.number()
        if tag != TAG_BIGINTEGER:
            return self.number()
        self.at += 1
        size = self.int32(1, 0x7FFFFFFF, "a number with a length")
        if size > BIG_BYTES_MAX:
            raise LimitError(f"fastjson2: a number of {size} bytes at byte {self.at}")
        data = PyBytes_FromStringAndSize(<const char*>self.take(size, "a number"), size)
        return int.from_bytes(data, "big", signed=True)

    cdef double fraction(self, uint8_t tag) except? -1:
        """A double or a float whose mark has been taken."""
        cdef uint32_t bits32
        cdef uint64_t bits64
        cdef float single
        cdef double real
        if tag == TAG_DOUBLE_ZERO or tag == TAG_DOUBLE_ONE:
            return tag == TAG_DOUBLE_ONE
        if tag == TAG_DOUBLE_LONG or tag == TAG_FLOAT_INT:
            return <double>self.number()
        if tag == TAG_DOUBLE:
            bits64 = read64(self.take(8, "a number"))
            memcpy(&real, &bits64, 8)
            return real
        bits32 = read32(self.take(4, "a number"))
        memcpy(&single, &bits32, 4)
        return shortest(single)

    # ---- texts

    cdef str text(self):
        """A text, whatever its encoding; None for null."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag = self.take(1, "a text")[0]
        cdef const uint8_t* p
        cdef int64_t size
        cdef int order = -1
        if TAG_ASCII_TINY <= tag < TAG_ASCII:
            size = tag - TAG_ASCII_TINY
            return PyUnicode_DecodeLatin1(<const char*>self.take(size, "a text"), size, NULL)
        if tag == TAG_NULL:
            return None
        if not is_text(tag):
            self.bad(f"no text but a value that begins with 0x{tag:02x}", at)
        # A negative length means a table of names that both sides were given beforehand.
        size = self.int32(0, 0x7FFFFFFF, "a text with a length")
        p = self.take(size, "a text")
        try:
            if tag == TAG_ASCII:
                return PyUnicode_DecodeLatin1(<const char*>p, size, NULL)
            if tag == TAG_UTF8:
                return (<const char*>p)[:size].decode("utf-8", "surrogatepass")
            if tag == TAG_GB18030:
                return (<const char*>p)[:size].decode("gb18030")
            if size % 2:
                self.bad(f"a text in UTF-16 of {size} bytes", at)
            if tag == TAG_UTF16_BIG:
                order = 1
            elif tag == TAG_UTF16:
                order = -1 if size >= 2 and p[0] == 0xFF and p[1] == 0xFE else 1
                if size >= 2 and p[0] + p[1] == 0xFE + 0xFF and p[0] >= 0xFE:
                    p += 2
                    size -= 2
            return PyUnicode_DecodeUTF16(<char*>p, size, "surrogatepass", &order)
        except UnicodeDecodeError as error:
            raise ProtocolError(f"fastjson2: a text that is none ({error}) at byte {at}") from None

    # ---- dates

    cdef object date(self, uint8_t tag):
        """LocalTime, LocalDateTime, LocalDate, or one with a zone."""
        cdef Py_ssize_t at = self.at - 1
        cdef const uint8_t* p
        cdef object day = None, time
        cdef int nano
        try:
            if tag != TAG_LOCAL_TIME:
                p = self.take(4, "a date")
                day = date_of(<int16_t>read16(p), p[2], p[3])
                if tag == TAG_LOCAL_DATE:
                    return day
            p = self.take(3, "a time")
            nano = <int>self.int32(0, 999999999, "nanoseconds")
            time = time_of(p[0], p[1], p[2], nano)
        except ValueError as error:
            raise ProtocolError(f"fastjson2: no date ({error}) at byte {at}") from None
        if tag == TAG_LOCAL_TIME:
            return time
        if tag == TAG_LOCAL_DATETIME:
            return datetime_of(day, time)
        zone = self.text()
        if zone is None:
            self.bad("a date with a zone that has none", at)
        return zoned_of(datetime_of(day, time), zone, self.exact)

    cdef object moment(self, uint8_t tag):
        """java.util.Date, or an Instant."""
        cdef int64_t seconds
        if tag == TAG_MILLISECONDS:
            return moment_of(<int64_t>read64(self.take(8, "a date")))
        if tag == TAG_SECONDS:
            return moment_of(<int64_t>(<int32_t>read32(self.take(4, "a date"))) * 1000)
        if tag == TAG_MINUTES:
            return moment_of(<int64_t>(<int32_t>read32(self.take(4, "a date"))) * 60000)
        seconds = self.number()
        return instant_of(
            Long(seconds) if self.exact else seconds,
            self.int32(0, 999999999, "nanoseconds"), self.exact
        )
