"""hessian2 to JSON text, and past values, without making Python objects of them.

The agents answer HTTP with it and find where arguments end. A scanner is one stream, as a reader
is: references, classes and types are numbered through all its values, be they transcoded or
skipped.

| hessian2 | JSON |
| --- | --- |
| null, boolean, int, long, string | the same; half of a surrogate pair as ``\\ud83d`` |
| double | a number; ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` |
| date, java.sql.* | text in UTC with milliseconds: ``"2026-01-31T12:00:00.000Z"`` |
| binary | base64 |
| list | array |
| map | object; keys that are no text become it, containers as their JSON |
| object | object; ``class`` first when asked for |
| BigDecimal, BigInteger | a number with all its digits, at most 1,024 |
| enum (an object whose only field is ``name``), Class | its name |
| UUID, Locale, java.time | text in the usual form (ISO 8601) |
| reference | what it refers to, once more |

A throwable's ``cause`` that is itself (Java's way to say that there is none) is null; any other
cycle is refused. The invariants: the JSON is well formed and valid UTF-8; depth, containers and the
length of the JSON are bounded, references counted in; nothing is allocated by what is claimed, so
that memory beside the JSON is at most 64 bytes for each byte of input.

The table of references has for each the place of its JSON, so to write a value once more is one
copy. What is rewritten later (the parts of a date, a container that is a key) is copied aside
first.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.math cimport isfinite, isnan
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, strlen

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2_string cimport (
    StringShape, one_chunk, string_shape, utf8_point,
)
from dragoman.wire.jsonstring cimport JSON_OK, write_json_string
from dragoman.wire.jsontext cimport JSON_DEPTH_MAX, JSON_NUMBER_BYTES_MAX

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.hessian2_classes import HANDLE, JAVA8, json_text
from dragoman.wire.hessian2_reader import CONTAINERS_MAX

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* type)
    int Py_DTSF_ADD_DOT_0

cdef enum:
    JSON_BYTES = 64 * 1024 * 1024
    ROLES = 4
    NAMES_BYTES_MAX = 0x40000000
    HIDING_FIELDS_MAX = 256  # a class of more fields is not searched for two of one name
    OPEN = -1      # of Reference.end: still being written
    SKIPPED = -2

JSON_BYTES_MAX = JSON_BYTES
cdef Py_ssize_t CONTAINERS = CONTAINERS_MAX

# What a class is written as. The folds of one field come first, then those done here in C.
cdef enum:
    PLAIN
    AS_VALUE       # what its one field is, if that is text: enums, UUID, java.sql.*
    AS_PART        # what one of its fields is, whatever it is
    AS_NUMBER      # BigDecimal
    AS_DATE        # LocalDate
    AS_TIME        # LocalTime
    AS_DATETIME    # LocalDateTime
    BY_NAME        # the rest: by hessian2_classes.json_text

cdef struct ClassInfo:
    Py_ssize_t name, name_length    # in names, as a JSON string
    Py_ssize_t first, count         # in fields
    int kind
    int cause                       # the number of the field ``cause``, or -1

# Small, since a field may be a single byte on the wire.
cdef struct FieldInfo:
    uint32_t name, name_length      # in names, as a JSON string and a colon
    int8_t role                     # in its class's fold, or -1
    uint8_t hidden                  # by a field of the same name behind it

cdef struct Reference:
    Py_ssize_t start, end           # in json, or in aside
    int height
    bint aside

# Class -> how it is folded, and the fields that it is made of.
cdef dict FOLDS = {
    b"java.math.BigDecimal": (AS_NUMBER, (b"value",)),
    b"java.math.BigInteger": (BY_NAME, (b"signum", b"mag")),
    b"java.util.UUID": (BY_NAME, (b"value", b"mostSigBits", b"leastSigBits")),
    b"java.sql.Date": (AS_VALUE, (b"value",)),
    b"java.sql.Time": (AS_VALUE, (b"value",)),
    b"java.sql.Timestamp": (AS_VALUE, (b"value",)),
    b"java.io.File": (AS_VALUE, (b"value",)),
} | {
    (HANDLE + name).encode(): value
    for name, value in {
        "LocaleHandle": (AS_VALUE, (b"value",)),
        "CalendarHandle": (AS_VALUE, (b"date",)),
        "EnumSetHandler": (AS_PART, (b"objects",)),
    }.items()
} | {
    (JAVA8 + name).encode(): value
    for name, value in {
        "LocalDateHandle": (AS_DATE, (b"year", b"month", b"day")),
        "LocalTimeHandle": (AS_TIME, (b"hour", b"minute", b"second", b"nano")),
        "LocalDateTimeHandle": (AS_DATETIME, (b"date", b"time")),
        "InstantHandle": (BY_NAME, (b"seconds", b"nanos")),
        "DurationHandle": (BY_NAME, (b"seconds", b"nanos")),
        "PeriodHandle": (BY_NAME, (b"years", b"months", b"days")),
        "YearHandle": (AS_PART, (b"year",)),
        "YearMonthHandle": (BY_NAME, (b"year", b"month")),
        "MonthDayHandle": (BY_NAME, (b"month", b"day")),
        "OffsetDateTimeHandle": (BY_NAME, (b"dateTime", b"offset")),
        "OffsetTimeHandle": (BY_NAME, (b"localTime", b"zoneOffset")),
        "ZonedDateTimeHandle": (BY_NAME, (b"dateTime", b"offset", b"zoneId")),
        "ZoneOffsetHandle": (BY_NAME, (b"seconds",)),
        "ZoneIdHandle": (AS_VALUE, (b"zoneId",)),
    }.items()
}
cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


cdef inline uint32_t read32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t read64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>read32(p) << 32) | read32(p + 4)


cdef int put(Buffer out, const char* text) except -1:
    return out.append(text, strlen(text))


cdef inline int put_byte(Buffer out, char byte) except -1:
    out.reserve(1)[0] = byte
    out.length += 1
    return 0


cdef int put_int(Buffer out, int64_t value) except -1:
    """A number in decimal."""
    cdef char digits[24]
    cdef int at = 24
    cdef uint64_t rest = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    while True:
        at -= 1
        digits[at] = 48 + <char>(rest % 10)
        rest //= 10
        if rest == 0:
            break
    if value < 0:
        at -= 1
        digits[at] = 45
    return out.append(digits + at, 24 - at)


cdef int put_thousandths(Buffer out, int64_t value) except -1:
    """A number in thousandths as a decimal fraction, as Python writes it."""
    cdef char* to
    cdef int64_t rest
    if value < 0:
        put_byte(out, 45)
        value = -value
    put_int(out, value // 1000)
    rest = value % 1000
    to = out.reserve(4)
    to[0] = 46
    to[1] = 48 + <char>(rest // 100)
    to[2] = 48 + <char>(rest // 10 % 10)
    to[3] = 48 + <char>(rest % 10)
    out.length += 2 if rest % 100 == 0 else 3 if rest % 10 == 0 else 4
    return 0


cdef inline char* two(char* to, int value) noexcept nogil:
    to[0] = 48 + value // 10
    to[1] = 48 + value % 10
    return to + 2


cdef int put_year(Buffer out, int64_t year) except -1:
    """As ISO 8601 has it: four digits, with a sign if they are not enough."""
    cdef char* to
    if 0 <= year <= 9999:
        to = out.reserve(4)
        two(two(to, <int>(year // 100)), <int>(year % 100))
        out.length += 4
        return 0
    put_byte(out, 45 if year < 0 else 43)
    year = -year if year < 0 else year
    if year < 1000:
        out.append(b"000", 3 if year < 10 else 2 if year < 100 else 1)
    return put_int(out, year)


cdef int put_date(Buffer out, int64_t year, int month, int day) except -1:
    cdef char* to
    put_year(out, year)
    to = out.reserve(6)
    to[0] = 45
    to = two(to + 1, month)
    to[0] = 45
    two(to + 1, day)
    out.length += 6
    return 0


cdef int put_moment(Buffer out, int64_t ms) except -1:
    """``"2026-01-31T12:00:00.000Z"`` with its quotes."""
    cdef int64_t days = ms // 86400000, rest = ms - days * 86400000
    cdef int64_t z, era, of_era, year_of_era, of_year, shifted, month
    cdef char* to
    if rest < 0:  # C's division
        rest += 86400000
        days -= 1
    # The Gregorian calendar in eras of 400 years that begin on the first of March.
    z = days + 719468
    era = (z if z >= 0 else z - 146096) // 146097
    of_era = z - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    put_byte(out, 34)
    put_date(
        out, year_of_era + era * 400 + (1 if month <= 2 else 0), <int>month,
        <int>(of_year - (153 * shifted + 2) // 5 + 1),
    )
    to = out.reserve(15)
    to[0] = 84  # T
    to = two(to + 1, <int>(rest // 3600000))
    to[0] = 58
    to = two(to + 1, <int>(rest // 60000 % 60))
    to[0] = 58
    to = two(to + 1, <int>(rest // 1000 % 60))
    to[0] = 46
    to[1] = 48 + <char>(rest // 100 % 10)
    two(to + 2, <int>(rest % 100))
    to[4] = 90  # Z
    to[5] = 34
    out.length += 15
    return 0


cdef int put_point(Buffer out, uint32_t point) except -1:
    """One character of a JSON string."""
    cdef uint8_t* to = <uint8_t*>out.reserve(6)
    cdef int i
    if point < 0x20 or point == 34 or point == 92 or 0xD800 <= point <= 0xDFFF:
        if point == 34 or point == 92:
            to[0] = 92
            to[1] = point
            out.length += 2
            return 0
        to[0] = 92
        to[1] = 117  # u
        for i in range(4):
            to[5 - i] = b"0123456789abcdef"[(point >> (4 * i)) & 15]
        out.length += 6
    elif point < 0x80:
        to[0] = point
        out.length += 1
    elif point < 0x800:
        to[0] = 0xC0 | (point >> 6)
        to[1] = 0x80 | (point & 63)
        out.length += 2
    elif point < 0x10000:
        to[0] = 0xE0 | (point >> 12)
        to[1] = 0x80 | ((point >> 6) & 63)
        to[2] = 0x80 | (point & 63)
        out.length += 3
    else:
        to[0] = 0xF0 | (point >> 18)
        to[1] = 0x80 | ((point >> 12) & 63)
        to[2] = 0x80 | ((point >> 6) & 63)
        to[3] = 0x80 | (point & 63)
        out.length += 4
    return 0


cdef bint is_number(const char* p, Py_ssize_t n) noexcept nogil:
    """Whether ``p[:n]`` is a number as JSON has it (RFC 8259 section 6)."""
    cdef Py_ssize_t i = 0, start
    if i < n and p[i] == 45:
        i += 1
    start = i
    while i < n and 48 <= p[i] <= 57:
        i += 1
    if i == start or (p[start] == 48 and i > start + 1):
        return False
    if i < n and p[i] == 46:
        i += 1
        start = i
        while i < n and 48 <= p[i] <= 57:
            i += 1
        if i == start:
            return False
    if i < n and (p[i] == 69 or p[i] == 101):
        i += 1
        if i < n and (p[i] == 43 or p[i] == 45):
            i += 1
        start = i
        while i < n and 48 <= p[i] <= 57:
            i += 1
        if i == start:
            return False
    return i == n


cdef bint small_int(const char* p, Py_ssize_t n, int64_t* value) noexcept nogil:
    """Whether ``p[:n]`` is an int of at most 10 digits."""
    cdef Py_ssize_t i = 1 if n > 0 and p[0] == 45 else 0
    if n == i or n - i > 10:
        return False
    value[0] = 0
    while i < n:
        if not 48 <= p[i] <= 57:
            return False
        value[0] = value[0] * 10 + (p[i] - 48)
        i += 1
    if p[0] == 45:
        value[0] = -value[0]
    return True


cdef class Hessian2Scanner:
    """Turns the values of one stream into JSON, or skips them, one after another.

    ``data`` is kept until the scanner goes or starts again. Beans have a member ``class`` first
    if ``with_class``. ``enums`` are the names of the classes that are enums, if they are known;
    else every class whose only field is ``name`` is taken for one: the bytes do not tell.
    ProtocolError with the place where something is wrong, LimitError beyond ``depth_max``,
    ``containers_max`` or ``json_bytes_max``; afterwards the scanner has to start again.
    """

    def __init__(
        self, data=b"", *, bint with_class=False, enums=None, int depth_max=JSON_DEPTH_MAX,
        Py_ssize_t containers_max=CONTAINERS, Py_ssize_t json_bytes_max=JSON_BYTES
    ):
        cdef bytes kept = data if isinstance(data, bytes) else bytes(memoryview(data))
        if not 1 <= depth_max <= 2000:
            raise UsageError(f"depth_max is 1 to 2000, not {depth_max}")
        if containers_max < 0 or json_bytes_max < 0:
            raise UsageError("containers_max and json_bytes_max are no less than 0")
        self.with_class = with_class
        self.enums = None if enums is None else frozenset(
            [name.encode("utf-8", "surrogatepass") for name in enums]
        )
        self.depth_max = depth_max
        self.containers_max = containers_max
        self.json_bytes_max = json_bytes_max
        self.json = Buffer()
        self.aside = Buffer()
        self.names = Buffer()
        self.classes = Buffer()
        self.fields = Buffer()
        self.references = Buffer()
        self.start(kept, <const uint8_t*>PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))

    cdef int start(self, object owner, const uint8_t* data, Py_ssize_t n) except -1:
        """Begin a stream with ``data[:n]``, which ``owner`` keeps alive (for compiled callers)."""
        self.owner = owner
        self.data = data
        self.n = n
        self.at = 0
        self.json.clear()
        self.aside.clear()
        self.names.clear()
        self.classes.clear()
        self.fields.clear()
        self.references.clear()
        self.class_count = 0
        self.type_count = 0
        self.reference_count = 0
        self.containers_left = self.containers_max
        return 0

    # ---- for Python callers

    def read_json(self):
        """The JSON text of the next value, UTF-8."""
        cdef Py_ssize_t length = 0
        cdef const char* text = self.value(&length)
        return text[:length]

    def skip_value(self):
        """Pass over the next value."""
        self.skip()

    @property
    def at_end(self):
        """Whether all has been read."""
        return self.at >= self.n

    # ---- for compiled callers

    cdef int32_t int32(self) except? -1:
        """The next value, which must be an int (or a long in its range)."""
        cdef Py_ssize_t at = self.at
        cdef int64_t number
        if at >= self.n:
            self.cut("a value")
        self.at += 1
        number = self.number(self.data[at])
        if not -0x80000000 <= number <= 0x7FFFFFFF:
            self.bad("a number beyond an int", at)
        return <int32_t>number

    cdef int text(self, Buffer out) except -1:
        """Append the next value, which must be a string, to ``out`` as a JSON string; 1 for null.
        """
        cdef uint8_t tag
        if self.at >= self.n:
            self.cut("a value")
        tag = self.data[self.at]
        if tag == 78:
            self.at += 1
            return 1
        if not (tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53):
            self.bad(f"no string but a value that begins with 0x{tag:02x}", self.at)
        self.put_text(out)
        return 0

    cdef int skip(self) except -1:
        """Pass over the next value. What refers to it later cannot be transcoded."""
        self.pass_value(0)
        return 0

    cdef const char* value(self, Py_ssize_t* length) except NULL:
        """The JSON of the next value, and its length; it lasts until the next call."""
        cdef Py_ssize_t start = self.json.length
        self.any(0)
        length[0] = self.json.length - start
        return self.json.data + start

    # ---- errors

    cdef object bad(self, str what, Py_ssize_t at):
        raise ProtocolError(f"hessian2: {what} at byte {at}")

    cdef object cut(self, str what):
        raise ProtocolError(f"hessian2: {what} is cut short at byte {self.n}")

    cdef object too_much(self):
        raise LimitError(
            f"hessian2: more than {self.json_bytes_max} bytes of JSON at byte {self.at}"
        )

    # ---- pieces

    cdef int64_t number(self, uint8_t tag) except? -1:
        """The int or long that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef Py_ssize_t left = self.n - self.at
        cdef int size = -1
        cdef int64_t result = 0
        if 0x80 <= tag <= 0xBF:
            return <int64_t>tag - 0x90
        if 0xD8 <= tag <= 0xEF:
            return <int64_t>tag - 0xE0
        if 0xC0 <= tag <= 0xCF or tag >= 0xF0:
            size = 1
            if left >= 1:
                result = (<int64_t>tag - (0xC8 if tag < 0xF0 else 0xF8)) * 256 + p[0]
        elif 0xD0 <= tag <= 0xD7 or 0x38 <= tag <= 0x3F:
            size = 2
            if left >= 2:
                result = (
                    (<int64_t>tag - (0xD4 if tag >= 0xD0 else 0x3C)) * 65536 + (p[0] << 8) + p[1]
                )
        elif tag == 73 or tag == 0x59:
            size = 4
            if left >= 4:
                result = <int32_t>read32(p)
        elif tag == 76:
            size = 8
            if left >= 8:
                result = <int64_t>read64(p)
        else:
            self.bad(f"no int but a value that begins with 0x{tag:02x}", self.at - 1)
        if left < size:
            self.cut("a number")
        self.at += size
        return result

    cdef int put_text(self, Buffer out) except -1:
        """The string at ``at`` as a JSON string; only passed over if ``out`` is None."""
        cdef StringShape shape
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at, units = 0
        cdef uint32_t point = 0, high = 0
        cdef bint last
        cdef int size
        if out is not None:
            at = one_chunk(p, self.n, self.at, &units)
            if at >= 0 and write_json_string(out, <const char*>p + at, units) == JSON_OK:
                self.at = at + units
                return 0
        if string_shape(p, self.n, self.at, &shape):
            if shape.end >= self.n:
                self.cut("a string")
            self.bad("a string's text or chunk is malformed", shape.end)
        self.at = shape.end
        if out is None:
            return 0
        put_byte(out, 34)
        at = shape.start
        while True:
            last = p[at] != 0x52
            if p[at] < 0x20:
                units = p[at]
                at += 1
            elif p[at] < 0x34:
                units = ((p[at] - 0x30) << 8) | p[at + 1]
                at += 2
            else:
                units = (p[at + 1] << 8) | p[at + 2]
                at += 3
            while units > 0:
                size = utf8_point(p + at, shape.end - at, &point)
                at += size
                units -= 2 if size == 4 else 1
                if high:
                    if 0xDC00 <= point <= 0xDFFF:
                        put_point(out, 0x10000 + ((high - 0xD800) << 10) + (point - 0xDC00))
                        high = 0
                        continue
                    put_point(out, high)
                    high = 0
                if 0xD800 <= point <= 0xDBFF:
                    high = point
                else:
                    put_point(out, point)
            if last:
                break
        if high:
            put_point(out, high)
        return put_byte(out, 34)

    cdef int put_double(self, uint8_t tag) except -1:
        """The double that begins with ``tag``, which has been taken."""
        cdef const uint8_t* p = self.data + self.at
        cdef int size = (
            0 if tag <= 0x5C else 1 if tag == 0x5D else 2 if tag == 0x5E else 4 if tag == 0x5F
            else 8
        )
        cdef double number
        cdef int64_t thousandths
        cdef uint64_t bits
        cdef char* text
        if tag == 68:
            size = 8
        if self.n - self.at < size:
            self.cut("a double")
        self.at += size
        if size == 0:
            return put(self.json, b"1.0" if tag == 0x5C else b"0.0")
        if size == 1 or size == 2:
            put_int(
                self.json,
                <int8_t>p[0] if size == 1 else <int16_t>((<uint16_t>p[0] << 8) | p[1])
            )
            return put(self.json, b".0")
        if size == 4:
            thousandths = <int32_t>read32(p)
            number = 0.001 * <double>thousandths
            if number == <double>thousandths / 1000.0:
                # Of at most 15 digits, so the decimal fraction is the shortest text for it.
                return put_thousandths(self.json, thousandths)
        else:
            bits = read64(p)
            memcpy(&number, &bits, 8)
        if not isfinite(number):
            return put(
                self.json,
                b'"NaN"' if isnan(number) else b'"Infinity"' if number > 0 else b'"-Infinity"'
            )
        text = PyOS_double_to_string(number, 114, 0, Py_DTSF_ADD_DOT_0, NULL)
        if text == NULL:
            raise MemoryError("no memory for the text of a double")
        try:
            return put(self.json, text)
        finally:
            PyMem_Free(text)

    cdef Py_ssize_t pass_binary(self) except -1:
        """Pass over the binary value at ``at``; how many bytes it holds."""
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at = self.at, total = 0, size, head
        cdef bint last = False
        while not last:
            if at >= self.n:
                self.cut("a binary value")
            last = p[at] != 0x41
            if 0x20 <= p[at] < 0x30:
                head = 1
                size = p[at] - 0x20
            elif 0x34 <= p[at] < 0x38:
                head = 2
                size = ((p[at] - 0x34) << 8) + p[at + 1] if self.n - at > 1 else 0
            elif p[at] == 0x41 or p[at] == 0x42:
                head = 3
                size = (p[at + 1] << 8) + p[at + 2] if self.n - at > 2 else 0
            else:
                self.bad(f"no chunk of a binary value begins with 0x{p[at]:02x}", at)
            if self.n - at < head + size:
                self.cut("a binary value")
            at += head + size
            total += size
        self.at = at
        return total

    cdef int put_binary(self) except -1:
        """The binary value at ``at`` in base64."""
        cdef const uint8_t* p = self.data
        cdef Py_ssize_t at = self.at, size, i, total = self.pass_binary()
        cdef uint8_t* to = <uint8_t*>self.json.reserve((total + 2) // 3 * 4 + 2)
        cdef uint32_t gathered = 0
        cdef int held = 0
        cdef bint last = False
        to[0] = 34
        to += 1
        while not last:
            last = p[at] != 0x41
            if 0x20 <= p[at] < 0x30:
                size = p[at] - 0x20
                at += 1
            elif 0x34 <= p[at] < 0x38:
                size = ((p[at] - 0x34) << 8) + p[at + 1]
                at += 2
            else:
                size = (p[at + 1] << 8) + p[at + 2]
                at += 3
            for i in range(size):
                gathered = (gathered << 8) | p[at + i]
                held += 1
                if held == 3:
                    to[0] = BASE64[(gathered >> 18) & 63]
                    to[1] = BASE64[(gathered >> 12) & 63]
                    to[2] = BASE64[(gathered >> 6) & 63]
                    to[3] = BASE64[gathered & 63]
                    to += 4
                    held = 0
            at += size
        if held:
            gathered <<= 8 * (3 - held)
            to[0] = BASE64[(gathered >> 18) & 63]
            to[1] = BASE64[(gathered >> 12) & 63]
            to[2] = BASE64[(gathered >> 6) & 63] if held == 2 else 61
            to[3] = 61
            to += 4
        to[0] = 34
        self.json.length = (to + 1) - <uint8_t*>self.json.data
        return 0

    cdef int pass_type(self) except -1:
        """The type of a list or a map."""
        cdef Py_ssize_t at = self.at
        cdef uint8_t tag
        cdef int64_t index
        if at >= self.n:
            self.cut("a type")
        tag = self.data[at]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            self.type_count += 1
            return self.put_text(None)
        self.at += 1
        index = self.number(tag)
        if not 0 <= index < self.type_count:
            self.bad(f"type {index} of {self.type_count}", at)
        return 0

    cdef Py_ssize_t enter(self, Py_ssize_t at) except -1:
        """Count a container, and give it its place among the references."""
        cdef Reference* reference
        if self.containers_left <= 0:
            raise LimitError(
                f"hessian2: more than {self.containers_max} lists, maps and objects at byte {at}"
            )
        self.containers_left -= 1
        reference = <Reference*>self.references.reserve(sizeof(Reference))
        reference.start = self.json.length
        reference.end = OPEN
        reference.height = 0
        reference.aside = False
        self.references.length += sizeof(Reference)
        self.reference_count += 1
        return self.reference_count - 1

    cdef int define(self) except -1:
        """A class definition whose first byte has been taken."""
        cdef Py_ssize_t at = self.at, length
        cdef int64_t count, i
        cdef ClassInfo* known
        cdef ClassInfo made
        cdef FieldInfo* field
        cdef tuple roles = ()
        cdef uint64_t letters = 0, letter
        cdef bytes name = None
        cdef const char* text
        made.kind = PLAIN
        made.cause = -1
        made.name = self.names.length
        if self.text(self.names):
            self.bad("a class without a name", at)
        made.name_length = self.names.length - made.name
        text = self.names.data + made.name + 1
        length = made.name_length - 2
        if length == 0:
            self.bad("a class without a name", at)
        if length > 5 and (memcmp(text, b"java.", 5) == 0 or memcmp(text, b"com.a", 5) == 0):
            found = FOLDS.get(text[:length])
            if found is not None:
                made.kind = found[0]
                roles = found[1]
        at = self.at
        if at >= self.n:
            self.cut("a class definition")
        self.at += 1
        count = self.number(self.data[at])
        if not 0 <= count <= self.n - self.at:
            self.bad(f"a class of {count} fields in {self.n - self.at} bytes", at)
        made.first = <Py_ssize_t>(self.fields.length // sizeof(FieldInfo))
        made.count = count
        for i in range(count):
            field = <FieldInfo*>self.fields.reserve(sizeof(FieldInfo))
            self.fields.length += sizeof(FieldInfo)
            if self.names.length > NAMES_BYTES_MAX:
                raise LimitError(
                    f"hessian2: more than {NAMES_BYTES_MAX} bytes of names at byte {self.at}"
                )
            field.name = <uint32_t>self.names.length
            field.role = -1
            field.hidden = False
            at = self.at
            if self.text(self.names):
                self.bad("a field without a name", at)
            put_byte(self.names, 58)
            field.name_length = <uint32_t>(self.names.length - field.name)
            text = self.names.data + field.name + 1
            length = field.name_length - 3
            # Almost never are there two of one name: look only where they might be.
            letter = 1ULL << ((length * 7 + <uint8_t>text[0] + 3 * <uint8_t>text[length - 1]) & 63)
            if letters & letter and i < HIDING_FIELDS_MAX:
                self.hide(made.first, i)
            letters |= letter
            if roles:
                name = text[:length]
                if name in roles:
                    field.role = roles.index(name)
            elif length == 5 and memcmp(text, b"cause", 5) == 0:
                made.cause = <int>i
            elif count == 1 and length == 4 and memcmp(text, b"name", 4) == 0:
                name = (self.names.data + made.name + 1)[:made.name_length - 2]
                if self.enums is None or name == b"java.lang.Class" or name in self.enums:
                    made.kind = AS_VALUE
                    field.role = 0
        known = <ClassInfo*>self.classes.reserve(sizeof(ClassInfo))
        known[0] = made
        self.classes.length += sizeof(ClassInfo)
        self.class_count += 1
        return 0

    cdef int hide(self, Py_ssize_t first, Py_ssize_t last) except -1:
        """Mark the fields from ``first`` on that have the name of the one ``last`` after it.

        A subclass may have a field of the same name; Java's reader, too, takes the last.
        """
        cdef FieldInfo* fields = (<FieldInfo*>self.fields.data) + first
        cdef Py_ssize_t i
        for i in range(last):
            if fields[i].name_length == fields[last].name_length and memcmp(
                self.names.data + fields[i].name, self.names.data + fields[last].name,
                fields[i].name_length
            ) == 0:
                fields[i].hidden = True
        return 0

    # ---- to JSON; each returns how high the value is, 0 for what does not nest

    cdef int any(self, int depth) except -1:
        """The next value."""
        cdef Py_ssize_t at = self.at
        cdef const uint8_t* p = self.data + at
        cdef uint8_t tag
        if at >= self.n:
            self.cut("a value")
        if <Py_ssize_t>(self.json.length + self.aside.length) > self.json_bytes_max:
            self.too_much()
        tag = p[0]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            self.put_text(self.json)
            return 0
        self.at = at + 1
        if tag >= 0x80 or tag == 73 or tag == 76 or tag == 0x59 or 0x38 <= tag < 0x40:
            put_int(self.json, self.number(tag))
            return 0
        if tag == 78:
            return put(self.json, b"null")
        if tag == 84:
            return put(self.json, b"true")
        if tag == 70:
            return put(self.json, b"false")
        if 0x5B <= tag <= 0x5F or tag == 68:
            return self.put_double(tag)
        if tag < 0x30 or 0x34 <= tag < 0x38 or tag == 0x41 or tag == 0x42:
            self.at = at
            return self.put_binary()
        if tag == 0x4A:
            if self.n - at < 9:
                self.cut("a date")
            self.at = at + 9
            return put_moment(self.json, <int64_t>read64(p + 1))
        if tag == 0x4B:
            if self.n - at < 5:
                self.cut("a date")
            self.at = at + 5
            return put_moment(self.json, <int64_t>(<int32_t>read32(p + 1)) * 60000)
        if tag == 0x51:
            return self.put_reference(depth)
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        while tag == 67:
            self.define()
            at = self.at
            if at >= self.n:
                self.cut("a value")
            tag = self.data[at]
            if not (tag == 67 or 0x60 <= tag < 0x70 or tag == 79):
                return self.any(depth + 1)
            self.at = at + 1
        if 0x60 <= tag < 0x70:
            return self.put_object(tag - 0x60, at, depth + 1)
        if tag == 79:
            if self.at >= self.n:
                self.cut("an object")
            self.at += 1
            return self.put_object(self.number(self.data[self.at - 1]), at, depth + 1)
        if tag == 72 or tag == 77:
            return self.put_map(tag == 77, depth + 1)
        if 0x70 <= tag or 0x55 <= tag <= 0x58:
            return self.put_list(tag, depth + 1)
        self.bad(f"no value begins with 0x{tag:02x}", at)

    cdef int put_list(self, uint8_t tag, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1), at
        cdef int64_t count = -1, i = 0
        cdef int height = 0, inner
        if tag == 0x55 or tag == 0x56 or 0x70 <= tag < 0x78:
            self.pass_type()
        if tag >= 0x70:
            count = tag & 7
        elif tag == 0x56 or tag == 0x58:
            at = self.at
            if at >= self.n:
                self.cut("a list")
            self.at += 1
            count = self.number(self.data[at])
            if not 0 <= count <= 0x7FFFFFFF:
                self.bad(f"a list of {count} values", at)
        if count > self.n - self.at:
            self.cut(f"a list of {count} values")
        put_byte(self.json, 91)
        while i != count:
            if count < 0:
                if self.at >= self.n:
                    self.cut("a list")
                if self.data[self.at] == 90:
                    self.at += 1
                    break
            if i:
                put_byte(self.json, 44)
            inner = self.any(depth)
            if inner > height:
                height = inner
            i += 1
        put_byte(self.json, 93)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef int put_map(self, bint typed, int depth) except -1:
        cdef Py_ssize_t own = self.enter(self.at - 1)
        cdef int height = 0, inner
        cdef bint first = True
        if typed:
            self.pass_type()
        put_byte(self.json, 123)
        while True:
            if self.at >= self.n:
                self.cut("a map")
            if self.data[self.at] == 90:
                self.at += 1
                break
            if not first:
                put_byte(self.json, 44)
            first = False
            self.key(depth)
            put_byte(self.json, 58)
            inner = self.any(depth)
            if inner > height:
                height = inner
        put_byte(self.json, 125)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef int key(self, int depth) except -1:
        """A map's key, which JSON wants to be text."""
        cdef Py_ssize_t start = self.json.length, length
        cdef Py_ssize_t first = self.reference_count, i
        cdef char* text
        cdef Buffer copied
        self.any(depth)
        text = self.json.data + start
        length = self.json.length - start
        if text[0] == 34:
            return 0
        if text[0] != 123 and text[0] != 91:
            # A number or a word.
            self.json.reserve(2)
            text = self.json.data + start
            memmove(text + 1, text, length)
            text[0] = 34
            text[length + 1] = 34
            self.json.length += 2
            for i in range(first, self.reference_count):
                if not (<Reference*>self.references.data)[i].aside:
                    (<Reference*>self.references.data)[i].start += 1
                    (<Reference*>self.references.data)[i].end += 1
            return 0
        self.keep_aside(start, first)
        copied = Buffer()
        copied.append(text, length)
        self.json.length = start
        write_json_string(self.json, copied.data, length)
        return 0

    cdef int put_object(self, int64_t index, Py_ssize_t at, int depth) except -1:
        cdef Py_ssize_t own, start, member, before
        cdef bint first = True
        cdef Py_ssize_t spans[2 * ROLES]
        cdef ClassInfo known
        cdef FieldInfo field
        cdef int height = 0, inner
        cdef Py_ssize_t i
        if not 0 <= index < self.class_count:
            self.bad(f"class {index} of {self.class_count}", at)
        own = self.enter(at)
        known = (<ClassInfo*>self.classes.data)[index]
        for i in range(2 * ROLES):
            spans[i] = -1
        start = self.json.length
        put_byte(self.json, 123)
        if self.with_class and known.kind == PLAIN:
            put(self.json, b'"class":')
            self.json.append(self.names.data + known.name, known.name_length)
            first = False
        for i in range(known.count):
            field = (<FieldInfo*>self.fields.data)[known.first + i]
            member = self.json.length
            before = self.reference_count
            if not first:
                put_byte(self.json, 44)
            self.json.append(self.names.data + field.name, field.name_length)
            if field.role >= 0:
                spans[2 * field.role] = self.json.length
            if i == known.cause and self.is_reference_to(own):
                put(self.json, b"null")
                first = False
                continue
            inner = self.any(depth)
            if inner > height:
                height = inner
            if field.hidden:
                self.keep_aside(member, before)
                self.json.length = member
                continue
            first = False
            if field.role >= 0:
                spans[2 * field.role + 1] = self.json.length
        put_byte(self.json, 125)
        if known.kind != PLAIN:
            self.fold(known.kind, index, start, own, spans)
        (<Reference*>self.references.data)[own].end = self.json.length
        (<Reference*>self.references.data)[own].height = height + 1
        return height + 1

    cdef bint is_reference_to(self, Py_ssize_t number) except -1:
        """Whether the next value is a reference to ``number``, which is then passed over."""
        cdef Py_ssize_t at = self.at
        if self.n - at < 2 or self.data[at] != 0x51:
            return False
        self.at += 2
        if self.number(self.data[at + 1]) == number:
            return True
        self.at = at
        return False

    cdef int put_reference(self, int depth) except -1:
        cdef Py_ssize_t at = self.at - 1, length
        cdef int64_t index
        cdef Reference* found
        cdef char* to
        if self.at >= self.n:
            self.cut("a reference")
        self.at += 1
        index = self.number(self.data[at + 1])
        if not 0 <= index < self.reference_count:
            self.bad(f"reference {index} of {self.reference_count}", at)
        found = (<Reference*>self.references.data) + index
        if found.end == OPEN:
            self.bad("a value that contains itself, which JSON cannot say,", at)
        if found.end == SKIPPED:
            self.bad("a reference to a value that was skipped", at)
        if depth + found.height > self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        length = found.end - found.start
        if <Py_ssize_t>(self.json.length + self.aside.length) + length > self.json_bytes_max:
            self.too_much()
        to = self.json.reserve(length)
        memcpy(to, (self.aside.data if found.aside else self.json.data) + found.start, length)
        self.json.length += length
        return found.height

    cdef int keep_aside(self, Py_ssize_t start, Py_ssize_t first) except -1:
        """Copy what the references from ``first`` on have in ``json[start:]``, which will change.

        All of them that are not aside yet must be there.
        """
        cdef Py_ssize_t i, offset
        cdef Reference* reference
        if first == self.reference_count:
            return 0
        offset = <Py_ssize_t>self.aside.length - start
        self.aside.append(self.json.data + start, self.json.length - start)
        for i in range(first, self.reference_count):
            reference = (<Reference*>self.references.data) + i
            if not reference.aside:
                reference.start += offset
                reference.end += offset
                reference.aside = True
        return 0

    cdef int fold(
        self, int kind, int64_t index, Py_ssize_t start, Py_ssize_t own, const Py_ssize_t* spans
    ) except -1:
        """Put in the place of an object's members what it stands for, if they are as expected."""
        cdef Buffer json = self.json
        cdef char* text = json.data
        cdef Py_ssize_t length = spans[1] - spans[0]
        cdef int64_t a = 0, b = 0, c = 0, d = 0
        cdef int role
        cdef char* to
        cdef char both[48]
        if kind == AS_VALUE or kind == AS_PART or kind == AS_NUMBER:
            if spans[1] < 0 or (kind != AS_PART and text[spans[0]] != 34):
                return 0
            if kind == AS_NUMBER:
                if length - 2 > JSON_NUMBER_BYTES_MAX:
                    raise LimitError(
                        f"hessian2: a number of more than {JSON_NUMBER_BYTES_MAX} digits"
                        f" at byte {self.at}"
                    )
                if not is_number(text + spans[0] + 1, length - 2):
                    return 0
                length -= 2
            self.keep_aside(start, own + 1)
            memmove(text + start, text + spans[0] + (1 if kind == AS_NUMBER else 0), length)
            json.length = start + length
            return 0
        if kind == AS_DATE:
            if not (
                small_int(text + spans[0], spans[1] - spans[0], &a)
                and small_int(text + spans[2], spans[3] - spans[2], &b)
                and small_int(text + spans[4], spans[5] - spans[4], &c)
                and 1 <= b <= 12 and 1 <= c <= 31
            ):
                return 0
            self.keep_aside(start, own + 1)
            json.length = start
            put_byte(json, 34)
            put_date(json, a, <int>b, <int>c)
            return put_byte(json, 34)
        if kind == AS_TIME:
            if not (
                small_int(text + spans[0], spans[1] - spans[0], &a)
                and small_int(text + spans[2], spans[3] - spans[2], &b)
                and small_int(text + spans[4], spans[5] - spans[4], &c)
                and small_int(text + spans[6], spans[7] - spans[6], &d)
                and 0 <= a <= 23 and 0 <= b <= 59 and 0 <= c <= 59 and 0 <= d <= 999999999
            ):
                return 0
            self.keep_aside(start, own + 1)
            json.length = start
            to = json.reserve(20)
            to[0] = 34
            to = two(to + 1, <int>a)
            to[0] = 58
            to = two(to + 1, <int>b)
            to[0] = 58
            to = two(to + 1, <int>c)
            if d:
                to[0] = 46
                role = 9
                while role > 0:
                    to[role] = 48 + <char>(d % 10)
                    d //= 10
                    role -= 1
                role = 9
                while to[role] == 48:
                    role -= 1
                to += role + 1
            to[0] = 34
            json.length = (to + 1) - json.data
            return 0
        if kind == AS_DATETIME:
            # A date is text without T, a time is text with colons; neither has an escape.
            if (
                spans[1] < 0 or spans[3] < 0 or not 12 <= spans[1] - spans[0] <= 20
                or not 10 <= spans[3] - spans[2] <= 20 or text[spans[0]] != 34
                or text[spans[2]] != 34 or text[spans[2] + 3] != 58
                or text[spans[1] - 4] != 45 or memchr(text + spans[0], 84, length) != NULL
                or memchr(text + spans[0], 92, length) != NULL
                or memchr(text + spans[2], 92, spans[3] - spans[2]) != NULL
            ):
                return 0
            memcpy(both, text + spans[0], length - 1)
            both[length - 1] = 84
            memcpy(both + length, text + spans[2] + 1, spans[3] - spans[2] - 1)
            self.keep_aside(start, own + 1)
            json.length = start
            return json.append(both, length + spans[3] - spans[2] - 1)
        # The rare ones in Python.
        name = (self.names.data + (<ClassInfo*>self.classes.data)[index].name + 1)[
            :(<ClassInfo*>self.classes.data)[index].name_length - 2
        ]
        parts = [
            text[spans[2 * role]:spans[2 * role + 1]] if spans[2 * role + 1] >= 0 else None
            for role in range(ROLES)
        ]
        folded = json_text(name.decode(), parts)
        if folded is None:
            return 0
        if len(folded) > JSON_NUMBER_BYTES_MAX and folded[0] != 34:
            raise LimitError(
                f"hessian2: a number of more than {JSON_NUMBER_BYTES_MAX} digits at byte {self.at}"
            )
        self.keep_aside(start, own + 1)
        json.length = start
        return json.append(PyBytes_AS_STRING(folded), PyBytes_GET_SIZE(folded))

    # ---- past values

    cdef int pass_value(self, int depth) except -1:
        """The next value leaves nothing but its entries in the tables."""
        cdef Py_ssize_t at = self.at, own
        cdef uint8_t tag
        cdef int64_t count, index, i
        cdef int size
        if at >= self.n:
            self.cut("a value")
        tag = self.data[at]
        if tag < 0x20 or 0x30 <= tag < 0x34 or tag == 0x52 or tag == 0x53:
            return self.put_text(None)
        self.at = at + 1
        if tag >= 0x80 or tag == 73 or tag == 76 or tag == 0x59 or 0x38 <= tag < 0x40:
            self.number(tag)
            return 0
        if tag == 78 or tag == 84 or tag == 70:
            return 0
        if tag < 0x30 or 0x34 <= tag < 0x38 or tag == 0x41 or tag == 0x42:
            self.at = at
            self.pass_binary()
            return 0
        if 0x5B <= tag <= 0x5F or tag == 68 or tag == 0x4A or tag == 0x4B:
            size = 0
            if tag == 68 or tag == 0x4A:
                size = 8
            elif tag == 0x4B or tag == 0x5F:
                size = 4
            elif tag >= 0x5D:
                size = tag - 0x5C
            if self.n - self.at < size:
                self.cut("a value")
            self.at += size
            return 0
        if tag == 0x51:
            if self.at >= self.n:
                self.cut("a reference")
            self.at += 1
            index = self.number(self.data[at + 1])
            if not 0 <= index < self.reference_count:
                self.bad(f"reference {index} of {self.reference_count}", at)
            return 0
        if depth >= self.depth_max:
            raise LimitError(f"hessian2: nested deeper than {self.depth_max} at byte {at}")
        while tag == 67:
            self.define()
            at = self.at
            if at >= self.n:
                self.cut("a value")
            tag = self.data[at]
            if not (tag == 67 or 0x60 <= tag < 0x70 or tag == 79):
                return self.pass_value(depth + 1)
            self.at = at + 1
        if 0x60 <= tag < 0x70 or tag == 79:
            index = tag - 0x60
            if tag == 79:
                if self.at >= self.n:
                    self.cut("an object")
                self.at += 1
                index = self.number(self.data[self.at - 1])
            if not 0 <= index < self.class_count:
                self.bad(f"class {index} of {self.class_count}", at)
            own = self.enter(at)
            (<Reference*>self.references.data)[own].end = SKIPPED
            count = (<ClassInfo*>self.classes.data)[index].count
            for i in range(count):
                self.pass_value(depth + 1)
            return 0
        if tag == 72 or tag == 77:
            own = self.enter(at)
            (<Reference*>self.references.data)[own].end = SKIPPED
            if tag == 77:
                self.pass_type()
            while True:
                if self.at >= self.n:
                    self.cut("a map")
                if self.data[self.at] == 90:
                    self.at += 1
                    return 0
                self.pass_value(depth + 1)
                self.pass_value(depth + 1)
        if not (0x70 <= tag or 0x55 <= tag <= 0x58):
            self.bad(f"no value begins with 0x{tag:02x}", at)
        own = self.enter(at)
        (<Reference*>self.references.data)[own].end = SKIPPED
        if tag == 0x55 or tag == 0x56 or 0x70 <= tag < 0x78:
            self.pass_type()
        count = -1
        if tag >= 0x70:
            count = tag & 7
        elif tag == 0x56 or tag == 0x58:
            at = self.at
            if at >= self.n:
                self.cut("a list")
            self.at += 1
            count = self.number(self.data[at])
            if not 0 <= count <= 0x7FFFFFFF:
                self.bad(f"a list of {count} values", at)
        i = 0
        while i != count:
            if count < 0:
                if self.at >= self.n:
                    self.cut("a list")
                if self.data[self.at] == 90:
                    self.at += 1
                    return 0
            self.pass_value(depth + 1)
            i += 1
        return 0


# A scanner of the usual options that ``to_json`` has done with, and will use again.
cdef Hessian2Scanner spare = None


def to_json(
    data, *, bint with_class=False, enums=None, int depth_max=JSON_DEPTH_MAX,
    Py_ssize_t containers_max=CONTAINERS, Py_ssize_t json_bytes_max=JSON_BYTES
):
    """The JSON text, in UTF-8, of the one value that ``data`` is."""
    global spare
    cdef bytes kept = data if isinstance(data, bytes) else bytes(memoryview(data))
    cdef Hessian2Scanner scanner = spare
    cdef bint usual = (
        depth_max == JSON_DEPTH_MAX and containers_max == CONTAINERS
        and json_bytes_max == JSON_BYTES and not with_class and enums is None
    )
    if scanner is None or not usual:
        scanner = Hessian2Scanner(
            kept, with_class=with_class, enums=enums, depth_max=depth_max,
            containers_max=containers_max, json_bytes_max=json_bytes_max
        )
    else:
        # Taken away while it is in use: other threads come.
        spare = None
        scanner.start(kept, <const uint8_t*>PyBytes_AS_STRING(kept), PyBytes_GET_SIZE(kept))
    result = scanner.read_json()
    if scanner.at != scanner.n:
        scanner.bad("more than one value", scanner.at)
    if usual:
        scanner.start(None, NULL, 0)
        spare = scanner
    return result
