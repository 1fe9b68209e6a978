"""Values of the JDK from the text that JSON has for them: the way back from what is printed.

``java.from_json`` reads arguments with it. ``hessian2.scanner`` prints the values of many classes
as text (ISO 8601 with nanoseconds and years of any length, a zone's name, an EnumSet's names); each
of them is read here as the object that hessian-lite makes the value of. What is not in the table
below has no text of its own.

The invariant: what ``FROM_TEXT`` and ``FROM_JSON`` give prints as what was read; what does not
look like a value of the class is a UsageError that shows the form expected.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import uuid
from collections.abc import Callable
from typing import Any, Final

from dragoman.errors import UsageError
from dragoman.wire.java import Date, Long
from dragoman.wire.java.bean import Bean
from dragoman.wire.java.jdk import HANDLE, JAVA8
from dragoman.wire.java.to_bean import uuid_bean

_DATE = r"([+-]?\d{4,10})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?"
_OFFSET = r"(Z|[+-]\d\d:?\d\d(?::?\d\d)?)"
_ZONE = r"\[([A-Za-z][\w+\-/.:]*|[+-][\d:]+)\]"
_LOCAL_DATE = re.compile(_DATE, re.ASCII)
_LOCAL_TIME = re.compile(_TIME, re.ASCII)
_OFFSET_TIME = re.compile(f"(?:{_DATE}T)?{_TIME}{_OFFSET}", re.ASCII)
_MOMENT = re.compile(f"{_DATE}(?:[T ]{_TIME}(?:{_OFFSET}(?:{_ZONE})?|{_ZONE})?)?", re.ASCII)
_ZONE_OFFSET = re.compile(_OFFSET, re.ASCII)
_DURATION = re.compile(
    r"([+-])?P(?:([+-]?\d{1,19})D)?"
    r"(?:T(?:([+-]?\d{1,19})H)?(?:([+-]?\d{1,19})M)?(?:([+-]?\d{1,19})(?:[.,](\d{1,9}))?S)?)?",
    re.ASCII,
)
_PERIOD = re.compile(
    r"P(?:([+-]?\d{1,10})Y)?(?:([+-]?\d{1,10})M)?(?:([+-]?\d{1,10})W)?(?:([+-]?\d{1,10})D)?",
    re.ASCII,
)
_YEAR_MONTH = re.compile(r"([+-]?\d{4,10})-(\d\d)", re.ASCII)
_MONTH_DAY = re.compile(r"--(\d\d)-(\d\d)", re.ASCII)
_YEARS_MOST: Final = 1_000_000_000  # of an Instant; the others end a year sooner
_CYCLE_DAYS: Final = 146_097  # of 400 years, after which the calendar begins again
_EPOCH_DAYS: Final = datetime.date(1970, 1, 1).toordinal()


def _wrong(text: str, java_class: str, such_as: str) -> UsageError:
    return UsageError(f"{text!r:.200} is no {java_class}, such as {such_as}")


class _Parts:
    """A date, a time, an offset and a zone, as far as the text has them. ValueError if none."""

    def __init__(self, text: str) -> None:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise ValueError(text)
        self.date = _date_parts(found[1], found[2], found[3])
        self.time = (0, 0, 0, 0) if found[4] is None else _time_parts(*found.group(4, 5, 6, 7))
        self.offset = None if found[8] is None else _seconds(found[8])
        self.zone: str | None = found[9] or found[10]

    @property
    def seconds(self) -> int:
        """Since 1970, in UTC unless there is an offset."""
        year, month, day = self.date
        cycle = 2000 + year % 400
        days = datetime.date(cycle, month, day).toordinal() - _EPOCH_DAYS
        days += (year - cycle) // 400 * _CYCLE_DAYS
        hour, minute, second, _ = self.time
        return days * 86400 + hour * 3600 + minute * 60 + second - (self.offset or 0)


def _date_parts(year: str, month: str, day: str) -> tuple[int, int, int]:
    parts = int(year), int(month), int(day)
    # The calendar is the same every 400 years, and Python has no others than 1 to 9999.
    datetime.date(2000 + parts[0] % 400, parts[1], parts[2])
    if abs(parts[0]) > _YEARS_MOST:
        raise ValueError(year)
    return parts


def _time_parts(
    hour: str, minute: str, second: str | None, fraction: str | None
) -> tuple[int, int, int, int]:
    parts = int(hour), int(minute), int(second or 0)
    datetime.time(*parts)
    return *parts, int((fraction or "0").ljust(9, "0"))


def _seconds(offset: str) -> int:
    if offset == "Z":
        return 0
    digits = offset[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:] or 0)
    if int(digits[2:4]) > 59 or int(digits[4:] or 0) > 59 or seconds > 18 * 3600:
        raise ValueError(offset)
    return -seconds if offset[0] == "-" else seconds


def _offset_name(seconds: int) -> str:
    """An offset as Java's ZoneOffset has it."""
    if seconds == 0:
        return "Z"
    minutes, rest = divmod(abs(seconds), 60)
    text = f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{text}:{rest:02}" if rest else text


def _date_bean(parts: tuple[int, int, int]) -> Bean:
    year, month, day = parts
    return Bean(JAVA8 + "LocalDateHandle", year=year, month=month, day=day)


def _time_bean(parts: tuple[int, int, int, int]) -> Bean:
    hour, minute, second, nano = parts
    return Bean(JAVA8 + "LocalTimeHandle", hour=hour, minute=minute, second=second, nano=nano)


def _local_bean(parts: _Parts) -> Bean:
    return Bean(
        JAVA8 + "LocalDateTimeHandle", date=_date_bean(parts.date), time=_time_bean(parts.time)
    )


def _offset_bean(seconds: int) -> Bean:
    return Bean(JAVA8 + "ZoneOffsetHandle", seconds=seconds)


def _moment(text: str) -> Any:
    parts = _Parts(text)
    return Date(parts.seconds * 1000 + parts.time[3] // 1_000_000)


def _sql(java_class: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if java_class == "java.sql.Time" and _LOCAL_TIME.fullmatch(text):
            text = f"1970-01-01T{text}"
        return Bean(java_class, value=_moment(text))

    return read


def _instant(text: str) -> Any:
    parts = _Parts(text)
    if parts.offset is None:
        raise ValueError(text)
    return Bean(JAVA8 + "InstantHandle", seconds=Long(parts.seconds), nanos=parts.time[3])


def _local_date(text: str) -> Any:
    return _date_bean(_Parts(text).date)


def _local_time(text: str) -> Any:
    found = _LOCAL_TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return _time_bean(_time_parts(*found.groups()))


def _offset_time(text: str) -> Any:
    # fastjson2 has it with the first day of 1970.
    found = _OFFSET_TIME.fullmatch(text)
    if found is None:
        raise ValueError(text)
    time = _time_bean(_time_parts(*found.group(4, 5, 6, 7)))
    offset = _offset_bean(_seconds(found[8]))
    return Bean(JAVA8 + "OffsetTimeHandle", localTime=time, zoneOffset=offset)


def _offset_datetime(text: str) -> Any:
    parts = _Parts(text)
    if parts.offset is None:
        raise ValueError(text)
    return Bean(
        JAVA8 + "OffsetDateTimeHandle",
        dateTime=_local_bean(parts),
        offset=_offset_bean(parts.offset),
    )


def _zoned_datetime(text: str) -> Any:
    parts = _Parts(text)
    if parts.offset is None and parts.zone is None:
        raise ValueError(text)
    return Bean(
        JAVA8 + "ZonedDateTimeHandle",
        dateTime=_local_bean(parts),
        offset=None if parts.offset is None else _offset_bean(parts.offset),
        zoneId=parts.zone or _offset_name(parts.offset or 0),
    )


def _duration(text: str) -> Any:
    found = _DURATION.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.group(2, 3, 4, 5))
    nanos = int((found[6] or "0").ljust(9, "0"))
    if (found[5] or "").startswith("-"):
        nanos = -nanos
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    total = total * 10**9 + nanos
    if found[1] == "-":
        total = -total
    seconds, nanos = divmod(total, 10**9)
    if not -(2**63) <= seconds < 2**63:
        raise ValueError(text)
    return Bean(JAVA8 + "DurationHandle", seconds=Long(seconds), nanos=nanos)


def _period(text: str) -> Any:
    found = _PERIOD.fullmatch(text)
    if found is None or text == "P":
        raise ValueError(text)
    years, months, weeks, days = (int(part or 0) for part in found.groups())
    if not all(-(2**31) <= part < 2**31 for part in (years, months, 7 * weeks + days)):
        raise ValueError(text)
    return Bean(JAVA8 + "PeriodHandle", years=years, months=months, days=7 * weeks + days)


def _year(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(value)
    year = int(value)
    if abs(year) >= _YEARS_MOST:
        raise ValueError(value)
    return Bean(JAVA8 + "YearHandle", year=year)


def _year_month(text: str) -> Any:
    found = _YEAR_MONTH.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, _ = _date_parts(found[1], found[2], "01")
    return Bean(JAVA8 + "YearMonthHandle", year=year, month=month)


def _month_day(text: str) -> Any:
    found = _MONTH_DAY.fullmatch(text)
    if found is None:
        raise ValueError(text)
    _, month, day = _date_parts("2000", found[1], found[2])
    return Bean(JAVA8 + "MonthDayHandle", month=month, day=day)


def _zone_offset(text: str) -> Any:
    if not _ZONE_OFFSET.fullmatch(text):
        raise ValueError(text)
    return _offset_bean(_seconds(text))


def _zone_id(text: str) -> Any:
    if not re.fullmatch(_ZONE, f"[{text}]", re.ASCII):
        raise ValueError(text)
    return Bean(JAVA8 + "ZoneIdHandle", zoneId=text)


def _uuid(text: str) -> Any:
    if len(text) == 24:
        # As a result in fastjson2 has it, where a UUID is 16 bytes.
        return uuid_bean(uuid.UUID(bytes=base64.b64decode(text, validate=True)))
    return uuid_bean(text)


def _currency(text: str) -> Any:
    if not re.fullmatch(r"[A-Z]{3}", text):
        raise ValueError(text)
    return Bean("java.util.Currency", currencyCode=text)


def _file(text: str) -> Any:
    return Bean("java.io.File", value=text)


def constant(java_class: str, name: str) -> Bean:
    """An enum's constant."""
    made = Bean(java_class, name=name)
    made.constant = True
    return made


def _enum(java_class: str) -> Callable[[str], Any]:
    return lambda text: constant(java_class, text)


_DAY, _CLOCK = "2026-01-31", "12:00:00.5"
# Class name -> what reads its text, and an example of it.
FROM_TEXT: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "java.util.Date": (_moment, f"{_DAY}T12:00:00.000Z"),
    "java.util.Calendar": (
        lambda text: Bean(HANDLE + "CalendarHandle", type=None, date=_moment(text)),
        f"{_DAY}T12:00:00.000Z",
    ),
    "java.sql.Date": (_sql("java.sql.Date"), _DAY),
    "java.sql.Time": (_sql("java.sql.Time"), "12:00:00"),
    "java.sql.Timestamp": (_sql("java.sql.Timestamp"), f"{_DAY}T12:00:00.000Z"),
    "java.time.Instant": (_instant, f"{_DAY}T{_CLOCK}Z"),
    "java.time.LocalDate": (_local_date, _DAY),
    "java.time.LocalTime": (_local_time, _CLOCK),
    "java.time.LocalDateTime": (lambda text: _local_bean(_Parts(text)), f"{_DAY}T{_CLOCK}"),
    "java.time.OffsetTime": (_offset_time, f"{_CLOCK}+01:00"),
    "java.time.OffsetDateTime": (_offset_datetime, f"{_DAY}T{_CLOCK}+01:00"),
    "java.time.ZonedDateTime": (_zoned_datetime, f"{_DAY}T{_CLOCK}+01:00[Europe/Paris]"),
    "java.time.Duration": (_duration, "PT1H30M0.5S"),
    "java.time.Period": (_period, "P1Y2M3D"),
    "java.time.Year": (_year, "2026"),
    "java.time.YearMonth": (_year_month, "2026-01"),
    "java.time.MonthDay": (_month_day, "--01-31"),
    "java.time.ZoneOffset": (_zone_offset, "+01:00"),
    "java.time.ZoneId": (_zone_id, "Europe/Paris"),
    "java.util.UUID": (_uuid, "123e4567-e89b-12d3-a456-426614174000"),
    "java.util.Currency": (_currency, "EUR"),
    "java.io.File": (_file, "/tmp/x"),
} | {
    # Enums of the JDK, whose names in lists and maps say that they are meant.
    name: (_enum(name), "CONSTANT")
    for name in (
        "java.time.DayOfWeek", "java.time.Month", "java.time.format.TextStyle",
        "java.time.format.FormatStyle", "java.time.temporal.ChronoUnit",
        "java.time.temporal.ChronoField", "java.util.concurrent.TimeUnit", "java.math.RoundingMode",
        "java.util.Locale$Category", "java.lang.Thread$State", "java.nio.file.StandardOpenOption",
    )
}  # fmt: skip


def _atomic(java_class: str, kind: type) -> Callable[[Any], Any]:
    bits = 31 if java_class.endswith("Integer") else 63

    def read(value: Any) -> Any:
        if isinstance(value, str) and kind is int:
            value = int(value)
        if type(value) is not kind:
            raise ValueError(value)
        number: int = int(value)  # type: ignore[call-overload]
        if not -(1 << bits) <= number < 1 << bits:
            raise ValueError(value)
        return Bean(java_class, value=Long(number) if java_class.endswith("Long") else number)

    return read


# The same for classes whose JSON is no text.
FROM_JSON: Final[dict[str, tuple[Callable[[Any], Any], str]]] = {
    "java.time.Year": (_year, "2026"),
    "java.util.concurrent.atomic.AtomicInteger": (
        _atomic("java.util.concurrent.atomic.AtomicInteger", int), "1"),
    "java.util.concurrent.atomic.AtomicLong": (
        _atomic("java.util.concurrent.atomic.AtomicLong", int), "1"),
    "java.util.concurrent.atomic.AtomicBoolean": (
        _atomic("java.util.concurrent.atomic.AtomicBoolean", bool), "true"),
}  # fmt: skip


def has_own_form(java_class: str) -> bool:
    """Whether only the type of a value tells what its JSON means, and Java's generic invocation
    does not find it out: ``byte[]`` is Base64."""
    return java_class in FROM_TEXT or java_class in FROM_JSON or java_class in _OTHERS


_OTHERS: Final = frozenset(("byte[]", "java.util.Locale"))


def from_json(value: Any, java_class: str) -> Any:
    """A value of a class of the tables; None for other classes, and for what JSON has of this one
    that is no text. Raises UsageError."""
    known = FROM_TEXT.get(java_class) if isinstance(value, str) else None
    known = known or FROM_JSON.get(java_class)
    if known is None:
        return None
    read, such_as = known
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        raise _wrong(value, java_class, such_as) from None
