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

from dragoman.wire.hessian2.reader cimport date_of as moment_of

from dragoman.errors import LimitError, ProtocolError
from dragoman.wire.java import Long
from dragoman.wire.jsonb.classes import date_of, datetime_of, instant_of, time_of, zoned_of

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* type)
    double PyOS_string_to_double(const char* text, char** end, object error) except? -1.0

cdef enum:
    BIG_BYTES_MAX = 8192  # of a number: making its digits costs the square of its length


cdef inline uint32_t read32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t read64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>read32(p) << 32) | read32(p + 4)


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


cdef class JsonbCursor:
    """A place in bytes, and the value that begins there."""

    # ---- errors

    cdef object bad(self, str what, Py_ssize_t at):
        raise ProtocolError(f"fastjson2: {what} at byte {at}")

    cdef object cut(self, str what):
        raise ProtocolError(f"fastjson2: {what} is cut short at byte {self.n}")

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
        if tag >= 0xF0 or tag < 0x30:
            return <int8_t>tag
        if tag < 0x40:
            return ((<int64_t>tag - 0x38) << 8) + self.take(1, "a number")[0]
        if tag < 0x48:
            p = self.take(2, "a number")
            return ((<int64_t>tag - 0x44) << 16) + (p[0] << 8) + p[1]
        if tag == 0x48 or tag == 0xBF:
            return <int32_t>read32(self.take(4, "a number"))
        if 0xD8 <= tag:
            return <int64_t>tag - 0xE0
        if 0xC8 <= tag:
            return ((<int64_t>tag - 0xD0) << 8) + self.take(1, "a number")[0]
        if 0xC0 <= tag:
            p = self.take(2, "a number")
            return ((<int64_t>tag - 0xC4) << 16) + (p[0] << 8) + p[1]
        if tag == 0xBE:
            return <int64_t>read64(self.take(8, "a number"))
        if tag == 0xBD:
            return <int8_t>self.take(1, "a number")[0]
        if tag == 0xBC:
            p = self.take(2, "a number")
            return <int16_t>((p[0] << 8) | p[1])
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
        if tag == 0xBA:
            self.at += 1
            return self.number()
        if tag != 0xBB:
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
        if tag == 0xB2 or tag == 0xB3:
            return tag - 0xB2
        if tag == 0xB4 or tag == 0xB6:
            return <double>self.number()
        if tag == 0xB5:
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
        if 0x49 <= tag < 0x79:
            size = tag - 0x49
            return PyUnicode_DecodeLatin1(<const char*>self.take(size, "a text"), size, NULL)
        if tag == 0xAF:
            return None
        if not 0x79 <= tag < 0x7F:
            self.bad(f"no text but a value that begins with 0x{tag:02x}", at)
        # A negative length means a table of names that both sides were given beforehand.
        size = self.int32(0, 0x7FFFFFFF, "a text with a length")
        p = self.take(size, "a text")
        try:
            if tag == 0x79:
                return PyUnicode_DecodeLatin1(<const char*>p, size, NULL)
            if tag == 0x7A:
                return (<const char*>p)[:size].decode("utf-8", "surrogatepass")
            if tag == 0x7E:
                return (<const char*>p)[:size].decode("gb18030")
            if size % 2:
                self.bad(f"a text in UTF-16 of {size} bytes", at)
            if tag == 0x7D:
                order = 1
            elif tag == 0x7B:
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
            if tag != 0xA7:
                p = self.take(4, "a date")
                day = date_of(<int16_t>((p[0] << 8) | p[1]), p[2], p[3])
                if tag == 0xA9:
                    return day
            p = self.take(3, "a time")
            nano = <int>self.int32(0, 999999999, "nanoseconds")
            time = time_of(p[0], p[1], p[2], nano)
        except ValueError as error:
            raise ProtocolError(f"fastjson2: no date ({error}) at byte {at}") from None
        if tag == 0xA7:
            return time
        if tag == 0xA8:
            return datetime_of(day, time)
        zone = self.text()
        if zone is None:
            self.bad("a date with a zone that has none", at)
        return zoned_of(datetime_of(day, time), zone, self.exact)

    cdef object moment(self, uint8_t tag):
        """java.util.Date, or an Instant."""
        cdef int64_t seconds
        if tag == 0xAB:
            return moment_of(<int64_t>read64(self.take(8, "a date")))
        if tag == 0xAC:
            return moment_of(<int64_t>(<int32_t>read32(self.take(4, "a date"))) * 1000)
        if tag == 0xAD:
            return moment_of(<int64_t>(<int32_t>read32(self.take(4, "a date"))) * 60000)
        seconds = self.number()
        return instant_of(
            Long(seconds) if self.exact else seconds,
            self.int32(0, 999999999, "nanoseconds"), self.exact
        )
