"""From annotations to Java's types and back: how a parameter or a result travels.

``mapping_of`` reads an annotation once, where a service is declared. Calls then use a ``Mapping``:
its ``descriptor`` names the Java type, ``encode`` makes of a Python value one that hessian2 and
fastjson write as that type, ``decode`` makes the annotated type of what was read.

Invariant: what ``decode`` gives fits the annotation, or it raises Misfit that names the place; the
work is linear in what was read, however often its parts refer to each other.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import msgspec

from dragoman.dubbo.types.java import JavaType, declared_bean, fields_of
from dragoman.dubbo.types.scalars import (
    BOXED,
    INTEGERS,
    PLAIN,
    UNBOXED,
    Decode,
    Encode,
    Mapping,
    Memo,
    Misfit,
    big_integer,
    decode_int_or_null,
    integer,
    key_decoder,
    name_of,
)
from dragoman.errors import UsageError
from dragoman.reasons import annotation_fault
from dragoman.wire.java import BEAN_CLASSES, ENUM_CLASSES, Bean, TypedList
from dragoman.wire.java.to_bean import enum_set

_MISSING: Any = object()
OBJECT = "Ljava/lang/Object;"
# The Java classes of the enums that have been declared.
ENUMS = ENUM_CLASSES

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_SETS = (set, frozenset, collections.abc.Set)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def mapping_of(annotation: Any, where: str) -> Mapping:
    """How values of ``annotation`` travel. Raises UsageError, which names ``where``, for types that
    cannot."""
    return _Reader(where).read(annotation)


class _Reader:
    """Reads one annotation; knows the beans that it is in the middle of."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._beans: dict[type, Mapping] = {}

    def read(self, annotation: Any) -> Mapping:
        if typing.get_origin(annotation) is Annotated:
            return self._annotated(annotation)
        if annotation is None or annotation is type(None):
            return Mapping("V", decode=_none)
        if annotation in (Any, object):
            return Mapping(OBJECT)
        plain = PLAIN.get(annotation)
        if plain is not None:
            return plain
        origin = typing.get_origin(annotation)
        if origin in (typing.Union, types.UnionType):
            return self._optional(annotation)
        if isinstance(annotation, typing.TypeVar) or origin is typing.Literal:
            raise self._wrong(annotation)
        kind = origin or annotation
        arguments = typing.get_args(annotation)
        if kind in _LISTS:
            return self._list(arguments, "Ljava/util/List;", list)
        if kind in _SETS:
            made = frozenset if kind is frozenset else set
            return self._list(arguments, "Ljava/util/Set;", made)
        if kind is tuple:
            if len(arguments) == 2 and arguments[1] is ...:
                return self._list(arguments[:1], "Ljava/util/List;", tuple)
            raise self._wrong(annotation, "a tuple other than tuple[T, ...]")
        if kind in _DICTS:
            return self._dict(arguments)
        if isinstance(kind, type):
            if issubclass(kind, Bean):
                return Mapping(OBJECT, decode=_fits(kind))
            if issubclass(kind, Enum):
                return self._enum(kind)
            if issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind):
                return self._bean(kind)
        raise self._wrong(annotation)

    def _wrong(self, annotation: Any, what: str | None = None) -> UsageError:
        name = what or getattr(annotation, "__qualname__", None) or str(annotation)
        return UsageError(
            f"{self._where}: {name} has no place in Java; use plain types, dataclasses,"
            " msgspec.Structs, Enums, or dragoman.dubbo.types.java"
        )

    def _annotated(self, annotation: Any) -> Mapping:
        inner, *notes = typing.get_args(annotation)
        base = self.read(inner)
        for note in notes:
            if isinstance(note, JavaType):
                return self._as(note, base, inner)
        return base

    def _as(self, java: JavaType, base: Mapping, inner: Any) -> Mapping:
        """``base`` with the Java type that the annotation names."""
        descriptor = java.descriptor
        primitive = UNBOXED.get(descriptor, descriptor)
        if primitive in INTEGERS and inner is int:
            return integer(descriptor, primitive)
        if descriptor == "Ljava/math/BigInteger;" and inner is int:
            return Mapping(descriptor, None, decode_int_or_null, big_integer)
        element = typing.get_args(inner)[:1]
        if descriptor == "Ljava/util/EnumSet;" and element and _is_enum(element[0]):
            return _enum_set_of(descriptor, base, self.read(element[0]).descriptor)
        decode = base.decode if descriptor == primitive else _unless_none_decode(base.decode)
        return Mapping(descriptor, base.encode, decode, base.encode_inner)

    def _optional(self, annotation: Any) -> Mapping:
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if len(kinds) != 1 or len(kinds) == len(typing.get_args(annotation)):
            raise self._wrong(annotation, f"the union {annotation}")
        inner = self.read(kinds[0])
        return Mapping(
            BOXED.get(inner.descriptor, inner.descriptor),
            _unless_none(inner.encode),
            _unless_none_decode(inner.decode),
            _unless_none(inner.encode_inner),
        )

    def _list(self, arguments: tuple[Any, ...], descriptor: str, made: Any) -> Mapping:
        element = self.read(arguments[0]) if arguments else Mapping(OBJECT)
        encode_one, decode_one = element.encode_inner, element.decode

        def encode(value: Any) -> Any:
            if value is None or encode_one is None:
                return value
            if not isinstance(value, list | tuple | set | frozenset):
                raise Misfit(f"expected {made.__name__}, got {name_of(value)}")
            items = []
            for index, item in enumerate(value):
                try:
                    items.append(encode_one(item))
                except Misfit as error:
                    raise error.within(f"[{index}]") from None
            return TypedList("java.util.HashSet", items) if "Set" in descriptor else items

        def decode(value: Any, memo: Memo) -> Any:
            if not isinstance(value, list | tuple | set):
                raise Misfit(f"expected {made.__name__}, got {name_of(value)}")
            if decode_one is None:
                return value if made is list and type(value) is list else _made(made, value)
            key = (id(value), id(decode))
            if key in memo:
                return memo[key]
            items = []
            for index, item in enumerate(value):
                try:
                    items.append(decode_one(item, memo))
                except Misfit as error:
                    raise error.within(f"[{index}]") from None
            result = memo[key] = items if made is list else _made(made, items)
            return result

        return Mapping(descriptor, encode, decode)

    def _dict(self, arguments: tuple[Any, ...]) -> Mapping:
        if not arguments:
            return Mapping("Ljava/util/Map;", decode=_fits(dict))
        keys, values = (self.read(argument) for argument in arguments)
        encode_key, encode_value = keys.encode_inner, values.encode_inner
        decode_key, decode_value = key_decoder(keys), values.decode

        def encode(value: Any) -> Any:
            if value is None or (encode_key is None and encode_value is None):
                return value
            result = {}
            for key, item in _as_dict(value).items():
                try:
                    result[encode_key(key) if encode_key else key] = (
                        encode_value(item) if encode_value else item
                    )
                except Misfit as error:
                    raise error.within(f"[{key!r:.40}]") from None
            return result

        def decode(value: Any, memo: Memo) -> Any:
            if not isinstance(value, dict):
                raise Misfit(f"expected dict, got {name_of(value)}")
            if decode_key is None and decode_value is None:
                return value
            place = (id(value), id(decode))
            if place in memo:
                return memo[place]
            result = {}
            for key, item in value.items():
                try:
                    made = decode_key(key, memo) if decode_key else key
                    result[made] = decode_value(item, memo) if decode_value else item
                except Misfit as error:
                    raise error.within(f"[{key!r:.40}]") from None
                except TypeError as error:
                    raise Misfit(f"a key that cannot be: {error}") from None
            memo[place] = result
            return result

        return Mapping("Ljava/util/Map;", encode, decode)

    def _enum(self, kind: type[Enum]) -> Mapping:
        declared = declared_bean(kind)
        if declared is None:
            raise UsageError(
                f"{self._where}: {kind.__qualname__} needs @bean with its Java class's name"
            )
        java_class = declared.java_class
        ENUMS.add(java_class)
        constants = kind.__members__
        order = list(constants.values())

        def encode(value: Any) -> Any:
            if value is None:
                return None
            if type(value) is not kind:
                raise Misfit(f"expected {kind.__name__}, got {name_of(value)}")
            return Bean(java_class, name=value.name)

        def decode(value: Any, memo: Memo) -> Any:
            name = value.get("name") if isinstance(value, dict) else value
            if type(name) is int and 0 <= name < len(order):
                # As fastjson2 has it where Java declares the enum: by its place.
                return order[name]
            if not isinstance(name, str) or name not in constants:
                raise Misfit(f"expected {kind.__name__}, got {name!r:.60}")
            return constants[name]

        return Mapping(_class_descriptor(java_class), encode, decode)

    def _bean(self, kind: type) -> Mapping:
        known = self._beans.get(kind)
        if known is not None:
            return known
        declared = declared_bean(kind)
        java_class = declared.java_class if declared else None
        if java_class is not None:
            BEAN_CLASSES.add(java_class)
        fields: list[Field] = []
        mapping = self._beans[kind] = Mapping(
            "Ljava/util/Map;" if java_class is None else _class_descriptor(java_class),
            _bean_encoder(kind, java_class, fields),
            _bean_decoder(kind, fields),
        )
        names = declared.fields if declared else fields_of(kind)
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except NameError as error:
            why = annotation_fault(error)
            raise UsageError(f"{self._where}: {kind.__qualname__}: an annotation: {why}") from None
        for name, java_name in names.items():
            outer = self._where
            self._where = f"{outer}: field {kind.__qualname__}.{name}"
            fields.append((name, java_name, self.read(hints[name]), _default_of(kind, name)))
            self._where = outer
        return mapping


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _enum_set_of(descriptor: str, base: Mapping, element: str) -> Mapping:
    """A set of constants as a java.util.EnumSet, which names their class."""
    java_class = element[1:-1].replace("/", ".")

    def encode(value: Any) -> Any:
        assert base.encode is not None
        made = base.encode(value)
        return None if made is None else enum_set(java_class, list(made))

    return Mapping(descriptor, encode, _unless_none_decode(base.decode))


def _made(made: Callable[[Any], Any], items: Any) -> Any:
    try:
        return made(items)
    except TypeError as error:
        # A set of what cannot be in one.
        raise Misfit(str(error)) from None


def _default_of(kind: Any, name: str) -> bool:
    """Whether a field may be left out when an object is made; init=False fields must be."""
    if issubclass(kind, msgspec.Struct):
        required = {field.name for field in msgspec.structs.fields(kind) if field.required}
        return name not in required
    field = {each.name: each for each in dataclasses.fields(kind)}[name]
    return (
        field.default is not dataclasses.MISSING
        or field.default_factory is not dataclasses.MISSING
        or not field.init
    )


Field = tuple[str, str, Mapping, bool]
_PRIMITIVE_DEFAULTS = {**dict.fromkeys("BSIJ", 0), **dict.fromkeys("FD", 0.0), "Z": False}


def _default_in_java(java_name: str, mapping: Mapping, memo: Memo) -> Any:
    """What Java has in a field that was not written: fastjson and fastjson2 leave out nulls,
    fastjson2 zeros too. What no value of the annotation stands for is a Misfit."""
    value = _PRIMITIVE_DEFAULTS.get(mapping.descriptor)
    if value is None and mapping.decode is not None:
        try:
            mapping.decode(None, memo)
        except Misfit:
            raise Misfit(f"field {java_name!r} is missing") from None
    return value


def _bean_encoder(kind: type, java_class: str | None, fields: list[Field]) -> Encode:
    def encode(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, kind):
            if isinstance(value, dict):
                # A mapping stands for a bean wherever one is expected.
                return value if java_class is None else Bean(java_class, value)
            raise Misfit(f"expected {kind.__name__}, got {name_of(value)}")
        result = {}
        for name, java_name, mapping, _ in fields:
            each = mapping.encode_inner
            item = getattr(value, name)
            if each is not None:
                try:
                    item = each(item)
                except Misfit as error:
                    raise error.within(f".{name}") from None
            result[java_name] = item
        return result if java_class is None else Bean(java_class, result)

    return encode


def _bean_decoder(kind: Any, fields: list[Field]) -> Decode:
    if issubclass(kind, msgspec.Struct):
        settable = set(kind.__struct_fields__)
    else:
        settable = {field.name for field in dataclasses.fields(kind) if field.init}

    def decode(value: Any, memo: Memo) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"expected {kind.__name__}, got {name_of(value)}")
        place = (id(value), id(decode))
        if place in memo:
            return memo[place]
        given = {}
        for name, java_name, mapping, optional in fields:
            item = value.get(java_name, _MISSING)
            if item is _MISSING:
                if optional:
                    continue
                item = _default_in_java(java_name, mapping, memo)
            if name not in settable:
                continue
            each = mapping.decode
            if each is not None:
                try:
                    item = each(item, memo)
                except Misfit as error:
                    raise error.within(f".{name}") from None
            given[name] = item
        try:
            result = memo[place] = kind(**given)
        except (TypeError, ValueError) as error:
            raise Misfit(str(error)) from None
        return result

    return decode


def _class_descriptor(java_class: str) -> str:
    return f"L{java_class.replace('.', '/')};"


def _unless_none(encode: Encode | None) -> Encode | None:
    if encode is None:
        return None

    def encode_optional(value: Any) -> Any:
        return None if value is None else encode(value)

    return encode_optional


def _unless_none_decode(decode: Decode | None) -> Decode | None:
    if decode is None:
        return None

    def decode_optional(value: Any, memo: Memo) -> Any:
        return None if value is None else decode(value, memo)

    return decode_optional


def _fits(kind: type) -> Decode:
    def decode(value: Any, memo: Memo) -> Any:
        if isinstance(value, kind):
            return value
        raise Misfit(f"expected {kind.__name__}, got {name_of(value)}")

    return decode


def _none(value: Any, memo: Memo) -> Any:
    if value is None:
        return None
    raise Misfit(f"expected None, got {name_of(value)}")


def _as_dict(value: Any) -> Any:
    if value is None or isinstance(value, collections.abc.Mapping):
        return value
    raise Misfit(f"expected dict, got {name_of(value)}")
