"""The JDK's classes that hessian-lite writes as objects: to Python's values and back.

| class | fields |
| --- | --- |
| java.math.BigDecimal, java.util.UUID | ``value``: text |
| java.math.BigInteger | ``signum``, ``mag``: an array of ints, the most significant first |
| java.sql.Date, Time, Timestamp | ``value``: a date |
| java.time.X | class ``com.alibaba.com.caucho.hessian.io.java8.XHandle`` and its parts |
| java.util.Calendar, Locale, EnumSet | handles of hessian-lite |

The reader and the writer call this by class name. The invariant: these tables are all there is; a
class that is not in them stays a Bean, and fields that do not fit leave the Bean as it is.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from dragoman.errors import LimitError, UsageError
from dragoman.wire.java import BigInteger, Date, TypedList
from dragoman.wire.java.bean import Bean

HANDLE = "com.alibaba.com.caucho.hessian.io."
JAVA8 = HANDLE + "java8."
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _decimal(bean: Bean) -> Any:
    text = bean.get("value")
    # What Java writes and no more: no NaN, no infinity, no underscores, no other digits.
    if type(text) is not str or not _DECIMAL.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Python has
        return None


def _integer(bean: Bean) -> Any:
    sign, words = bean.get("signum"), bean.get("mag")
    if sign not in (-1, 0, 1) or type(words) is not list:
        return None
    if not all(type(word) is int and -(2**31) <= word < 2**31 for word in words):
        return None
    return sign * int.from_bytes(b"".join([(word & 0xFFFFFFFF).to_bytes(4) for word in words]))


def _date(bean: Bean) -> Any:
    value = bean.get("value")
    return value if isinstance(value, datetime.datetime | Date) else None


def _uuid(bean: Bean) -> Any:
    text = bean.get("value")
    most, least = bean.get("mostSigBits"), bean.get("leastSigBits")
    try:
        if type(text) is str and len(text) == 36:
            return uuid.UUID(text)
        if type(most) is int and type(least) is int:
            return uuid.UUID(int=(most & (2**64 - 1)) << 64 | least & (2**64 - 1))
    except ValueError:
        pass
    return None


def _micros(nanos: Any) -> int | None:
    if type(nanos) is not int or not 0 <= nanos < 10**9 or nanos % 1000:
        return None
    return nanos // 1000


def _made(make: Callable[..., Any], *parts: Any) -> Any:
    """The result of ``make`` with ints, None if it cannot."""
    if any(type(part) is not int for part in parts):
        return None
    try:
        return make(*parts)
    except (ValueError, OverflowError):
        return None


def _local_date(bean: Bean) -> Any:
    return _made(datetime.date, bean.get("year"), bean.get("month"), bean.get("day"))


def _local_time(bean: Bean) -> Any:
    micros = _micros(bean.get("nano"))
    hour, minute, second = bean.get("hour"), bean.get("minute"), bean.get("second")
    return _made(datetime.time, hour, minute, second, micros)


def _local_datetime(bean: Bean) -> Any:
    date, time = bean.get("date"), bean.get("time")
    if type(date) is datetime.date and type(time) is datetime.time and time.tzinfo is None:
        return datetime.datetime.combine(date, time)
    return None


def _duration(bean: Bean) -> Any:
    seconds, micros = bean.get("seconds"), _micros(bean.get("nanos"))
    return _made(lambda s, m: datetime.timedelta(seconds=s, microseconds=m), seconds, micros)


def _instant(bean: Bean) -> Any:
    since = _duration(bean)
    try:
        return None if since is None else _EPOCH + since
    except OverflowError:
        return None


def _offset(bean: Any) -> datetime.timezone | None:
    if not isinstance(bean, Bean) or type(bean.get("seconds")) is not int:
        return None
    seconds = bean["seconds"]
    if not -86400 < seconds < 86400:
        return None
    return datetime.timezone(datetime.timedelta(seconds=seconds))


def _offset_datetime(bean: Bean) -> Any:
    local, offset = bean.get("dateTime"), _offset(bean.get("offset"))
    if type(local) is not datetime.datetime or local.tzinfo is not None or offset is None:
        return None
    return local.replace(tzinfo=offset)


def _zoned_datetime(bean: Bean) -> Any:
    # A named zone (Europe/Paris) has no counterpart; where it is only an offset nothing is lost.
    offset = _offset(bean.get("offset"))
    if offset is None or bean.get("zoneId") != _zone_text(offset):
        return None
    return _offset_datetime(bean)


def _zone_text(zone: datetime.timezone) -> str:
    """An offset as Java's ZoneOffset.getId has it."""
    seconds = int(zone.utcoffset(None).total_seconds())
    if seconds == 0:
        return "Z"
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


def _offset_time(bean: Bean) -> Any:
    local, offset = bean.get("localTime"), _offset(bean.get("zoneOffset"))
    if type(local) is not datetime.time or local.tzinfo is not None or offset is None:
        return None
    return local.replace(tzinfo=offset)


def _calendar(bean: Bean) -> Any:
    value = bean.get("date")
    return value if bean.get("type") is None and isinstance(value, datetime.datetime) else None


def _enum_set(bean: Bean) -> Any:
    values = bean.get("objects")
    return values if type(values) is list else None


# What List.of, Set.of and Map.of are written as by their own wish: without their elements, which
# only Java's own serialization would add.
WITHOUT_ELEMENTS = "java.util.CollSer"


def lost_elements(bean: Any) -> Any:
    """Refuse what has lost its elements; who took it for a value would act on what nobody said."""
    raise LimitError(
        "hessian2: an immutable list, set or map (List.of, Set.of, Map.of) has come without its"
        " elements, which this peer's hessian2 does not write: use ArrayList, HashSet or HashMap"
    )


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

# Class name -> what its object is in Python, None to leave it a Bean.
FROM_BEAN: dict[str, Callable[[Bean], Any]] = {
    "java.math.BigDecimal": _decimal,
    "java.math.BigInteger": _integer,
    "java.util.UUID": _uuid,
    "java.sql.Date": _date,
    "java.sql.Time": _date,
    "java.sql.Timestamp": _date,
    HANDLE + "CalendarHandle": _calendar,
    HANDLE + "EnumSetHandler": _enum_set,
    JAVA8 + "LocalDateHandle": _local_date,
    JAVA8 + "LocalTimeHandle": _local_time,
    JAVA8 + "LocalDateTimeHandle": _local_datetime,
    JAVA8 + "InstantHandle": _instant,
    JAVA8 + "DurationHandle": _duration,
    JAVA8 + "OffsetDateTimeHandle": _offset_datetime,
    JAVA8 + "OffsetTimeHandle": _offset_time,
    JAVA8 + "ZonedDateTimeHandle": _zoned_datetime,
    WITHOUT_ELEMENTS: lost_elements,
}


# ---- to Java


def decimal_bean(value: Any) -> Bean:
    """A java.math.BigDecimal from Decimal, int, float (its shortest text) or text."""
    if type(value) is float:
        value = repr(value)
    text = str(value)
    if isinstance(value, bool) or not _DECIMAL.fullmatch(text):
        raise UsageError(f"{value!r:.200} is no java.math.BigDecimal")
    return Bean("java.math.BigDecimal", value=text)


def integer_bean(value: Any) -> Bean:
    """A java.math.BigInteger from an int or its text."""
    if type(value) is str and re.fullmatch(r"[+-]?\d{1,4300}", value, re.ASCII):
        value = int(value)
    if type(value) is Decimal and value.is_finite() and value == value.to_integral_value():
        if value.adjusted() > 10_000:
            raise UsageError("a java.math.BigInteger of more than 10,000 digits from a Decimal")
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{value!r:.200} is no java.math.BigInteger")
    magnitude = abs(value)
    data = magnitude.to_bytes((magnitude.bit_length() + 31) // 32 * 4)
    words = [int.from_bytes(data[i : i + 4], signed=True) for i in range(0, len(data), 4)]
    return Bean(
        "java.math.BigInteger",
        signum=(value > 0) - (value < 0),
        mag=TypedList("[int", words),
    )


def uuid_bean(value: Any) -> Bean:
    """A java.util.UUID from a UUID or its text."""
    try:
        text = str(value if isinstance(value, uuid.UUID) else uuid.UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{value!r:.200} is no java.util.UUID") from None
    return Bean("java.util.UUID", value=text)


def _moment(value: Any, java_class: str) -> Any:
    """A java.util.Date from a datetime, a date (midnight in UTC), milliseconds or ISO 8601 text."""
    if type(value) is str:
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(
                f"{value!r:.200} is no {java_class}, such as 2026-01-31T12:00:00.000Z"
            ) from None
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return Date(value)
    raise UsageError(f"{value!r:.200} is no {java_class}")


def date_value(value: Any) -> Any:
    """A value that is written as java.util.Date: an aware datetime or a Date."""
    return _moment(value, "java.util.Date")


def _sql(java_class: str) -> Callable[[Any], Bean]:
    def convert(value: Any) -> Bean:
        if (
            java_class == "java.sql.Time"
            and type(value) is str
            and re.match(r"\d\d:\d\d", value, re.ASCII)
        ):
            value = f"1970-01-01T{value}"
        elif isinstance(value, datetime.time):
            value = datetime.datetime.combine(_EPOCH.date(), value)
        return Bean(java_class, value=_moment(value, java_class))

    return convert


def _parsed(kind: Any, value: Any, java_class: str) -> Any:
    """``value``, or what its ISO 8601 text reads."""
    if type(value) is str:
        try:
            value = kind.fromisoformat(value)
        except ValueError:
            raise UsageError(f"{value!r:.200} is no {java_class} in ISO 8601") from None
    if not isinstance(value, kind):
        raise UsageError(f"{value!r:.200} is no {java_class}")
    return value


def local_date_bean(value: Any) -> Bean:
    """A java.time.LocalDate from a date or ISO 8601 text."""
    if isinstance(value, datetime.datetime):
        value = value.date()
    value = _parsed(datetime.date, value, "java.time.LocalDate")
    return Bean(JAVA8 + "LocalDateHandle", year=value.year, month=value.month, day=value.day)


def _time_parts(value: datetime.time | datetime.datetime) -> Bean:
    return Bean(
        JAVA8 + "LocalTimeHandle",
        hour=value.hour,
        minute=value.minute,
        second=value.second,
        nano=value.microsecond * 1000,
    )


def local_time_bean(value: Any) -> Bean:
    """A java.time.LocalTime from a time or ISO 8601 text."""
    return _time_parts(_parsed(datetime.time, value, "java.time.LocalTime"))


def offset_time_bean(value: Any) -> Bean:
    """A java.time.OffsetTime from a time with an offset or ISO 8601 text."""
    value = _parsed(datetime.time, value, "java.time.OffsetTime")
    if value.utcoffset() is None:
        raise UsageError(f"{value!r:.200} is no java.time.OffsetTime: it has no offset")
    return Bean(
        JAVA8 + "OffsetTimeHandle", localTime=_time_parts(value), zoneOffset=_offset_bean(value)
    )


def local_datetime_bean(value: Any) -> Bean:
    """A java.time.LocalDateTime from a datetime (its offset is dropped) or ISO 8601 text."""
    value = _parsed(datetime.datetime, value, "java.time.LocalDateTime")
    return Bean(JAVA8 + "LocalDateTimeHandle", date=local_date_bean(value), time=_time_parts(value))


def duration_bean(value: Any) -> Bean:
    """A java.time.Duration from a timedelta or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = datetime.timedelta(seconds=value)
    if not isinstance(value, datetime.timedelta):
        raise UsageError(f"{value!r:.200} is no java.time.Duration")
    seconds = value.days * 86400 + value.seconds
    return Bean(JAVA8 + "DurationHandle", seconds=_long(seconds), nanos=value.microseconds * 1000)


def _long(value: int) -> Any:
    from dragoman.wire.java import Long

    return Long(value)


def _aware(value: Any, java_class: str) -> datetime.datetime:
    value = _parsed(datetime.datetime, value, java_class)
    if value.utcoffset() is None:
        raise UsageError(f"{value!r:.200} is no {java_class}: it has no offset")
    return value  # type: ignore[no-any-return]


def _instant_bean(value: Any) -> Bean:
    since = _aware(value, "java.time.Instant") - _EPOCH
    bean = duration_bean(since)
    bean.java_class = JAVA8 + "InstantHandle"
    return bean


def _offset_bean(value: datetime.datetime | datetime.time) -> Bean:
    offset = value.utcoffset()
    assert offset is not None
    return Bean(JAVA8 + "ZoneOffsetHandle", seconds=int(offset.total_seconds()))


def _offset_datetime_bean(value: Any) -> Bean:
    value = _aware(value, "java.time.OffsetDateTime")
    return Bean(
        JAVA8 + "OffsetDateTimeHandle",
        dateTime=local_datetime_bean(value),
        offset=_offset_bean(value),
    )


def _zoned_datetime_bean(value: Any) -> Bean:
    value = _aware(value, "java.time.ZonedDateTime")
    bean = _offset_datetime_bean(value)
    bean.java_class = JAVA8 + "ZonedDateTimeHandle"
    offset = datetime.timezone(value.utcoffset())
    bean["zoneId"] = getattr(value.tzinfo, "key", None) or _zone_text(offset)
    return bean


ENUM_SET = HANDLE + "EnumSetHandler"


def enum_set(java_class: str, constants: list[Any]) -> Bean:
    """A java.util.EnumSet of constants, which are Beans."""
    objects = TypedList("[object", constants)
    return Bean(ENUM_SET, type=Bean("java.lang.Class", name=java_class), objects=objects)


def _locale(value: Any) -> Bean:
    return Bean(HANDLE + "LocaleHandle", value=_text(value, "java.util.Locale").replace("-", "_"))


def _class(value: Any) -> Bean:
    return Bean("java.lang.Class", name=_text(value, "java.lang.Class"))


def _text(value: Any, java_class: str) -> str:
    if type(value) is not str:
        raise UsageError(f"{value!r:.200} is no {java_class}: it is not text")
    return value


# Class name -> from a value to what is written for it. A Bean is always written as it is.
TO_JAVA: dict[str, Callable[[Any], Any]] = {
    "java.math.BigDecimal": decimal_bean,
    "java.math.BigInteger": integer_bean,
    "java.util.UUID": uuid_bean,
    "java.util.Date": date_value,
    "java.util.Calendar": lambda value: Bean(HANDLE + "CalendarHandle", date=date_value(value)),
    "java.sql.Date": _sql("java.sql.Date"),
    "java.sql.Time": _sql("java.sql.Time"),
    "java.sql.Timestamp": _sql("java.sql.Timestamp"),
    "java.time.LocalDate": local_date_bean,
    "java.time.LocalTime": local_time_bean,
    "java.time.OffsetTime": offset_time_bean,
    "java.time.LocalDateTime": local_datetime_bean,
    "java.time.Duration": duration_bean,
    "java.time.Instant": _instant_bean,
    "java.time.OffsetDateTime": _offset_datetime_bean,
    "java.time.ZonedDateTime": _zoned_datetime_bean,
    "java.util.Locale": _locale,
    "java.lang.Class": _class,
}


def plain_bean(value: Any) -> Any:
    """The Bean of a value of the standard library without a descriptor, None if unknown."""
    if isinstance(value, datetime.datetime):
        return local_datetime_bean(value) if value.utcoffset() is None else value
    if isinstance(value, Decimal):
        return decimal_bean(value)
    if isinstance(value, uuid.UUID):
        return uuid_bean(value)
    if isinstance(value, datetime.date):
        return local_date_bean(value)
    if isinstance(value, datetime.time):
        return local_time_bean(value) if value.utcoffset() is None else offset_time_bean(value)
    if isinstance(value, datetime.timedelta):
        return duration_bean(value)
    if isinstance(value, BigInteger | int):
        return integer_bean(int(value))
    return None


# ---- to JSON text


def _int(part: bytes | None) -> int | None:
    if part is None or not re.fullmatch(rb"-?\d{1,19}", part):
        return None
    return int(part)


def _quoted(part: bytes | None, pattern: bytes) -> str | None:
    """The text between the quotes of a JSON string, if it looks like ``pattern``."""
    if part is None or not re.fullmatch(b'"' + pattern + b'"', part):
        return None
    return part[1:-1].decode()


def _fraction(nanos: int) -> str:
    return f".{nanos:09}".rstrip("0") if nanos else ""


def _integer_text(parts: list[bytes | None]) -> str | None:
    sign, words = _int(parts[0]), parts[1]
    if words is None or not re.fullmatch(rb"\[(-?\d{1,10}(,-?\d{1,10})*)?\]", words):
        return None
    if len(words) > 2000:
        raise LimitError("hessian2: a java.math.BigInteger of more than 1,024 digits")
    numbers = [int(word) for word in words[1:-1].split(b",") if word]
    bean = Bean("java.math.BigInteger", signum=sign, mag=numbers)
    value = _integer(bean)
    return None if value is None else str(value)


def _instant_text(parts: list[bytes | None]) -> str | None:
    seconds, nanos = _int(parts[0]), _int(parts[1])
    if seconds is None or nanos is None or not 0 <= nanos < 10**9:
        return None
    # Python has the years 1 to 9999; the calendar is the same every 400 years, Java's goes on.
    cycles, rest = divmod(seconds, 146_097 * 86400)
    moment = _EPOCH + datetime.timedelta(seconds=rest)
    year = moment.year + 400 * cycles
    if abs(year) > 1_000_000_000:
        return None
    return f'"{_year(year)}{moment.replace(tzinfo=None).isoformat()[4:]}{_fraction(nanos)}Z"'


def _duration_text(parts: list[bytes | None]) -> str | None:
    seconds, nanos = _int(parts[0]), _int(parts[1])
    if seconds is None or nanos is None or not 0 <= nanos < 10**9:
        return None
    total = seconds * 10**9 + nanos
    sign = "-" if total < 0 else ""
    whole, rest = divmod(abs(total), 10**9)
    hours, minutes, left = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{sign}{hours}H" if hours else ""
    text += f"{sign}{minutes}M" if minutes else ""
    if left or rest or not text:
        text += f"{sign}{left}{_fraction(rest)}S"
    return f'"PT{text}"'


def _period_text(parts: list[bytes | None]) -> str | None:
    counts = [_int(part) for part in parts[:3]]
    if None in counts:
        return None
    text = "".join(f"{count}{unit}" for count, unit in zip(counts, "YMD", strict=True) if count)
    return f'"P{text or "0D"}"'


def _year(year: int) -> str:
    """As ISO 8601 has it: four digits, with a sign if they are not enough."""
    return f"{year:04}" if 0 <= year <= 9999 else f"{year:+05}"


def _year_month_text(parts: list[bytes | None]) -> str | None:
    year, month = _int(parts[0]), _int(parts[1])
    if year is None or month is None or not 1 <= month <= 12:
        return None
    return f'"{_year(year)}-{month:02}"'


def _month_day_text(parts: list[bytes | None]) -> str | None:
    month, day = _int(parts[0]), _int(parts[1])
    if month is None or day is None or not 1 <= month <= 12 or not 1 <= day <= 31:
        return None
    return f'"--{month:02}-{day:02}"'


_TIME = rb"(?:[+-]?[\d-]+T)?\d\d:\d\d:\d\d(?:\.\d+)?"
_OFFSET = rb"(?:Z|[+-]\d\d:\d\d(?::\d\d)?)"


def _offset_text(parts: list[bytes | None]) -> str | None:
    seconds = _int(parts[0])
    if seconds is None or not -86400 < seconds < 86400:
        return None
    return f'"{_zone_text(datetime.timezone(datetime.timedelta(seconds=seconds)))}"'


def _with_offset_text(parts: list[bytes | None]) -> str | None:
    local, offset = _quoted(parts[0], _TIME), _quoted(parts[1], _OFFSET)
    return None if local is None or offset is None else f'"{local}{offset}"'


def _zoned_text(parts: list[bytes | None]) -> str | None:
    local, offset = _quoted(parts[0], _TIME), _quoted(parts[1], _OFFSET)
    zone = _quoted(parts[2], rb"[\w+:/.-]+")
    if local is None or zone is None:
        return None
    if offset is None:
        # fastjson2 does not say which offset a named zone had.
        return f'"{local}[{zone}]"' if parts[1] in (None, b"null") else None
    return f'"{local}{offset}"' if zone == offset else f'"{local}{offset}[{zone}]"'


def _uuid_text(parts: list[bytes | None]) -> str | None:
    text = _quoted(parts[0], rb"[0-9a-fA-F-]{1,36}")
    if text is not None:
        return f'"{text}"'
    value = _uuid(Bean("java.util.UUID", mostSigBits=_int(parts[1]), leastSigBits=_int(parts[2])))
    return None if value is None else f'"{value}"'


def _boolean_text(parts: list[bytes | None]) -> str | None:
    return {b"0": "false", b"1": "true"}.get(parts[0] or b"")


_TEXTS: dict[str, Callable[[list[bytes | None]], str | None]] = {
    "java.math.BigInteger": _integer_text,
    "java.util.UUID": _uuid_text,
    "java.util.concurrent.atomic.AtomicBoolean": _boolean_text,
    JAVA8 + "InstantHandle": _instant_text,
    JAVA8 + "DurationHandle": _duration_text,
    JAVA8 + "PeriodHandle": _period_text,
    JAVA8 + "YearMonthHandle": _year_month_text,
    JAVA8 + "MonthDayHandle": _month_day_text,
    JAVA8 + "ZoneOffsetHandle": _offset_text,
    JAVA8 + "OffsetDateTimeHandle": _with_offset_text,
    JAVA8 + "OffsetTimeHandle": _with_offset_text,
    JAVA8 + "ZonedDateTimeHandle": _zoned_text,
}


def json_text(java_class: str, parts: list[bytes | None]) -> bytes | None:
    """The JSON that an object stands for, from the JSON of the fields it is made of (see FOLDS in
    ``hessian2.scanner``); None if they are not what they should be.
    """
    text = _TEXTS[java_class](parts)
    return None if text is None else text.encode()
