"""Python's values of the objects that stand for the JDK's classes in hessian2 (``java.jdk``).

The readers call this by class name. The invariant: a class that is not in the table, and fields
that do not fit, leave the Bean as it is; nothing that a peer names is looked up anywhere else.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from dragoman.errors import LimitError
from dragoman.wire.java import Date
from dragoman.wire.java.bean import Bean
from dragoman.wire.java.jdk import (
    DECIMAL,
    ENUM_SET,
    EPOCH,
    HANDLE,
    JAVA8,
    WITHOUT_ELEMENTS,
    zone_id,
)


def _decimal(bean: Bean) -> Any:
    text = bean.get("value")
    # What Java writes and no more: no NaN, no infinity, no underscores, no other digits.
    if type(text) is not str or not DECIMAL.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Python has
        return None


def integer_of(bean: Bean) -> Any:
    """The int of a java.math.BigInteger's fields, None if they are none."""
    sign, words = bean.get("signum"), bean.get("mag")
    if sign not in (-1, 0, 1) or type(words) is not list:
        return None
    if not all(type(word) is int and -(2**31) <= word < 2**31 for word in words):
        return None
    return sign * int.from_bytes(b"".join([(word & 0xFFFFFFFF).to_bytes(4) for word in words]))


def _date(bean: Bean) -> Any:
    value = bean.get("value")
    return value if isinstance(value, datetime.datetime | Date) else None


def uuid_of(bean: Bean) -> Any:
    """The UUID of a java.util.UUID's text or halves, None if they are none."""
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
        return None if since is None else EPOCH + since
    except OverflowError:
        return None


def _offset(bean: Any) -> datetime.timezone | None:
    if not isinstance(bean, Bean) or type(bean.get("seconds")) is not int:
        return None
    seconds = bean["seconds"]
    if not -86400 < seconds < 86400:
        return None
    return datetime.timezone(datetime.timedelta(seconds=seconds))


def _at_offset(kind: Any, local: Any, offset: Any) -> Any:
    """A datetime or time with the offset that stands beside it."""
    zone = _offset(offset)
    if type(local) is not kind or local.tzinfo is not None or zone is None:
        return None
    return local.replace(tzinfo=zone)


def _offset_datetime(bean: Bean) -> Any:
    return _at_offset(datetime.datetime, bean.get("dateTime"), bean.get("offset"))


def _zoned_datetime(bean: Bean) -> Any:
    # A named zone (Europe/Paris) has no counterpart; where it is only an offset nothing is lost.
    offset = _offset(bean.get("offset"))
    if offset is None or bean.get("zoneId") != zone_id(offset):
        return None
    return _offset_datetime(bean)


def _offset_time(bean: Bean) -> Any:
    return _at_offset(datetime.time, bean.get("localTime"), bean.get("zoneOffset"))


def _calendar(bean: Bean) -> Any:
    value = bean.get("date")
    return value if bean.get("type") is None and isinstance(value, datetime.datetime) else None


def _enum_set(bean: Bean) -> Any:
    values = bean.get("objects")
    return values if type(values) is list else None


def lost_elements(bean: Any) -> Any:
    """Refuse what has lost its elements; who took it for a value would act on what nobody said."""
    raise LimitError(
        "hessian2: an immutable list, set or map (List.of, Set.of, Map.of) has come without its"
        " elements, which this peer's hessian2 does not write: use ArrayList, HashSet or HashMap"
    )


# Class name -> what its object is in Python, None to leave it a Bean.
FROM_BEAN: dict[str, Callable[[Bean], Any]] = {
    "java.math.BigDecimal": _decimal,
    "java.math.BigInteger": integer_of,
    "java.util.UUID": uuid_of,
    "java.sql.Date": _date,
    "java.sql.Time": _date,
    "java.sql.Timestamp": _date,
    HANDLE + "CalendarHandle": _calendar,
    ENUM_SET: _enum_set,
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
