"""The methods of a class that declares a service, as Python shows them.

``rpc.service`` and ``dubbo.types.declaration`` read a declared class with this, and add what their
protocols ask for. The invariant: what is wrong with a class is a UsageError that names class,
method and parameter.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dragoman.errors import UsageError
from dragoman.options import shown
from dragoman.reasons import annotation_fault

T = TypeVar("T")

# The names of what stubs have themselves.
RESERVED = {"with_options"}


def public_methods(cls: type) -> dict[str, Any]:
    """The public methods of a class and its bases, as the class has them."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base in (object, typing.Protocol, typing.Generic):
            continue
        for name, value in vars(base).items():
            found.pop(name, None)
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if not name.startswith("_") and inspect.isroutine(function):
                found[name] = function
    if not found:
        raise UsageError(f"{cls.__qualname__}: a service without public methods")
    return found


def parameters_of(cls: type, name: str, function: Any) -> list[inspect.Parameter]:
    """The parameters of a method, but for ``self``."""
    parameters = list(inspect.signature(function).parameters.values())
    if isinstance(inspect.getattr_static(cls, name), staticmethod):
        return parameters
    return parameters[1:]


def check_shape(cls: type, name: str, function: Any) -> list[inspect.Parameter]:
    """The parameters of a method that can be served, whatever its types are; raises UsageError."""
    where = f"{cls.__qualname__}.{name}"
    if name in RESERVED:
        raise UsageError(f"{where}: the name is taken by what callers have")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(f"{where}: a generator cannot be served")
    try:
        parameters = parameters_of(cls, name, function)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UsageError(f"{where}: parameter {parameter} takes any number of arguments")
    return parameters


def resolved(cls: type, read: Callable[[], T]) -> T:
    """What ``read`` makes of the annotations of a class; UsageError if one has no meaning."""
    try:
        return read()
    except NameError as error:
        why = annotation_fault(error)
        raise UsageError(f"{cls.__qualname__}: an annotation: {why}") from None


def exception_classes(errors: Any) -> Iterable[Any]:
    """Declared exception classes; raises UsageError for what holds none."""
    if isinstance(errors, str | bytes) or not isinstance(errors, Iterable):
        raise UsageError(f"errors: expected a list of exception classes, not {shown(errors)}")
    return errors
