"""JSON as Java's values: what a caller wrote, and the type that Java's method has for it.

``dubbo.upstream.encode_request`` and the command line read arguments with it;
``hessian2.Hessian2Writer`` writes what comes out. Numbers keep all their digits, texts become
dates, decimals, bytes or enums where the type wants them, and type arguments
(``java.util.List<java.lang.Long>``) reach the elements.

The invariants: a value that does not fit its type is a UsageError that says so, and the only
classes named in what comes out are those of the caller's types and of members ``class``, of which
none from the JDK pass.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from dragoman.errors import UsageError
from dragoman.wire.java import Bean, Double, Long, MapKey, TypedList, TypedMap
from dragoman.wire.java.descriptor import descriptor_of, java_name
from dragoman.wire.java.from_text import FROM_JSON, FROM_TEXT, constant, from_json
from dragoman.wire.java.to_bean import TO_JAVA, enum_set
from dragoman.wire.json.doubles import natural_number
from dragoman.wire.misfit import UNREADABLE, json_misfit

TYPE_CHARACTERS_MAX: Final = 4096
TYPE_DEPTH_MAX: Final = 16
LONG_DIGITS: Final = 19

_INTEGERS: Final = {
    "byte": 1 << 7,
    "java.lang.Byte": 1 << 7,
    "short": 1 << 15,
    "java.lang.Short": 1 << 15,
    "int": 1 << 31,
    "java.lang.Integer": 1 << 31,
    "long": 1 << 63,
    "java.lang.Long": 1 << 63,
}
_FLOATS: Final = frozenset(("float", "double", "java.lang.Float", "java.lang.Double"))
_LONGS: Final = frozenset(("long", "java.lang.Long"))
_PRIMITIVES: Final = frozenset(
    ("boolean", "byte", "char", "short", "int", "long", "float", "double")
)
# How hessian names the elements of arrays that it does not call by their class.
_ELEMENTS: Final = {
    "java.lang.String": "string",
    "java.lang.Object": "object",
    "java.util.Date": "date",
}
_BOOLEANS: Final = frozenset(("boolean", "java.lang.Boolean"))
_CHARACTERS: Final = frozenset(("char", "java.lang.Character"))
_TEXTS: Final = frozenset(("java.lang.String", "java.lang.CharSequence")) | _CHARACTERS
_DECIMALS: Final = frozenset(("java.math.BigDecimal", "java.math.BigInteger"))
_SETS: Final = {
    "java.util.Set": "java.util.HashSet",
    "java.util.HashSet": "java.util.HashSet",
    "java.util.LinkedHashSet": "java.util.LinkedHashSet",
    "java.util.SortedSet": "java.util.TreeSet",
    "java.util.NavigableSet": "java.util.TreeSet",
    "java.util.TreeSet": "java.util.TreeSet",
}
_MAPS: Final = {
    "java.util.Map": "",
    "java.util.HashMap": "",
    "java.util.LinkedHashMap": "java.util.LinkedHashMap",
    "java.util.SortedMap": "java.util.TreeMap",
    "java.util.NavigableMap": "java.util.TreeMap",
    "java.util.TreeMap": "java.util.TreeMap",
    "java.util.concurrent.ConcurrentMap": "java.util.concurrent.ConcurrentHashMap",
    "java.util.concurrent.ConcurrentHashMap": "java.util.concurrent.ConcurrentHashMap",
}
ENUM_SET_CLASS: Final = "java.util.EnumSet"
_CLASS = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)+", re.ASCII)
_JDK = re.compile(r"(java|javax|jdk|sun|com\.sun)\.")

# How half of a surrogate pair is written, or a whole one.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
# What ``fit`` takes as it comes, unless it names type arguments.
_NATURAL: Final = frozenset(
    (
        "java.lang.Object",
        "java.lang.Iterable",
        "java.util.Collection",
        "java.util.List",
        "java.util.ArrayList",
        "java.util.Map",
        "java.util.HashMap",
    )
)

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_decode_natural = msgspec.json.Decoder(float_hook=natural_number).decode


class JavaType(NamedTuple):
    """A type as Java's source has it: its class, its type arguments, its array dimensions."""

    name: str
    arguments: tuple[JavaType, ...] = ()
    dimensions: int = 0

    @property
    def is_jdk(self) -> bool:
        """Whether every provider has this class, and those of its type arguments."""
        if self.name == ENUM_SET_CLASS:
            # Generic invocation cannot make one; names are all that it is made of.
            return True
        known = self.name in _PRIMITIVES or self.name.startswith(("java.", "javax."))
        return known and all(argument.is_jdk for argument in self.arguments)

    @property
    def element(self) -> JavaType:
        """The type of an array's elements."""
        return self._replace(dimensions=self.dimensions - 1)


OBJECT: Final = JavaType("java.lang.Object")
_parsed: dict[str, JavaType] = {}


def java_type(text: str) -> JavaType:
    """The type of a name: ``java.util.Map<String, long[]>``, or the JVM's ``[J``.

    Wildcards are their bounds. Raises UsageError.
    """
    known = _parsed.get(text)
    if known is None:
        if len(text) > TYPE_CHARACTERS_MAX:
            raise UsageError(f"a type's name of {len(text)} characters")
        descriptor_of([text])  # refuses what is malformed
        known = _parse(text, 0)
        if len(_parsed) >= 1024:
            _parsed.clear()
        _parsed[text] = known
    return known


def _parse(text: str, depth: int) -> JavaType:
    if depth > TYPE_DEPTH_MAX:
        raise UsageError("a type with type arguments nested too deep")
    plain = text.strip()
    if plain.startswith("?"):
        plain = re.sub(r"\?\s*((extends|super)\s+)?", "", plain, count=1) or OBJECT.name
    opened, closed = plain.find("<"), plain.rfind(">")
    arguments: tuple[JavaType, ...] = ()
    if opened >= 0:
        inside = plain[opened + 1 : closed]
        plain = plain[:opened] + plain[closed + 1 :]
        arguments = tuple(_parse(part, depth + 1) for part in _split(inside))
    name = java_name(descriptor_of([plain]))
    dimensions = name.count("[]")
    return JavaType(name.replace("[]", ""), arguments, dimensions)


def _split(text: str) -> list[str]:
    """The type arguments between angle brackets."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def read_json(raw: bytes) -> Any:
    """The value of a JSON text; numbers that are not whole are Decimals. Raises UsageError."""
    return _read(_decode, raw)


def _read(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decode(raw)
    except UNREADABLE:
        if _HALF.search(raw) is not None:
            return _with_halves(raw)
        raise UsageError(json_misfit(raw, Any).why) from None
    except InvalidOperation:
        raise UsageError("a number's exponent is beyond what a decimal has") from None


def _with_halves(raw: bytes) -> Any:
    """A JSON text in which there are halves of surrogate pairs, as Java's texts may have them."""
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError, InvalidOperation):
        raise UsageError(json_misfit(raw, Any).why) from None


def _no_number(text: str) -> Any:
    raise ValueError(text)


# Most of what there is, and told faster than what is to be changed.
_AS_THEY_ARE: Final = frozenset((str, int, bool, float, type(None)))


def natural(value: Any, *, beans: bool = True) -> Any:
    """A value of which no type is known, ready to be written.

    A number that a double cannot hold stays a decimal. With ``beans`` an object whose member
    ``class`` is the name of a class becomes a Bean of it; otherwise it stays a map.
    """
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, Decimal):
        near = float(value)
        return near if Decimal(repr(near)) == value else value
    if isinstance(value, Bean | TypedList | TypedMap | MapKey):
        # Of a field whose type was known.
        return value
    if isinstance(value, list):
        return [natural(each, beans=beans) for each in value]
    if isinstance(value, dict):
        named = value.get("class") if beans else None
        if isinstance(named, str) and _CLASS.fullmatch(named):
            return _bean(named, {k: v for k, v in value.items() if k != "class"})
        return {key: natural(each, beans=beans) for key, each in value.items()}
    return value


def _bean(name: str, fields: dict[str, Any]) -> Bean:
    if _JDK.match(name):
        raise UsageError(f"class {name:.200}: classes of the JDK are not made by their names")
    return _made(name, fields)


def _made(name: str, fields: dict[str, Any]) -> Bean:
    made = Bean(name, {key: natural(value) for key, value in fields.items()})
    made.constant = False
    return made


def constants_in(values: list[Any]) -> frozenset[str]:
    """The classes of which there are enums' constants in values that ``fit`` has made."""
    found: set[str] = set()
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, Bean) and value.constant:
            found.add(value.java_class)
        elif isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
    return frozenset(found)


# Class -> field -> type: of the fields that are known.
Fields = Mapping[str, Mapping[str, str]]
NO_FIELDS: Final[Fields] = {}


def is_natural(kind: JavaType, *, beans: bool) -> bool:
    """Whether ``fit`` takes what JSON has as it comes, but for members ``class``: ``kind`` says
    nothing of what is inside, or is a class that only the callee knows, and there are no beans."""
    if kind.arguments or kind.dimensions or beans or kind.is_jdk:
        return kind.name in _NATURAL and not (kind.arguments or kind.dimensions)
    return kind.name not in FROM_TEXT and kind.name not in FROM_JSON


def read_natural(raw: bytes) -> Any:
    """``natural`` of what ``read_json`` gives, for a text without ``\\u``, and without ``class``
    where there are beans."""
    return _read(_decode_natural, raw)


def fit_json(
    raw: bytes,
    kind: JavaType,
    *,
    beans: bool = True,
    fields: Fields = NO_FIELDS,
) -> Any:
    """``fit`` of what ``read_json`` gives; in one pass where ``kind`` says nothing of what is
    inside and no member can be ``class``. Raises UsageError."""
    plain = kind.name in _NATURAL and not (kind.arguments or kind.dimensions or fields)
    if plain and b"\\u" not in raw and not (beans and b"class" in raw):
        return read_natural(raw)
    return fit(read_json(raw), kind, beans=beans, fields=fields)


def fit(value: Any, kind: JavaType, *, beans: bool = True, fields: Fields = NO_FIELDS) -> Any:
    """``value`` from ``read_json`` as ``kind`` has it, ready to be written, also without its type.

    ``beans``: objects of classes that only the callee knows become Beans, and texts constants of
    enums; without it, for generic invocation, they stay maps and texts. ``fields`` are the types of
    those fields of beans that are to be fitted, too. Raises UsageError.
    """
    name = kind.name
    if value is None:
        if name in _PRIMITIVES and not kind.dimensions:
            raise UsageError(f"null is no {name}")
        return None
    if kind.dimensions:
        return _array(value, kind, beans, fields)
    if name in _INTEGERS:
        return _integer(value, name)
    if name in _FLOATS:
        return _float(value, name)
    if name in _BOOLEANS:
        if not isinstance(value, bool):
            raise _unfit(value, name)
        return value
    if name in _TEXTS:
        if not isinstance(value, str) or (name in _CHARACTERS and len(value) != 1):
            raise _unfit(value, name)
        return value
    known = from_json(value, name)
    if known is not None:
        return known
    if name in TO_JAVA:
        if isinstance(value, Decimal) and name not in _DECIMALS:
            value = int(value) if _is_short(value) else float(value)
        try:
            return TO_JAVA[name](value)
        except (OverflowError, ValueError):
            raise _unfit(value, name) from None
    if name == ENUM_SET_CLASS and isinstance(value, list):
        return _enum_set(value, kind)
    if isinstance(value, list) and (kind.arguments or name in _SETS):
        element = kind.arguments[0] if kind.arguments else OBJECT
        values = [fit(each, element, beans=beans, fields=fields) for each in value]
        return TypedList(_SETS[name], values) if name in _SETS else values
    if isinstance(value, dict) and name in _MAPS:
        return _map(value, kind, beans, fields)
    if isinstance(value, dict) and fields:
        value = _fitted(value, name, beans, fields)
    if beans and not kind.is_jdk:
        if isinstance(value, str):
            return constant(name, value)
        if isinstance(value, dict) and "class" not in value:
            return _made(name, value)
    return natural(value, beans=beans)


def _fitted(value: dict[str, Any], name: str, beans: bool, fields: Fields) -> dict[str, Any]:
    """A bean's JSON with those fields fitted whose types are known; its member ``class`` may say
    that it is of a subclass."""
    named = value.get("class")
    known = {**fields.get(name, {}), **(fields.get(named, {}) if isinstance(named, str) else {})}
    if not known:
        return value
    fitted = dict(value)
    for field, text in known.items():
        if field in value:
            try:
                fitted[field] = fit(value[field], java_type(text), beans=beans, fields=fields)
            except UsageError as error:
                raise UsageError(f"{field}: {error}") from None
    return fitted


def _enum_set(value: list[Any], kind: JavaType) -> Any:
    """A set of an enum's constants, whose class it names even when it is empty."""
    if len(kind.arguments) != 1 or kind.arguments[0] == OBJECT:
        raise UsageError(
            f"{kind.name} without its enum: name it, as in {kind.name}<com.example.Color>"
        )
    for each in value:
        if not isinstance(each, str):
            raise _unfit(each, kind.arguments[0].name)
    name = kind.arguments[0].name
    return enum_set(name, [constant(name, each) for each in value])


def _unfit(value: Any, name: str) -> UsageError:
    return UsageError(f"{value!r:.200} is no {name:.200}")


def _is_short(value: Decimal) -> bool:
    """Whether it is a whole number of no more digits than a long has. Asked before it is made one:
    1e999999999 would be made for hours."""
    return value.adjusted() < LONG_DIGITS and value == value.to_integral_value()


def _integer(value: Any, name: str) -> int:
    """A whole number in its range; text too, as writers of JSON without 64-bit integers send it."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value, re.ASCII):
        value = int(value)
    if isinstance(value, Decimal) and _is_short(value):
        value = int(value)
    most = _INTEGERS[name]
    if isinstance(value, bool) or not isinstance(value, int) or not -most <= value < most:
        raise _unfit(value, name)
    return Long(value) if name in _LONGS else value


_UNSAYABLE: Final = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


def _float(value: Any, name: str) -> Double:
    """A number; what is none in JSON, as the text that results have for it."""
    if isinstance(value, str) and value in _UNSAYABLE:
        return Double(_UNSAYABLE[value])
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _unfit(value, name)
    try:
        return Double(value)
    except OverflowError:
        raise _unfit(value, name) from None


def _array(value: Any, kind: JavaType, beans: bool, fields: Fields) -> Any:
    """An array; ``byte[]`` also from Base64, ``char[]`` from text."""
    element = kind.element
    if not element.dimensions:
        if element.name == "byte" and isinstance(value, str):
            try:
                return base64.b64decode(value, validate=True)
            except ValueError:  # binascii.Error, or not ASCII
                raise UsageError(f"{value!r:.200} is no byte[] in Base64") from None
        if element.name == "byte" and isinstance(value, list):
            return bytes([_integer(each, "byte") & 255 for each in value])
        if element.name == "char" and isinstance(value, str):
            return value
    if not isinstance(value, list):
        raise _unfit(value, f"{kind.name}{'[]' * kind.dimensions}")
    values = [fit(each, element, beans=beans, fields=fields) for each in value]
    if not beans and not kind.is_jdk:
        # An array of their class would have Java make beans of the maps before it is asked to.
        return values
    return TypedList("[" * kind.dimensions + _ELEMENTS.get(kind.name, kind.name), values)


def _map(value: dict[str, Any], kind: JavaType, beans: bool, fields: Fields) -> dict[Any, Any]:
    """A map; the names of a JSON object become keys of the type that the map has."""
    keys, values = kind.arguments if len(kind.arguments) == 2 else (OBJECT, OBJECT)
    made = {
        _key(name, keys, beans, fields): fit(each, values, beans=beans, fields=fields)
        for name, each in value.items()
    }
    java_class = _MAPS[kind.name]
    return TypedMap(java_class, made) if java_class else made


def _key(name: str, kind: JavaType, beans: bool, fields: Fields) -> Any:
    if kind == OBJECT or kind.name in _TEXTS:
        return name
    if kind.name in _BOOLEANS:
        return fit({"true": True, "false": False}.get(name), kind)
    if kind.name in _FLOATS:
        return fit(read_json(name.encode()), kind)
    if name[:1] in ("{", "[") and kind.name not in TO_JAVA:
        # An object or a list as a key is its JSON as text, as results have it.
        return _frozen(
            fit(read_json(name.encode("utf-8", "surrogatepass")), kind, beans=beans, fields=fields)
        )
    return fit(name, kind, beans=beans, fields=fields)


def _frozen(value: Any) -> Any:
    """A value as a key can be; what is nested too deep in one is refused when it is hashed."""
    if isinstance(value, Bean):
        for name, each in value.items():
            value[name] = _frozen(each)
        return value
    if isinstance(value, dict):
        return MapKey({_frozen(key): _frozen(each) for key, each in value.items()})
    return tuple([_frozen(each) for each in value]) if isinstance(value, list) else value
