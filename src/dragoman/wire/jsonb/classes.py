"""The classes that JSONB has its own way for: short names, and values of the JDK as bytes.

The reader and the writer of JSONB call this by class name. fastjson2 writes well-known classes by
short names (``TreeMap``, ``[O``); hessian's names of arrays (``[int``) are those of the data model
(``dragoman.wire.java``). The invariant: these tables are all there is; nothing is looked up by
what a peer names, and a class that is not in them keeps its name and its fields.
"""

from __future__ import annotations

import datetime
import decimal
import re
import struct
import uuid
from collections.abc import Callable, Set
from decimal import Decimal
from typing import Any, Final

from dragoman.errors import UsageError
from dragoman.wire.java import BEAN_CLASSES, ENUM_CLASSES, Date
from dragoman.wire.java.bean import Bean
from dragoman.wire.java.from_bean import FROM_BEAN
from dragoman.wire.java.jdk import EPOCH, HANDLE, JAVA8, offset_id

_PACKAGES = {
    "com.alibaba.fastjson2": "JSONArray JSONObject",
    "java.lang": "AutoCloseable Boolean Byte Character Cloneable Double Exception Float"
    " IllegalAccessError IllegalAccessException IllegalArgumentException"
    " IllegalMonitorStateException IllegalStateException IllegalThreadStateException"
    " IndexOutOfBoundsException InstantiationError InstantiationException Integer InternalError"
    " InterruptedException LinkageError Long NegativeArraySizeException NoClassDefFoundError"
    " NoSuchFieldError NoSuchFieldException NoSuchMethodError NoSuchMethodException"
    " NullPointerException Number NumberFormatException Object OutOfMemoryError RuntimeException"
    " SecurityException Short StackOverflowError StackTraceElement String"
    " StringIndexOutOfBoundsException TypeNotPresentException VerifyError",
    "java.math": "BigDecimal BigInteger",
    "java.text": "SimpleDateFormat",
    "java.util": "BitSet Calendar Currency Date HashSet Hashtable IdentityHashMap LinkedHashSet"
    " LinkedList Locale TreeMap TreeSet UUID WeakHashMap",
    "java.util.concurrent": "ConcurrentHashMap ConcurrentLinkedDeque ConcurrentLinkedQueue"
    " ConcurrentSkipListMap ConcurrentSkipListSet TimeUnit",
    "java.util.concurrent.atomic": "AtomicInteger AtomicLong",
}
# Java's name -> that on the wire.
SHORT: Final = {
    f"{package}.{name}": name for package, names in _PACKAGES.items() for name in names.split()
} | {"java.util.LinkedHashMap": "LM", "java.util.HashMap": "M", "java.util.ArrayList": "A"}
# The classes of java.time that are written by their fields: the name in the data model.
_HANDLES = {
    f"java.time.{name}": f"{JAVA8}{name}Handle" for name in ("Year", "YearMonth", "MonthDay")
}
# A name on the wire -> that of the data model. What is not here stands for itself.
LONG: Final = (
    {short: name for name, short in SHORT.items()}
    | {
        "ArrayList": "java.util.ArrayList",
        "HashMap": "java.util.HashMap",
        "LinkedHashMap": "java.util.LinkedHashMap",
        "LA": "java.util.LinkedList",
        "List": "java.util.ArrayList",
        "Set": "java.util.HashSet",
        "EmptyMap": "java.util.HashMap",
        "java.util.Collections$EmptyMap": "java.util.HashMap",
        "java.util.ImmutableCollections$Map1": "java.util.HashMap",
        "java.util.ImmutableCollections$MapN": "java.util.LinkedHashMap",
        "java.util.ImmutableCollections$Set12": "java.util.LinkedHashSet",
        "java.util.ImmutableCollections$SetN": "java.util.LinkedHashSet",
        "JSONArray": "java.util.ArrayList",
        "JSONObject": "java.util.HashMap",
        "JO1": "java.util.HashMap",
        "JA1": "java.util.ArrayList",
    }
    | _HANDLES
)
_BY_FIELDS = {handle: name for name, handle in _HANDLES.items()}
# Maps of the JDK: what has another class and names its members is a bean.
MAPS: Final = frozenset((
    "java.util.HashMap", "java.util.LinkedHashMap", "java.util.TreeMap", "java.util.Hashtable",
    "java.util.IdentityHashMap", "java.util.WeakHashMap", "java.util.EnumMap",
    "java.util.Properties", "java.util.concurrent.ConcurrentHashMap",
    "java.util.concurrent.ConcurrentSkipListMap", "java.util.Collections$UnmodifiableMap",
    "java.util.Collections$SynchronizedMap", "java.util.Collections$SingletonMap",
))  # fmt: skip
# What these are read as needs no type: a list or a map says it all.
PLAIN: Final = frozenset(("java.util.ArrayList", "java.util.HashMap", "java.util.Arrays$ArrayList"))

# An element of an array on the wire -> in the data model.
_ELEMENTS = {
    "B": "byte", "S": "short", "I": "int", "J": "long", "F": "float", "D": "double", "C": "char",
    "Z": "boolean", "O": "object", "Object": "object", "String": "string", "Date": "date",
    "java.util.Date": "date", "java.lang.String": "string", "java.lang.Object": "object",
}  # fmt: skip
_WIRE_ELEMENTS = {
    "byte": "B", "short": "S", "int": "I", "long": "J", "float": "F", "double": "D", "char": "C",
    "boolean": "Z", "object": "O", "string": "String", "date": "Date",
}  # fmt: skip


def model_name(wire: str) -> str:
    """The name of the data model for a type's name on the wire."""
    if wire[:1] != "[":
        return LONG.get(wire, wire)
    name = wire.lstrip("[")
    if name.startswith("L") and name.endswith(";"):
        name = name[1:-1]
    dimensions = "[" * (len(wire) - len(wire.lstrip("[")))
    return dimensions + (_ELEMENTS.get(name) or LONG.get(name, name))


def wire_name(model: str) -> str:
    """The name on the wire for a type's name of the data model."""
    if model[:1] != "[":
        return SHORT.get(model, model)
    name = model.lstrip("[")
    dimensions = "[" * (len(model) - len(name))
    return dimensions + (_WIRE_ELEMENTS.get(name) or SHORT.get(name, name))


# ---- from bytes

_EXACT = decimal.Context(
    prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[]
)


# Of a decimal that is written: making an int of them costs the square of their number.
DIGITS_MAX: Final = 20_000


def decimal_of(unscaled: int, scale: int) -> Decimal:
    """A java.math.BigDecimal with all its digits."""
    return _EXACT.scaleb(Decimal(unscaled), -scale) if scale else Decimal(unscaled)


def time_of(hour: int, minute: int, second: int, nano: int) -> Any:
    """A java.time.LocalTime; a Bean if a time cannot hold it. ValueError if it is none."""
    if not 0 <= nano < 10**9:
        raise ValueError(f"{nano} nanoseconds")
    value = datetime.time(hour, minute, second, nano // 1000)
    if nano % 1000 == 0:
        return value
    return Bean(JAVA8 + "LocalTimeHandle", hour=hour, minute=minute, second=second, nano=nano)


def date_of(year: int, month: int, day: int) -> Any:
    """A java.time.LocalDate; a Bean if a date cannot hold it. ValueError if it is none."""
    if 1 <= year <= 9999:
        return datetime.date(year, month, day)
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        raise ValueError(f"month {month}, day {day}")
    return Bean(JAVA8 + "LocalDateHandle", year=year, month=month, day=day)


def datetime_of(date: Any, time: Any) -> Any:
    """A java.time.LocalDateTime of its parts."""
    if type(date) is datetime.date and type(time) is datetime.time:
        return datetime.datetime.combine(date, time)
    return Bean(JAVA8 + "LocalDateTimeHandle", date=date, time=time)


def instant_of(seconds: int, nanos: int, exact: bool) -> Any:
    """A java.time.Instant: with ``exact``, or beyond what a datetime holds, as a Bean."""
    bean = Bean(JAVA8 + "InstantHandle", seconds=seconds, nanos=nanos)
    if exact:
        return bean
    found = FROM_BEAN[bean.java_class](bean)
    return bean if found is None else found


def zoned_of(local: Any, zone: str, exact: bool) -> Any:
    """A value with a date, a time and a zone.

    Java's three classes of it look alike on the wire. A named zone stays a name: which offset it
    had is not said.
    """
    offset = _offset_of(zone)
    if offset is None:
        return Bean(JAVA8 + "ZonedDateTimeHandle", dateTime=local, zoneId=zone)
    bean = Bean(
        JAVA8 + "OffsetDateTimeHandle",
        dateTime=local,
        offset=Bean(JAVA8 + "ZoneOffsetHandle", seconds=offset),
    )
    if exact:
        return bean
    found = FROM_BEAN[bean.java_class](bean)
    return bean if found is None else found


def _offset_of(zone: str) -> int | None:
    if zone in ("Z", "UTC", "GMT", "Etc/UTC"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d):(\d\d)(?::(\d\d))?", zone, re.ASCII)
    if found is None:
        return None
    seconds = int(found[2]) * 3600 + int(found[3]) * 60 + int(found[4] or 0)
    return (-seconds if found[1] == "-" else seconds) if seconds < 86400 else None


# ---- to bytes


def put_int(value: int) -> bytes:
    """An int in the shortest form."""
    if -16 <= value <= 47:
        return bytes((value & 255,))
    if -2048 <= value <= 2047:
        return bytes((0x38 + (value >> 8), value & 255))
    if -262144 <= value <= 262143:
        return bytes((0x44 + (value >> 16),)) + (value & 0xFFFF).to_bytes(2)
    return b"\x48" + value.to_bytes(4, signed=True)


def put_long(value: int) -> bytes:
    """A long in the shortest form."""
    if -8 <= value <= 15:
        return bytes((0xE0 + value,))
    if -2048 <= value <= 2047:
        return bytes((0xD0 + (value >> 8), value & 255))
    if -262144 <= value <= 262143:
        return bytes((0xC4 + (value >> 16),)) + (value & 0xFFFF).to_bytes(2)
    if -(2**31) <= value < 2**31:
        return b"\xbf" + value.to_bytes(4, signed=True)
    return b"\xbe" + value.to_bytes(8, signed=True)


def put_integer(value: int) -> bytes:
    """A java.math.BigInteger."""
    if -(2**63) <= value < 2**63:
        return b"\xba" + put_long(value)
    # As many bytes as Java takes: room for the sign, and no more.
    bits = (value if value >= 0 else ~value).bit_length()
    data = value.to_bytes(bits // 8 + 1, signed=True)
    return b"\xbb" + put_int(len(data)) + data


def put_decimal(value: Decimal) -> bytes:
    """A java.math.BigDecimal. Raises UsageError."""
    _, digits, exponent = parts = value.as_tuple()
    if len(digits) > DIGITS_MAX:
        raise UsageError(f"a java.math.BigDecimal of {len(digits)} digits")
    if not isinstance(exponent, int) or not -(2**31) < exponent < 2**31:
        raise UsageError(f"{value!r:.200} is no java.math.BigDecimal")
    unscaled = int(_EXACT.scaleb(value, -exponent)) if len(digits) > 18 else _unscaled(parts)
    if not exponent and -(2**63) <= unscaled < 2**63:
        return b"\xb8" + put_long(unscaled)
    head = b"\xb9" + put_int(-exponent)
    if -(2**31) <= unscaled < 2**31:
        return head + put_int(unscaled)
    if -(2**63) <= unscaled < 2**63:
        return head + put_long(unscaled)
    return head + put_integer(unscaled)


def _unscaled(parts: decimal.DecimalTuple) -> int:
    number = 0
    for digit in parts.digits:
        number = number * 10 + digit
    return -number if parts.sign else number


def put_moment(value: Any) -> bytes:
    """A java.util.Date from an aware datetime or a Date. Raises UsageError."""
    ms = int(value) if isinstance(value, Date) else _milliseconds(value)
    if not -(2**63) <= ms < 2**63:
        raise UsageError(f"{ms} milliseconds are no java.util.Date")
    if ms % 1000 == 0:
        seconds = ms // 1000
        if -(2**31) <= seconds < 2**31:
            return b"\xac" + seconds.to_bytes(4, signed=True)
        if seconds % 60 == 0 and -(2**31) <= seconds // 60 < 2**31:
            return b"\xad" + (seconds // 60).to_bytes(4, signed=True)
    return b"\xab" + ms.to_bytes(8, signed=True)


def _milliseconds(value: datetime.datetime) -> int:
    return (value - EPOCH) // datetime.timedelta(milliseconds=1)


def _ints(bean: Any, *names: str) -> tuple[int, ...]:
    """Fields that are ints. ValueError if one is not."""
    values = tuple(bean[name] for name in names)
    if any(not isinstance(value, int) or isinstance(value, bool) for value in values):
        raise ValueError(names)
    return values


def _text(value: str) -> bytes:
    """ASCII text."""
    data = value.encode("ascii")
    return (bytes((0x49 + len(data),)) if len(data) < 48 else b"\x79" + put_int(len(data))) + data


def _date_bytes(value: Any) -> bytes:
    if isinstance(value, Bean):
        year, month, day = _ints(value, "year", "month", "day")
    else:
        year, month, day = value.year, value.month, value.day
    return struct.pack(">hbb", year, month, day)


def _time_bytes(value: Any) -> bytes:
    if isinstance(value, Bean):
        hour, minute, second, nano = _ints(value, "hour", "minute", "second", "nano")
    else:
        hour, minute, second = value.hour, value.minute, value.second
        nano = value.microsecond * 1000
    return struct.pack(">bbb", hour, minute, second) + put_int(nano)


def _local_bytes(value: Any) -> bytes:
    if isinstance(value, Bean):
        return _date_bytes(value["date"]) + _time_bytes(value["time"])
    return _date_bytes(value) + _time_bytes(value)


def _offset_text(bean: Any) -> str:
    (seconds,) = _ints(bean, "seconds")
    return offset_id(seconds)


def _instant(bean: Bean) -> bytes:
    seconds, nanos = _ints(bean, "seconds", "nanos")
    return b"\xae" + put_long(seconds) + put_int(nanos)


def _duration(bean: Bean) -> bytes:
    seconds, nanos = _ints(bean, "seconds", "nanos")
    total = seconds * 10**9 + nanos
    whole, rest = divmod(abs(total), 10**9)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return _text(f"PT{'-' if total < 0 else ''}{whole}{fraction}S")


def _period(bean: Bean) -> bytes:
    years, months, days = _ints(bean, "years", "months", "days")
    return _text(f"P{years}Y{months}M{days}D")


def _decimal(bean: Bean) -> bytes:
    if len(bean["value"]) > DIGITS_MAX:
        raise UsageError(f"a java.math.BigDecimal of {len(bean['value'])} digits")
    value = FROM_BEAN[bean.java_class](bean)
    if value is None:
        raise ValueError(bean.java_class)
    return put_decimal(value)


def _integer(bean: Bean) -> bytes:
    # Its words are an array with a type.
    value = FROM_BEAN[bean.java_class](Bean(bean.java_class, bean, mag=list(bean["mag"])))
    if value is None:
        raise ValueError(bean.java_class)
    return put_integer(value)


def _uuid(bean: Bean) -> bytes:
    value = FROM_BEAN[bean.java_class](bean)
    if not isinstance(value, uuid.UUID):
        raise ValueError(bean.java_class)
    return b"\x91\x10" + value.bytes


def _sql_time(bean: Bean) -> bytes:
    return put_moment(bean["value"])


# Class of the data model -> the bytes of its value; KeyError, ValueError and the like when the
# fields are not what they should be, and the bean is written as it is.
TO_BYTES: Final[dict[str, Callable[[Bean], bytes]]] = {
    "java.math.BigDecimal": _decimal,
    "java.math.BigInteger": _integer,
    "java.util.UUID": _uuid,
    "java.sql.Date": _sql_time,
    "java.sql.Time": _sql_time,
    "java.sql.Timestamp": _sql_time,
    HANDLE + "CalendarHandle": lambda bean: put_moment(bean["date"]),
    HANDLE + "LocaleHandle": lambda bean: _text(bean["value"]),
    "java.lang.Class": lambda bean: _text(bean["name"]),
    "java.io.File": lambda bean: _text(bean["value"]),
    "java.util.Currency": lambda bean: _text(bean["currencyCode"]),
    "java.util.concurrent.atomic.AtomicInteger": lambda bean: put_int(*_ints(bean, "value")),
    "java.util.concurrent.atomic.AtomicLong": lambda bean: put_long(*_ints(bean, "value")),
    "java.util.concurrent.atomic.AtomicBoolean": lambda bean: (
        b"\xb1" if _ints(bean, "value") == (1,) else b"\xb0"
    ),
    JAVA8 + "LocalDateHandle": lambda bean: b"\xa9" + _date_bytes(bean),
    JAVA8 + "LocalTimeHandle": lambda bean: b"\xa7" + _time_bytes(bean),
    JAVA8 + "LocalDateTimeHandle": lambda bean: b"\xa8" + _local_bytes(bean),
    JAVA8 + "InstantHandle": _instant,
    JAVA8 + "DurationHandle": _duration,
    JAVA8 + "PeriodHandle": _period,
    JAVA8 + "ZoneOffsetHandle": lambda bean: _text(_offset_text(bean)),
    JAVA8 + "ZoneIdHandle": lambda bean: _text(bean["zoneId"]),
    JAVA8 + "OffsetDateTimeHandle": lambda bean: (
        b"\xaa" + _local_bytes(bean["dateTime"]) + _text(_offset_text(bean["offset"]))
    ),
    JAVA8 + "ZonedDateTimeHandle": lambda bean: (
        b"\xaa" + _local_bytes(bean["dateTime"]) + _text(bean["zoneId"])
    ),
    JAVA8 + "OffsetTimeHandle": lambda bean: (
        b"\xaa"
        + _date_bytes(datetime.date(1970, 1, 1))
        + _time_bytes(bean["localTime"])
        + _text(_offset_text(bean["zoneOffset"]))
    ),
}


# The class of a Bean of the data model -> its name on the wire. What is not here keeps its own.
BEAN_NAMES: Final = SHORT | _BY_FIELDS

_CONSTANT = re.compile(r"[A-Z_$][A-Z0-9_$]*\Z")


def is_constant(bean: Bean, constants: Set[str] | None = None) -> bool:
    """Whether a bean is taken for the constant of an enum, which Java wants as text.

    ``constants`` are all classes that are enums, if that is known. Else the bean itself may say so
    (it does if it came in fastjson2, or by JSON), or the program has said it of the class. Where
    none of them does, as of a bean from hessian2, nothing tells a constant from a bean whose one
    field is ``name``: then capitals are taken for a constant.
    """
    name = bean.get("name")
    if len(bean) != 1 or type(name) is not str:
        return False
    if constants is not None:
        return bean.java_class in constants
    if bean.constant is not None:
        return bool(bean.constant)
    if bean.java_class in BEAN_CLASSES:
        return False
    return bean.java_class in ENUM_CLASSES or _CONSTANT.match(name) is not None
