"""JSON as Python's values: what a caller wrote in fastjson, as a method of the SDK takes it.

``invocation`` reads arguments of requests with it, the serving end those of generic calls. Where
``java.from_json`` makes what is to be written as Java's types, this makes what hessian2 would have
given: dates, decimals and bytes by the descriptor's types; what lies deeper, or is declared as
Object, stays as JSON has it until an annotation says more.

The invariant: written again, a value has the text that it came as: a number that is not a float's
own text (9.90, 1E+3) stays a Decimal. No class is made but the one that the descriptor names.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.hessian2 import decode, encode
from dragoman.wire.java import Bean
from dragoman.wire.java.from_json import JavaType, fit
from dragoman.wire.java.to_bean import TO_JAVA


def plain(value: Any) -> Any:
    """A value from ``read_json`` of which no type is known."""
    if isinstance(value, Decimal):
        near = float(value)
        return near if repr(near) == str(value) else value
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def received(value: Any, kind: JavaType) -> Any:
    """A value from ``read_json`` that was sent as ``kind``. Raises UsageError if it is none."""
    if value is None:
        return fit(None, kind)
    if kind.dimensions:
        if isinstance(value, list) and (kind.dimensions > 1 or kind.name != "byte"):
            return [received(each, kind.element) for each in value]
        return fit(value, kind)
    name = kind.name
    if name == "java.math.BigDecimal" and isinstance(value, Decimal):
        return value
    if name in TO_JAVA:
        try:
            return decode(encode(fit(value, kind)))
        except ProtocolError as error:
            raise UsageError(str(error)) from None
    if isinstance(value, list | dict) or name == "java.lang.Object":
        made = plain(value)
        return Bean(name, made) if isinstance(made, dict) and not kind.is_jdk else made
    return fit(value, kind)
