"""The Java types of arguments where no declaration says them: those named, or those of the values.

``dubbo.client.calling`` asks for calls without a stub. What has no Java type raises UsageError.
"""

from dragoman.wire.java.bean cimport Bean

import dataclasses
import datetime
import decimal
import uuid
from collections.abc import Iterable
from enum import Enum

import msgspec

from dragoman.dubbo.types.mapping import mapping_of
from dragoman.errors import UsageError
from dragoman.options import shown
from dragoman.wire.java import BigInteger, Date, Double, Long, TypedList, TypedMap
from dragoman.wire.java.descriptor import count_parameters, descriptor_of, split_descriptor

# The descriptor of what takes anything.
ANY = "Ljava/lang/Object;"
cdef dict NATURAL = {
    str: "Ljava/lang/String;",
    bool: "Z",
    float: "D",
    type(None): "Ljava/lang/Object;",
    list: "Ljava/util/List;",
    tuple: "Ljava/util/List;",
    set: "Ljava/util/Set;",
    frozenset: "Ljava/util/Set;",
    dict: "Ljava/util/Map;",
    bytes: "[B",
    decimal.Decimal: "Ljava/math/BigDecimal;",
    datetime.date: "Ljava/time/LocalDate;",
    datetime.time: "Ljava/time/LocalTime;",
    datetime.timedelta: "Ljava/time/Duration;",
    uuid.UUID: "Ljava/util/UUID;",
    Long: "J",
    Double: "D",
    BigInteger: "Ljava/math/BigInteger;",
    Date: "Ljava/util/Date;",
}
# Mappings of the beans and enums that callers without a stub have passed.
_mappings = {}


cdef str natural_descriptor(object value):
    """The Java type of a value whose type nobody named."""
    cdef type kind = type(value)
    cdef str name
    if kind is int:
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return "I"
        if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
            return "J"
        return "Ljava/math/BigInteger;"
    found = NATURAL.get(kind)
    if found is not None:
        return <str>found
    if kind is datetime.datetime:
        return "Ljava/time/LocalDateTime;" if value.tzinfo is None else "Ljava/util/Date;"
    if isinstance(value, (Bean, TypedMap, TypedList)):
        name = value.java_class
        if name[:1] == "[":
            # Hessian's name of an array.
            depth = len(name) - len(name.lstrip("["))
            name = {"string": "java.lang.String", "object": "java.lang.Object",
                    "date": "java.util.Date"}.get(name[depth:], name[depth:]) + "[]" * depth
        return descriptor_of([name])
    mapping = mapping_of_value(value)
    if mapping is not None:
        return mapping.descriptor
    for base in (str, int, float, bytes, dict, list, tuple, bytearray, memoryview):
        if isinstance(value, base):
            return NATURAL.get(base, "[B") if base is not int else natural_descriptor(int(value))
    raise UsageError(f"a {kind.__qualname__} has no Java type: name one in types")


cdef object mapping_of_value(value):
    """How a bean or an enum's constant travels; None for other values."""
    kind = type(value)
    mapping = _mappings.get(kind)
    if mapping is None and (
        isinstance(value, (Enum, msgspec.Struct)) or dataclasses.is_dataclass(kind)
    ):
        mapping = _mappings[kind] = mapping_of(kind, kind.__qualname__)
    return mapping


cdef object plain_value(value):
    """An argument as the writer of hessian2 takes it: beans and enums through their mapping."""
    if type(value) in NATURAL or type(value) is int:
        return value
    mapping = mapping_of_value(value)
    return value if mapping is None else mapping.encode(value)


def descriptors_of(types):
    """The descriptors of a list of Java types, or of one descriptor of them all, one by one; raises
    UsageError.
    """
    if not isinstance(types, str) and (
        isinstance(types, bytes) or not isinstance(types, Iterable)
    ):
        raise UsageError(f"types: expected Java types or their descriptor, not {shown(types)}")
    try:
        return _split_types(types)
    except UsageError as error:
        raise UsageError(f"types: {error}") from None


def _split_types(types):
    if isinstance(types, str):
        if count_parameters(types.encode("utf-8", "replace")) == 0:
            return []
        return split_descriptor(types)
    return split_descriptor(descriptor_of(list(types)))
