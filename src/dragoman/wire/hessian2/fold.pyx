"""Objects whose JSON is no object: which classes, made of which fields, and dates and times.

``hessian2.walker`` looks classes up where they are defined, ``hessian2.scanner`` folds their
objects. The invariant: what does not have the fields that it should have, or not of the kind that
they should be, is left an object.
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
    cdef Py_ssize_t length = spans[1] - spans[0]
    cdef int64_t a = 0, b = 0, c = 0, d = 0
    cdef int role
    cdef char* to
    if kind == AS_DATE:
        if not (
            small_int(text + spans[0], spans[1] - spans[0], &a)
            and small_int(text + spans[2], spans[3] - spans[2], &b)
            and small_int(text + spans[4], spans[5] - spans[4], &c)
            and 1 <= b <= 12 and 1 <= c <= 31
        ):
            return 0
        put_byte(out, 34)
        put_date(out, a, <int>b, <int>c)
        put_byte(out, 34)
        return 1
    if kind == AS_TIME:
        if not (
            small_int(text + spans[0], spans[1] - spans[0], &a)
            and small_int(text + spans[2], spans[3] - spans[2], &b)
            and small_int(text + spans[4], spans[5] - spans[4], &c)
            and small_int(text + spans[6], spans[7] - spans[6], &d)
            and 0 <= a <= 23 and 0 <= b <= 59 and 0 <= c <= 59 and 0 <= d <= 999999999
        ):
            return 0
        to = out.reserve(20)
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
        out.length = (to + 1) - out.data
        return 1
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
        out.append(text + spans[0], length - 1)
        put_byte(out, 84)
        out.append(text + spans[2] + 1, spans[3] - spans[2] - 1)
        return 1
    return 0
