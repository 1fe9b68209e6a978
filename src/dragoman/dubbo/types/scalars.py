"""Single values on their way between annotations and Java: numbers, texts, dates, bytes.

``dubbo.types.mapping`` builds lists, maps and beans of them. What hessian2 has with its type has
only text or a number in fastjson: a ``decode`` takes both, led by the annotation.

Invariant: what ``decode`` gives fits the annotation, or it raises Misfit that names the place.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import re
import uuid
from collections.abc import Callable
from typing import Any

from dragoman.errors import UsageError
from dragoman.wire.dubbo.json_values import plain
from dragoman.wire.java import BigInteger, Date, Double, Long
from dragoman.wire.java.from_json import read_json

Memo = dict[tuple[int, int], Any]
Encode = Callable[[Any], Any]
Decode = Callable[[Any, Memo], Any]

_DURATION = re.compile(
    r"PT(?:(-?\d{1,10})H)?(?:(-?\d{1,10})M)?(?:(-?\d{1,12}(?:\.\d{1,9})?)S)?", re.ASCII
)
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


# In the memo of a generic call: text stands for numbers and booleans, as Java's own
# ``PojoUtils.realize`` takes it, for its callers need not know what a method's types are.
LENIENT: tuple[int, int] = (0, 0)


class Misfit(ValueError):
    """A value does not fit its annotation; ``str`` says where in it, and why."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path = ""

    def within(self, place: str) -> Misfit:
        """The same, seen from one level further out."""
        self.path = place + self.path
        return self

    def __str__(self) -> str:
        return f"{self.what} in {self.path}" if self.path else self.what


class Mapping:
    """How values of one annotation travel.

    ``descriptor`` is the JVM's; ``encode`` and ``decode`` are None where a value is its own.
    ``encode`` is for what is written as the descriptor says, ``encode_inner`` for the rest:
    elements and fields, whose types Java has erased or keeps to itself.
    """

    __slots__ = ("decode", "descriptor", "encode", "encode_inner")

    def __init__(
        self,
        descriptor: str,
        encode: Encode | None = None,
        decode: Decode | None = None,
        encode_inner: Encode | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.encode = encode
        self.decode = decode
        self.encode_inner = encode_inner or encode


BOXED = {
    "Z": "Ljava/lang/Boolean;",
    "B": "Ljava/lang/Byte;",
    "S": "Ljava/lang/Short;",
    "I": "Ljava/lang/Integer;",
    "J": "Ljava/lang/Long;",
    "F": "Ljava/lang/Float;",
    "D": "Ljava/lang/Double;",
    "C": "Ljava/lang/Character;",
}
UNBOXED = {boxed: primitive for primitive, boxed in BOXED.items()}
INTEGERS = ("B", "S", "I", "J")


def name_of(value: Any) -> str:
    """What a value is called in errors: by its Java class, if it has one."""
    if value is None:
        return "null"
    java_class = getattr(value, "java_class", None)
    return java_class if isinstance(java_class, str) and java_class else type(value).__name__


def big_integer(value: Any) -> Any:
    """An int as java.math.BigInteger, however small."""
    if value is None:
        return None
    if not isinstance(value, int) or type(value) is bool:
        raise Misfit(f"expected int, got {name_of(value)}")
    return BigInteger(value)


def decode_int_or_null(value: Any, memo: Memo) -> Any:
    """An int, or None."""
    return None if value is None else _decode_int(value, memo)


def integer(descriptor: str, primitive: str) -> Mapping:
    """How ints travel as one of Java's types of whole numbers."""
    return Mapping(
        descriptor,
        None,
        _decode_int if descriptor == primitive else decode_int_or_null,
        _long if primitive == "J" else None,
    )


def _long(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, int) or type(value) is bool:
        raise Misfit(f"expected int, got {name_of(value)}")
    if not -(1 << 63) <= value < 1 << 63:
        raise Misfit(f"{value} does not fit Java's long")
    return Long(value)


def _decode_int(value: Any, memo: Memo) -> Any:
    if type(value) is int:
        return value
    if isinstance(value, int) and type(value) is not bool:
        return int(value)
    if LENIENT in memo:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,1024}", value, re.ASCII):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
    raise Misfit(f"expected int, got {name_of(value)}")


def _decode_bool(value: Any, memo: Memo) -> Any:
    if type(value) is bool:
        return value
    if LENIENT in memo and value in ("true", "false"):
        return value == "true"
    raise Misfit(f"expected bool, got {name_of(value)}")


def _double(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, int | float) and type(value) is not bool:
        return Double(value)
    raise Misfit(f"expected float, got {name_of(value)}")


def _decode_float(value: Any, memo: Memo) -> Any:
    if type(value) is float:
        return value
    if isinstance(value, int | float | decimal.Decimal) and type(value) is not bool:
        return float(value)
    if LENIENT in memo and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    raise Misfit(f"expected float, got {name_of(value)}")


def key_decoder(keys: Mapping) -> Decode | None:
    """How keys are decoded: as other values, but in JSON every key is text, and one that is an
    object or a list is its own JSON."""
    decode = keys.decode
    if decode is None:
        return None
    parse = _TEXT_KEYS.get(UNBOXED.get(keys.descriptor, keys.descriptor))

    def decode_key(value: Any, memo: Memo) -> Any:
        if type(value) is str and parse is not None:
            try:
                value = parse(value)
            except (ValueError, KeyError):
                raise Misfit(f"the key {value!r:.60} does not fit") from None
        try:
            return decode(value, memo)
        except Misfit:
            if parse is not None or type(value) is not str or value[:1] not in ("{", "["):
                raise
        try:
            inner = plain(read_json(value.encode("utf-8", "surrogatepass")))
        except UsageError:
            raise Misfit(f"the key {value!r:.60} does not fit") from None
        return decode(inner, memo)

    return decode_key


_TEXT_KEYS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("B", "S", "I", "J", "Ljava/math/BigInteger;"), int),
    **dict.fromkeys(("F", "D"), float),
    "Z": {"true": True, "false": False}.__getitem__,
}


def _decode_decimal(value: Any, memo: Memo) -> Any:
    if isinstance(value, decimal.Decimal):
        return value
    if isinstance(value, int | float | str) and type(value) is not bool:
        # As fastjson writes one.
        try:
            return decimal.Decimal(str(value))
        except decimal.InvalidOperation:
            pass
    raise Misfit(f"expected Decimal, got {name_of(value)}")


def _decode_datetime(value: Any, memo: Memo) -> Any:
    if isinstance(value, datetime.datetime):
        return value
    if type(value) is int or isinstance(value, Date):
        # As fastjson writes one: milliseconds.
        try:
            return _EPOCH + datetime.timedelta(milliseconds=value)
        except OverflowError:
            pass
    if isinstance(value, str):
        return _parsed(datetime.datetime, value)
    raise Misfit(f"expected datetime, got {name_of(value)}")


def _parsed(kind: Any, text: str) -> Any:
    """What fastjson wrote as text in ISO 8601."""
    try:
        return kind.fromisoformat(text)
    except ValueError:
        raise Misfit(f"expected {kind.__name__}, got {text!r:.60}") from None


def _decode_iso(kind: Any) -> Decode:
    exact = _decode_exact(kind)

    def decode(value: Any, memo: Memo) -> Any:
        return _parsed(kind, value) if isinstance(value, str) else exact(value, memo)

    return decode


def _decode_duration(value: Any, memo: Memo) -> Any:
    if isinstance(value, str):
        # As fastjson writes one: PT1H30M, PT0.5S.
        parts = _DURATION.fullmatch(value)
        if parts is None or not any(parts.groups()):
            raise Misfit(f"expected timedelta, got {value!r:.60}")
        hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        return datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return _decode_exact(datetime.timedelta)(value, memo)


def _decode_uuid(value: Any, memo: Memo) -> Any:
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            raise Misfit(f"expected UUID, got {value!r:.60}") from None
    if isinstance(value, bytes) and len(value) == 16:
        # As fastjson2 writes one.
        return uuid.UUID(bytes=value)
    return _decode_exact(uuid.UUID)(value, memo)


def _decode_bytes(value: Any, memo: Memo) -> Any:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        # As fastjson writes them.
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise Misfit(f"expected bytes, got {name_of(value)}")


def _decode_exact(kind: type) -> Decode:
    name = kind.__name__

    def decode(value: Any, memo: Memo) -> Any:
        if type(value) is kind or isinstance(value, kind):
            return value
        raise Misfit(f"expected {name}, got {name_of(value)}")

    return decode


def _own(kind: type, descriptor: str) -> Mapping:
    return Mapping(descriptor, decode=_decode_exact(kind))


PLAIN: dict[Any, Mapping] = {
    bool: Mapping("Z", decode=_decode_bool),
    int: integer("I", "I"),
    float: Mapping("D", None, _decode_float, _double),
    str: _own(str, "Ljava/lang/String;"),
    bytes: Mapping("[B", decode=_decode_bytes),
    decimal.Decimal: Mapping("Ljava/math/BigDecimal;", decode=_decode_decimal),
    datetime.datetime: Mapping("Ljava/util/Date;", decode=_decode_datetime),
    datetime.date: Mapping("Ljava/time/LocalDate;", decode=_decode_iso(datetime.date)),
    datetime.time: Mapping("Ljava/time/LocalTime;", decode=_decode_iso(datetime.time)),
    datetime.timedelta: Mapping("Ljava/time/Duration;", decode=_decode_duration),
    uuid.UUID: Mapping("Ljava/util/UUID;", decode=_decode_uuid),
}
