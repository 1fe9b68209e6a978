"""The JSON that objects of the JDK's classes (``java.jdk``) stand for, from their fields' JSON.

``hessian2.scanner`` calls this when it turns a body into JSON without making values of it. The
invariant: fields that are not what they should be give None, and the object is written as one.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from dragoman.errors import LimitError
from dragoman.wire.java.bean import Bean
from dragoman.wire.java.from_bean import integer_of, uuid_of
from dragoman.wire.java.jdk import EPOCH, JAVA8, offset_id


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
    value = integer_of(bean)
    return None if value is None else str(value)


def _instant_text(parts: list[bytes | None]) -> str | None:
    seconds, nanos = _int(parts[0]), _int(parts[1])
    if seconds is None or nanos is None or not 0 <= nanos < 10**9:
        return None
    # Python has the years 1 to 9999; the calendar is the same every 400 years, Java's goes on.
    cycles, rest = divmod(seconds, 146_097 * 86400)
    moment = EPOCH + datetime.timedelta(seconds=rest)
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
    return f'"{offset_id(seconds)}"'


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
    value = uuid_of(Bean("java.util.UUID", mostSigBits=_int(parts[1]), leastSigBits=_int(parts[2])))
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
