"""Java's types in annotations, and Python classes as beans.

    @bean("com.example.User")
    @dataclass
    class User:
        name: str
        born: java.Date | None = None

    async def find(self, id: java.long) -> User: ...

A plain annotation stands for the type that Java code uses most (``int`` for ``int``, ``str`` for
``String``; ``docs/sdk.md`` has the table). Where the Java interface has another one, an annotation
of this module says so: its names are Java's, with an underscore behind those that Python has too.
Any other type is ``Annotated[list[int], java.type_("int[]")]``.

Invariant: what is declared here only names classes; nothing that a peer names is ever looked up in
it, and no class is made.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from dragoman.errors import UsageError
from dragoman.options import shown
from dragoman.wire.java.descriptor import descriptor_of

C = TypeVar("C", bound=type)

_CLASS_NAME = re.compile(r"[^\W\d][\w$]*(\.[^\W\d][\w$]*)*")
_ATTRIBUTE = "__dragoman_bean__"


@dataclasses.dataclass(frozen=True)
class JavaType:
    """A Java type by its name, such as ``long`` or ``java.util.List``; ``type_`` makes it."""

    name: str
    descriptor: str


def type_(name: str) -> JavaType:
    """What stands in ``Annotated`` for the Java type ``name``: ``int[]``, ``java.util.List``,
    ``a.Bean``. Raises UsageError when it is none."""
    return JavaType(name, descriptor_of([name]))


boolean: TypeAlias = Annotated[bool, type_("boolean")]
byte: TypeAlias = Annotated[int, type_("byte")]
short: TypeAlias = Annotated[int, type_("short")]
int_: TypeAlias = Annotated[int, type_("int")]
long: TypeAlias = Annotated[int, type_("long")]
float_: TypeAlias = Annotated[float, type_("float")]
double: TypeAlias = Annotated[float, type_("double")]
char: TypeAlias = Annotated[str, type_("char")]

Boolean: TypeAlias = Annotated[bool, type_("java.lang.Boolean")]
Byte: TypeAlias = Annotated[int, type_("java.lang.Byte")]
Short: TypeAlias = Annotated[int, type_("java.lang.Short")]
Integer: TypeAlias = Annotated[int, type_("java.lang.Integer")]
Long: TypeAlias = Annotated[int, type_("java.lang.Long")]
Float: TypeAlias = Annotated[float, type_("java.lang.Float")]
Double: TypeAlias = Annotated[float, type_("java.lang.Double")]
Character: TypeAlias = Annotated[str, type_("java.lang.Character")]

String: TypeAlias = Annotated[str, type_("java.lang.String")]
Object: TypeAlias = Annotated[Any, type_("java.lang.Object")]
BigInteger: TypeAlias = Annotated[int, type_("java.math.BigInteger")]
BigDecimal: TypeAlias = Annotated[decimal.Decimal, type_("java.math.BigDecimal")]
Date: TypeAlias = Annotated[datetime.datetime, type_("java.util.Date")]
Instant: TypeAlias = Annotated[datetime.datetime, type_("java.time.Instant")]
LocalDateTime: TypeAlias = Annotated[datetime.datetime, type_("java.time.LocalDateTime")]


@dataclasses.dataclass(frozen=True)
class BeanDeclaration:
    """What ``bean`` said of a class: its Java name, and its fields' Java names by Python's."""

    java_class: str
    fields: dict[str, str]


def bean(java_class: str, *, names: dict[str, str] | None = None) -> Callable[[C], C]:
    """Declare that a dataclass, a ``msgspec.Struct`` or an ``Enum`` is the Java class
    ``java_class``: it travels as a bean (or an enum's constant) of that name.

    ``names`` maps fields to the names that they have in Java where these differ. A Struct may
    rename its fields itself (``rename="camel"``). Stands above ``@dataclass``. Raises UsageError
    for other classes, and for what is no class name.
    """
    if not isinstance(java_class, str) or not _CLASS_NAME.fullmatch(java_class):
        raise UsageError(f"bean: expected the name of a Java class, not {shown(java_class)}")

    def decorate(cls: C) -> C:
        own = fields_of(cls)
        renamed = dict(names or {})
        for name in renamed:
            if name not in own:
                raise UsageError(f"bean: {cls.__qualname__} has no field {name!r}")
        own |= renamed
        if len(set(own.values())) < len(own):
            raise UsageError(f"bean: two fields of {cls.__qualname__} have one name in Java")
        setattr(cls, _ATTRIBUTE, BeanDeclaration(java_class, own))
        return cls

    return decorate


def fields_of(cls: Any) -> dict[str, str]:
    """The fields of a class by their names, with the names under which they travel; none for an
    Enum. Raises UsageError for a class of which neither is known."""
    if not isinstance(cls, type):
        raise UsageError(f"bean: expected a class, not {shown(cls)}")
    if issubclass(cls, Enum):
        return {}
    if issubclass(cls, msgspec.Struct):
        return dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    if dataclasses.is_dataclass(cls):
        return {field.name: field.name for field in dataclasses.fields(cls)}
    raise UsageError(
        f"bean: {cls.__qualname__} is no dataclass, msgspec.Struct or Enum"
        " (@bean stands above @dataclass)"
    )


def declared_bean(cls: Any) -> BeanDeclaration | None:
    """What ``bean`` said of this very class, or None."""
    found: BeanDeclaration | None = getattr(cls, "__dict__", {}).get(_ATTRIBUTE)
    return found
