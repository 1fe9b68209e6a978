"""Objects whose JSON is no object: which classes, made of which fields, and dates and times.

``hessian2.walker`` looks classes up where they are defined, ``hessian2.scanner`` folds their
objects. The invariant: an object without the fields that its class should have, or with fields of
another kind, is left an object.
"""

from libc.stdint cimport int64_t
from libc.string cimport memchr

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.numbers cimport put_byte, put_date, small_int, two

from dragoman.wire.java.jdk import HANDLE, JAVA8, WITHOUT_ELEMENTS

# Class -> how it is folded, and the fields that it is made of.
cdef dict FOLDS = {
    b"java.math.BigDecimal": (AS_NUMBER, (b"value",)),
    b"java.math.BigInteger": (BY_NAME, (b"signum", b"mag")),
    b"java.util.UUID": (BY_NAME, (b"value", b"mostSigBits", b"leastSigBits")),
    b"java.sql.Date": (AS_VALUE, (b"value",)),
    b"java.sql.Time": (AS_VALUE, (b"value",)),
    b"java.sql.Timestamp": (AS_VALUE, (b"value",)),
    b"java.io.File": (AS_VALUE, (b"value",)),
    b"java.util.Currency": (AS_VALUE, (b"currencyCode",)),
    b"java.util.concurrent.atomic.AtomicInteger": (AS_PART, (b"value",)),
    b"java.util.concurrent.atomic.AtomicLong": (AS_PART, (b"value",)),
    b"java.util.concurrent.atomic.AtomicBoolean": (BY_NAME, (b"value",)),
    WITHOUT_ELEMENTS.encode(): (LOST, ()),
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


cdef tuple fold_of(bytes name):
    """How objects of a class are folded, and the fields that it takes; None: not at all."""
    return FOLDS.get(name)


cdef int fold_time(Buffer out, int kind, const char* text, const Py_ssize_t* spans) except -1:
    """Append the text of a date, a time or both, whose fields' JSON is at ``spans`` in ``text``; 0
    if they are not as expected.
    """
    if kind == AS_DATE:
        return fold_local_date(out, text, spans)
    if kind == AS_TIME:
        return fold_local_time(out, text, spans)
    if kind == AS_DATETIME:
        return fold_datetime(out, text, spans)
    return 0


cdef inline bint part(
    const char* text, const Py_ssize_t* spans, int role, int64_t* number
) noexcept nogil:
    """Whether a field is a small int, and which."""
    return small_int(text + spans[2 * role], spans[2 * role + 1] - spans[2 * role], number)


cdef int fold_local_date(Buffer out, const char* text, const Py_ssize_t* spans) except -1:
    cdef int64_t year = 0, month = 0, day = 0
    if not (
        part(text, spans, 0, &year) and part(text, spans, 1, &month) and part(text, spans, 2, &day)
        and 1 <= month <= 12 and 1 <= day <= 31
    ):
        return 0
    put_byte(out, c'"')
    put_date(out, year, <int>month, <int>day)
    put_byte(out, c'"')
    return 1


cdef int fold_local_time(Buffer out, const char* text, const Py_ssize_t* spans) except -1:
    """With as many digits of the second as are needed."""
    cdef int64_t hour = 0, minute = 0, second = 0, nano = 0
    cdef int digit
    cdef char* to
    if not (
        part(text, spans, 0, &hour) and part(text, spans, 1, &minute)
        and part(text, spans, 2, &second) and part(text, spans, 3, &nano)
        and 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59
        and 0 <= nano <= 999999999
    ):
        return 0
    to = out.reserve(20)
    to[0] = c'"'
    to = two(to + 1, <int>hour)
    to[0] = c':'
    to = two(to + 1, <int>minute)
    to[0] = c':'
    to = two(to + 1, <int>second)
    if nano:
        to[0] = c'.'
        for digit in range(9, 0, -1):
            to[digit] = c'0' + <char>(nano % 10)
            nano //= 10
        digit = 9
        while to[digit] == c'0':
            digit -= 1
        to += digit + 1
    to[0] = c'"'
    out.length = (to + 1) - out.data
    return 1


cdef int fold_datetime(Buffer out, const char* text, const Py_ssize_t* spans) except -1:
    """A date is text without T, a time is text with colons; neither has an escape."""
    cdef const char* date = text + spans[0]
    cdef const char* time = text + spans[2]
    cdef Py_ssize_t date_length = spans[1] - spans[0], time_length = spans[3] - spans[2]
    if spans[1] < 0 or spans[3] < 0 or not (12 <= date_length <= 20 and 10 <= time_length <= 20):
        return 0
    if date[0] != c'"' or date[date_length - 4] != c'-' or time[0] != c'"' or time[3] != c':':
        return 0
    if (
        memchr(date, c'T', date_length) != NULL or memchr(date, c'\\', date_length) != NULL
        or memchr(time, c'\\', time_length) != NULL
    ):
        return 0
    out.append(date, date_length - 1)
    put_byte(out, c'T')
    out.append(time + 1, time_length - 1)
    return 1
