"""Typed services: a class whose public methods are served, and called through ``Client.service``.

    @rpc.service
    class Accounts:
        async def balance(self, account: str) -> int: ...

    server = await rpc.serve(Accounts(), "127.0.0.1:7000")
    accounts = (await rpc.connect("127.0.0.1:7000")).service(Accounts)
    await accounts.balance("x")

A ``Declaration`` is what such a class says: the methods by their names, with parameters and types.
It is read once a class. ``rpc.methods`` has what one method does, ``rpc.stub`` the calling end.

Invariant: what is wrong with a class is found when it is declared, or when it is first used if its
annotations cannot be resolved before; never by a call.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from dragoman.errors import OWN_CODES_FROM, RemoteError, UsageError
from dragoman.options import shown, text
from dragoman.rpc.methods import Method, Parameter
from dragoman.rpc.signatures import (
    check_shape,
    exception_classes,
    parameters_of,
    public_methods,
    resolved,
)

C = TypeVar("C", bound=type)
Function = Callable[[bytes], Any]
# What is served: functions by name, an object of a declared class, a list of these; or a function.
Handlers = Mapping[str, Function] | Function | object

_ATTRIBUTE = "__dragoman_service__"
_undecorated: WeakKeyDictionary[type, Declaration] = WeakKeyDictionary()


class Declaration:
    """The service that a class declares. ``name`` comes before the methods' names on the wire."""

    def __init__(self, cls: type, name: str, errors: Iterable[type[RemoteError]] = ()) -> None:
        self.cls = cls
        self.name = name
        self._errors = {_code_of(kind): kind for kind in exception_classes(errors)}
        self._methods: dict[str, Method] | None = None
        self._functions = public_methods(cls)
        for own_name, function in self._functions.items():
            _check_annotated(cls, own_name, function)
        # Some annotation may name what is defined further below: looked at again when used.
        with contextlib.suppress(NameError):
            self._methods = self._read()

    @classmethod
    def of(cls, declared: Any) -> Declaration:
        """The declaration of a class: its own or its base's, or what it says without a decorator.
        Raises UsageError if it is none."""
        if not isinstance(declared, type):
            raise UsageError(f"expected a class that declares a service, not {shown(declared)}")
        declaration: Declaration | None = getattr(declared, _ATTRIBUTE, None)
        if declaration is None:
            declaration = _undecorated.get(declared)
        if declaration is None:
            declaration = _undecorated[declared] = Declaration(declared, declared.__name__)
        return declaration

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by their names in the class."""
        if self._methods is None:
            self._methods = resolved(self.cls, self._read)
        return self._methods

    def _read(self) -> dict[str, Method]:
        methods = {}
        for name, function in self._functions.items():
            hints = typing.get_type_hints(function, include_extras=True)
            parameters = tuple(
                Parameter(
                    name=p.name,
                    type=hints[p.name],
                    optional=p.default is not p.empty,
                    by_position=p.kind is not p.KEYWORD_ONLY,
                    by_name=p.kind is not p.POSITIONAL_ONLY,
                )
                for p in parameters_of(self.cls, name, function)
            )
            methods[name] = Method(f"{self.name}.{name}", parameters, hints["return"], self._errors)
        return methods

    def bind(self, instance: Any) -> dict[str, Function]:
        """Handlers for a server, by their names on the wire, that call ``instance``'s methods."""
        return {m.name: m.bind(getattr(instance, name)) for name, m in self.methods.items()}


@overload
def service(declared: C) -> C: ...
@overload
def service(
    declared: str | None = None, *, errors: Iterable[type[RemoteError]] = ()
) -> Callable[[C], C]: ...


def service(declared: Any = None, *, errors: Iterable[type[RemoteError]] = ()) -> Any:
    """Declare that a class is a service: its public methods can be served and called.

    Used as ``@service``, or ``@service("com.example.Accounts")`` to give the name on the wire,
    which else is the class's. Methods may be coroutine functions or plain ones; every parameter and
    the result have annotations of types that msgspec knows. Objects of the class, and of classes
    derived from it, are given to ``rpc.serve``; a ``typing.Protocol`` can be declared too.

    ``errors``: exception classes, derived from RemoteError with a ``code`` of their own from 1000,
    that callers of this service get as themselves when a method raises them.

    Raises UsageError that names class, method and parameter when something cannot be served.
    """
    if isinstance(declared, type):
        return _declare(declared, declared.__name__, errors)
    if declared is not None:
        if not isinstance(declared, str) or not declared:
            raise UsageError(f"service: expected a class or a name, not {shown(declared)}")
        text("service", declared)

    def decorate(cls: C) -> C:
        return _declare(cls, declared or cls.__name__, errors)

    return decorate


def _declare(cls: C, name: str, errors: Iterable[type[RemoteError]]) -> C:
    if not isinstance(cls, type):
        raise UsageError(f"service: expected a class, not {shown(cls)}")
    setattr(cls, _ATTRIBUTE, Declaration(cls, name, errors))
    return cls


def functions_of(handler: Any) -> dict[str, Function] | Function:
    """The handlers given to ``rpc.serve``, as functions by name or one function for every name.

    ``handler`` is a mapping, a service's object, a list of these, or a function. Raises UsageError.
    """
    if isinstance(handler, type) and hasattr(handler, _ATTRIBUTE):
        raise UsageError(f"handler: expected an object of {handler.__qualname__}, not the class")
    if isinstance(handler, Mapping):
        return _named(handler)
    declaration: Declaration | None = getattr(type(handler), _ATTRIBUTE, None)
    if declaration is not None:
        return declaration.bind(handler)
    if callable(handler):
        function: Function = handler
        return function
    if not isinstance(handler, list | tuple):
        raise UsageError(
            "handler: expected a mapping, a function, a service or a list of services, "
            f"not {type(handler).__name__}"
        )
    functions: dict[str, Function] = {}
    for part in handler:
        more = functions_of(part)
        if not isinstance(more, dict):
            raise UsageError(
                f"handler: expected services and mappings in the list, not {shown(part)}"
            )
        for name in more:
            if name in functions:
                raise UsageError(f"handler: two methods named {name!r}")
        functions |= more
    return functions


def _named(handler: Mapping[Any, Any]) -> dict[str, Function]:
    for name, function in handler.items():
        if not isinstance(name, str) or not callable(function):
            raise UsageError(f"handler: expected names with functions, not {shown(name)}")
    return dict(handler)


def _check_annotated(cls: type, name: str, function: Any) -> None:
    """Look at the shape of a method, and whether all of it is annotated; raises UsageError."""
    where = f"{cls.__qualname__}.{name}"
    for parameter in check_shape(cls, name, function):
        if parameter.annotation is parameter.empty:
            raise UsageError(f"{where}: parameter {parameter.name!r} has no annotation")
    if inspect.signature(function).return_annotation is inspect.Signature.empty:
        raise UsageError(f"{where}: the result has no annotation (-> None if there is none)")


def _code_of(kind: Any) -> int:
    """The code of a declared exception class; raises UsageError."""
    if not (isinstance(kind, type) and issubclass(kind, RemoteError)):
        raise UsageError(f"errors: expected classes derived from RemoteError, not {shown(kind)}")
    if not OWN_CODES_FROM <= kind.code <= 0xFFFF:
        raise UsageError(
            f"errors: {kind.__qualname__} has no code of its own from {OWN_CODES_FROM} to 65535"
        )
    return kind.code
