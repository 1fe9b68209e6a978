"""Java's values in Python: the types that the codecs and the SDK hand to programs and take.

| Java | from Java | to Java |
| --- | --- | --- |
| null, boolean, String, byte[] | None, bool, str, bytes | the same; bytearray and memoryview too |
| byte, short, int, long | int | int: an int if it fits, else a long; ``Long`` forces a long |
| float, double | float | float |
| char | str | str |
| BigInteger | int | an int beyond 64 bits; ``BigInteger`` forces one |
| BigDecimal | decimal.Decimal | decimal.Decimal |
| java.util.Date, java.sql.* | datetime, aware, UTC, ms | an aware datetime: java.util.Date |
| ... beyond the years 1 to 9999 | ``Date`` | ``Date`` |
| Instant, OffsetDateTime, ZonedDateTime | datetime, aware | by descriptor |
| LocalDateTime, LocalDate, LocalTime | datetime (naive), date, time | the same |
| Duration | timedelta | timedelta |
| UUID | uuid.UUID | uuid.UUID |
| lists, arrays, sets | list | list, tuple; set and frozenset: HashSet; ``TypedList`` |
| maps of java.* | dict | dict: HashMap; ``TypedMap`` |
| keys of maps that are lists, maps | tuple, ``MapKey`` | the same |
| maps of other classes | ``TypedMap`` | ``TypedMap`` |
| enums | ``Bean`` with the one field ``name`` | ``enum(class, name)`` |
| all other objects, throwables too | ``Bean`` | ``Bean`` |

Where a value has no exact counterpart in Python (nanoseconds, a year beyond 9999, a named zone)
the ``Bean`` stays. Decoding with ``exact=True`` keeps all of Java's types, with the classes below,
so that what is encoded again is what it was. A descriptor when encoding goes before these rules.
Keys of maps that are equal in Python (1, 1.0 and True) fall together, the last one stays.

The invariant: what a peer names is text, never a class that is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dragoman.wire.java.bean import Bean, MapKey

__all__ = [
    "Bean",
    "BigInteger",
    "Date",
    "Double",
    "Long",
    "MapKey",
    "TypedList",
    "TypedMap",
    "enum",
]


class Long(int):
    """An int that is written as Java's long, however small."""

    __slots__ = ()


class BigInteger(int):
    """An int that is written as java.math.BigInteger, however small."""

    __slots__ = ()


class Date(int):
    """A java.util.Date as milliseconds since 1970 in UTC, where a datetime cannot hold it."""

    __slots__ = ()


class Double(float):
    """A float; for values that may be ints: ``Double(1)`` is written as Java's double."""

    __slots__ = ()


class TypedList(list[Any]):
    """A list with the Java type that it is written with, such as ``[int`` or java.util.HashSet.

    Hessian's names of array types are ``[int``, ``[string``, ``[com.example.User``.
    """

    __slots__ = ("java_class",)

    def __init__(self, java_class: str, values: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.java_class = java_class

    def __repr__(self) -> str:
        return f"TypedList({self.java_class!r}, {super().__repr__()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TypedList, (self.java_class, list(self))


class TypedMap(dict[Any, Any]):
    """A map with the Java class that it is written with, such as java.util.TreeMap."""

    __slots__ = ("java_class",)

    def __init__(self, java_class: str, values: Mapping[Any, Any] | Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.java_class = java_class

    def __repr__(self) -> str:
        return f"TypedMap({self.java_class!r}, {super().__repr__()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TypedMap, (self.java_class, dict(self))


# Classes of which this program has said whether they are enums: in memory, and in hessian2, a
# constant looks like a bean whose one field is ``name``, but fastjson2 writes the two differently.
ENUM_CLASSES: Final[set[str]] = set()
BEAN_CLASSES: Final[set[str]] = set()
_NAMED_MAX = 10_000


def enum(java_class: str, name: str) -> Bean:
    """The constant ``name`` of an enum."""
    if len(ENUM_CLASSES) < _NAMED_MAX:
        ENUM_CLASSES.add(java_class)
    made = Bean(java_class, name=name)
    made.constant = True
    return made
