"""Messages for data that does not fit a type, in words of our own.

msgspec tells whether data fits; how it words what does not changes from release to release, and
such words reach users and tests. So nobody shows the text of its errors: who catches one asks here,
with the data and the type. Used on the way to an error alone, by everything that reads
configuration, registries' entries, JSON calls and arguments.

The invariant: no message holds a value, since callers' values and secrets are in them; and what is
looked at is bounded, ``LOOKED_AT_BYTES_MAX`` of text, however much arrived.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import msgspec

from dragoman.errors import UsageError
from dragoman.wire.json.text import check_value

# More than this is not made objects of in search of the place.
LOOKED_AT_BYTES_MAX: Final = 64 << 10
# Everything that msgspec raises for data that it cannot read, or that does not fit.
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)

_NAMES: Final[Mapping[type, str]] = {
    NoneType: "null",
    dict: "object",
    list: "array",
    tuple: "array",
    set: "array",
    frozenset: "array",
}
_POSITION = re.compile(r"line (\d+), column (\d+)")


class Misfit(NamedTuple):
    """The first place where a value does not fit, and why: names, numbers, and ``...`` and ``key``
    for what is in a dictionary."""

    place: tuple[str | int, ...]
    why: str

    @property
    def field(self) -> str:
        """``connections[1]``; empty for the value itself."""
        text = "".join(f"[{step}]" if _bracketed(step) else f".{step}" for step in self.place)
        return text.removeprefix(".")

    def __str__(self) -> str:
        return f"{self.why} in field {self.field}" if self.place else self.why


def _bracketed(step: str | int) -> bool:
    return isinstance(step, int) or step in ("...", "key")


def misfit(value: Any, kind: Any, *, strict: bool = True, binary: bool = False) -> Misfit:
    """Where and why ``value`` (of dict, list, str, int and the like) is no ``kind``.

    ``binary``: it came as MessagePack, where bytes and keys that are no text are themselves.
    Where nothing is found, the whole is said not to fit.
    """
    found = search(value, kind, strict=strict, binary=binary)
    return found or Misfit((), f"expected {_described(kind)}")


def search(value: Any, kind: Any, *, strict: bool = True, binary: bool = False) -> Misfit | None:
    """The same, or None for what fits."""
    return _search(value, kind, (), strict, binary)


def json_misfit(data: bytes, kind: Any, *, strict: bool = True) -> Misfit:
    """Where and why JSON text is no ``kind``; also for what is no JSON at all."""
    data = bytes(data)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return Misfit((), f"expected UTF-8, which ends at byte {error.start}")
    try:
        check_value(data)
    except UsageError as error:
        return Misfit((), f"{error}{_json_end(data)}")
    place: tuple[str, ...] = ()
    try:
        if len(data) > LOOKED_AT_BYTES_MAX:
            place, data, kind = _wrong_member(data, kind, strict)
        if len(data) > LOOKED_AT_BYTES_MAX:
            return Misfit(place, f"expected {_described(kind)}")
        value = msgspec.json.decode(data)
    except UNREADABLE:
        return Misfit(place, "not one well-formed JSON value")
    found = misfit(value, kind, strict=strict)
    return Misfit((*place, *found.place), found.why)


def msgpack_misfit(data: bytes, kind: Any) -> Misfit:
    """Where and why MessagePack is no ``kind``; also for what is none at all."""
    if len(data) > LOOKED_AT_BYTES_MAX:
        return Misfit((), f"expected MessagePack of {_described(kind)}")
    try:
        value = msgspec.msgpack.decode(data)
    except UNREADABLE:
        return Misfit((), "expected one whole value of MessagePack")
    return misfit(value, kind, binary=True)


def unsendable(value: Any) -> str:
    """Why a value cannot be encoded as MessagePack: the type of what is in the way."""
    try:
        return _unsendable(value) or "they cannot be encoded"
    except RecursionError:
        return "nested too deep"


def _unsendable(value: Any) -> str:
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    for each in inner:
        if found := _unsendable(each):
            return found
    try:
        msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError):
        if isinstance(value, int):
            return "an int of more than 64 bits"
        return f"a value of type {type(value).__qualname__}"
    return ""


def toml_misfit(error: Exception) -> str:
    """Why a file is no TOML, for what ``tomllib`` raised: its words are Python's, and change."""
    if isinstance(error, UnicodeDecodeError):
        return f"expected UTF-8, which ends at byte {error.start}"
    found = _POSITION.search(str(error))
    if found is None:
        return "not TOML: its end is missing"
    return f"not TOML from line {found[1]}, column {found[2]} on"


def _json_end(data: bytes) -> str:
    """Where JSON text stops to be any, if that is cheap to find."""
    if len(data) <= LOOKED_AT_BYTES_MAX:
        try:
            json.loads(data)
        except json.JSONDecodeError as error:
            return f" from byte {len(error.doc[: error.pos].encode())} on"
        except (ValueError, RecursionError):
            pass
    return ""


def _fits(value: Any, kind: Any, strict: bool, binary: bool) -> bool:
    try:
        msgspec.convert(
            value,
            kind,
            strict=strict,
            builtin_types=(bytes, bytearray) if binary else None,
            str_keys=not binary,
        )
    except UNREADABLE:
        return False
    except UsageError:
        return True  # a check of ours, which says itself what it wants
    return True


def _search(
    value: Any, kind: Any, place: tuple[str | int, ...], strict: bool, binary: bool
) -> Misfit | None:
    if _fits(value, kind, strict, binary):
        return None
    kind = _bare(kind, value)
    for step, inner, wanted in _parts(value, kind, binary):
        found = _search(inner, wanted, (*place, step), strict, binary)
        if found is not None:
            return found
    return Misfit(place, _why(value, kind))


def _bare(kind: Any, value: Any) -> Any:
    """The type that a value is to be compared with: the one that it may be of a union's."""
    while True:
        if get_origin(kind) is Annotated and not _fits_loosely(value, get_args(kind)[0]):
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType):
            options = [each for each in get_args(kind) if each is not NoneType]
            if len(options) != 1:
                return kind
            kind = options[0]
        else:
            return kind


def _fits_loosely(value: Any, kind: Any) -> bool:
    return _fits(value, kind, True, True)


def _parts(value: Any, kind: Any, binary: bool) -> Iterator[tuple[str | int, Any, Any]]:
    """The values of a container, each with its place and the type that is wanted there."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _parts(value, args[0], binary)
    elif isinstance(value, dict):
        if isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
            if len(args) == 2:
                for key, inner in value.items():
                    if binary:  # in JSON each key is text, whatever it stands for
                        yield "key", key, args[0]
                    yield "...", inner, args[1]
            return
        for name, wanted in _fields(kind).items():
            if name in value:
                yield name, value[name], wanted
    elif isinstance(value, list | tuple) and args and origin is not Literal:
        if origin is tuple and args[-1] is not Ellipsis:
            wanted = args if len(args) == len(value) else ()
            yield from ((i, *pair) for i, pair in enumerate(zip(value, wanted, strict=False)))
        elif origin in (list, tuple, set, frozenset):
            yield from ((i, inner, args[0]) for i, inner in enumerate(value))


def _fields(kind: Any) -> dict[str, Any]:
    """The members of an object of this type by their names in data, with their types."""
    try:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
        if dataclasses.is_dataclass(kind):
            return hints_of(kind, include_extras=True)
    except (TypeError, NameError):
        pass
    return {}


def _required(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [each.encode_name for each in msgspec.structs.fields(kind) if each.required]
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        return [
            each.name
            for each in dataclasses.fields(kind)
            if each.default is missing and each.default_factory is missing and each.init
        ]
    return []


def _why(value: Any, kind: Any) -> str:
    fields = _fields(kind)
    if fields and isinstance(value, dict):
        for name in _required(kind):
            if name not in value:
                return f"object missing required field {name}"
        for name in value:
            if name not in fields and _is_closed(kind):
                return f"object contains unknown field {str(name)[:64]}"
    described = _described(kind)
    name = _NAMES.get(type(value), type(value).__name__)
    if name == "int" and described.startswith("float"):
        name = "float"  # an int is as good
    # A bound is missed by what is of the right kind: that it is an int says nothing.
    if described.startswith(("one of ", name)):
        return f"expected {described}"
    return f"expected {described}, got {name}"


def _is_closed(kind: Any) -> bool:
    config = getattr(kind, "__struct_config__", None)
    return config is not None and bool(config.forbid_unknown_fields)


def _described(kind: Any) -> str:
    """A type in a message: ``int >= 1``, ``one of a, b``, ``array``."""
    if get_origin(kind) is Literal:
        return _one_of(get_args(kind))  # in the order that was declared
    try:
        return _words(msgspec.inspect.type_info(kind))
    except (TypeError, NameError, ValueError):
        return "another value"


_KINDS: Final = (
    (("BoolType",), "bool"),
    (("BytesType", "ByteArrayType", "MemoryViewType"), "bytes"),
    (("NoneType",), "null"),
    (("ListType", "SetType", "FrozenSetType", "VarTupleType", "TupleType"), "array"),
    (("DictType", "StructType", "DataclassType", "TypedDictType", "NamedTupleType"), "object"),
    (("DateTimeType",), "datetime"),
    (("DateType",), "date"),
    (("TimeType",), "time"),
    (("TimeDeltaType",), "duration"),
    (("UUIDType",), "uuid"),
    (("DecimalType",), "decimal"),
)
_BOUNDS: Final = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def _words(info: Any) -> str:
    name = type(info).__name__
    match name:
        case "Metadata":
            return _words(info.type)
        case "UnionType":
            return " or ".join(dict.fromkeys(map(_words, info.types)))
        case "LiteralType":
            return _one_of(info.values)
        case "EnumType":
            return _one_of(each.value for each in info.cls)
        case "IntType" | "FloatType":
            return name.removesuffix("Type").lower() + _range(info)
        case "StrType":
            return f"str{_length(info, 'characters')}{_pattern(info)}"
    word = next((word for names, word in _KINDS if name in names), "another value")
    return f"{word}{_length(info, 'bytes' if word == 'bytes' else 'members')}"


def _one_of(values: Iterable[object]) -> str:
    names = [str(value) for value in values]
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _range(info: Any) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge} to {info.le}"
    bounds = [
        f" {sign} {getattr(info, bound)}"
        for bound, sign in _BOUNDS
        if getattr(info, bound) is not None
    ]
    return " and".join(bounds)


def _length(info: Any, what: str) -> str:
    least, most = getattr(info, "min_length", None), getattr(info, "max_length", None)
    if least is None and most is None:
        return ""
    if most is None:
        return f" of at least {least} {what}"
    return f" of {f'{least} to' if least is not None else 'at most'} {most} {what}"


def _pattern(info: Any) -> str:
    return f" that matches {info.pattern}" if info.pattern is not None else ""


def _wrong_member(data: bytes, kind: Any, strict: bool) -> tuple[tuple[str, ...], bytes, Any]:
    """The member of a large object that does not fit, without making objects of the others."""
    members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    for name, wanted in _fields(kind).items():
        if name in members:
            try:
                msgspec.json.decode(members[name], type=wanted, strict=strict)
            except UNREADABLE:
                return (name,), bytes(members[name]), wanted
    return (), data, kind
