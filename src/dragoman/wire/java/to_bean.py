"""The objects of the JDK's classes (``java.jdk``) that are written for Python's values.

The writers call ``plain_bean`` where nothing is declared and ``TO_JAVA`` by the class that is. The
invariant: a value that the class cannot hold is a UsageError, never something near to it.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from dragoman.errors import UsageError
from dragoman.wire.java import BigInteger, Date, Long, TypedList
from dragoman.wire.java.bean import Bean
from dragoman.wire.java.jdk import DECIMAL, ENUM_SET, EPOCH, HANDLE, JAVA8, zone_id


def decimal_bean(value: Any) -> Bean:
    """A java.math.BigDecimal from Decimal, int, float (its shortest text) or text."""
    if type(value) is float:
        value = repr(value)
    text = str(value)
    if isinstance(value, bool) or not DECIMAL.fullmatch(text):
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
            value = datetime.datetime.combine(EPOCH.date(), value)
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
    return Bean(JAVA8 + "DurationHandle", seconds=Long(seconds), nanos=value.microseconds * 1000)


def _aware(value: Any, java_class: str) -> datetime.datetime:
    value = _parsed(datetime.datetime, value, java_class)
    if value.utcoffset() is None:
        raise UsageError(f"{value!r:.200} is no {java_class}: it has no offset")
    return value  # type: ignore[no-any-return]


def _instant_bean(value: Any) -> Bean:
    since = _aware(value, "java.time.Instant") - EPOCH
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
    bean["zoneId"] = getattr(value.tzinfo, "key", None) or zone_id(offset)
    return bean


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
