"""What a class says of a Dubbo service: read for those who serve it and for those who call it.

    @service("com.example.Hello", version="1.0.0")
    class Hello:
        async def hash(self, text: str) -> int: ...

Serving, the class has the methods themselves; calling, it may be a ``typing.Protocol`` that only
declares them. ``dubbo.types.mapping`` knows how single values travel.

Invariant: what is wrong with a class is found when it is declared, or when it is first used if its
annotations cannot be resolved before; never by a call.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dragoman.dubbo.types.mapping import mapping_of
from dragoman.dubbo.types.scalars import Mapping
from dragoman.errors import JavaError, UsageError
from dragoman.options import shown, text
from dragoman.registry.names import check_service
from dragoman.rpc.signatures import (
    check_shape,
    exception_classes,
    parameters_of,
    public_methods,
    resolved,
)

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__dragoman_dubbo_service__"
_METHOD = "__dragoman_java_name__"


class Method:
    """One method: ``name`` in Java, ``python_name`` in the class.

    It takes ``least`` to ``len(parameters)`` arguments. ``errors`` are exception classes by the
    names of their Java classes.
    """

    def __init__(
        self,
        interface: str,
        name: str,
        python_name: str,
        parameters: tuple[tuple[str, Mapping], ...],
        least: int,
        result: Mapping,
        errors: dict[str, type[JavaError]],
    ) -> None:
        self.interface = interface
        self.name = name
        self.python_name = python_name
        self.names = tuple(name for name, _ in parameters)
        self.parameters = tuple(mapping for _, mapping in parameters)
        self.least = least
        self.result = result
        self.errors = errors

    def descriptor(self, count: int) -> str:
        """The JVM descriptor of the first ``count`` parameters."""
        return "".join(mapping.descriptor for mapping in self.parameters[:count])

    def arrange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments by position; raises UsageError when they make no call."""
        given = dict(zip(self.names, args, strict=False))
        if len(args) > len(self.names):
            raise UsageError(f"{self}: at most {len(self.names)} arguments, not {len(args)}")
        for name, value in kwargs.items():
            if name not in self.names:
                raise UsageError(f"{self}: no parameter {name!r}")
            if name in given:
                raise UsageError(f"{self}: two values for parameter {name!r}")
            given[name] = value
        leading = self.names[: max(len(given), self.least)]
        missing = [name for name in leading if name not in given]
        if missing:
            raise UsageError(f"{self}: no argument for {', '.join(map(repr, missing))}")
        return tuple(given[name] for name in leading)

    def __str__(self) -> str:
        return f"{self.interface}.{self.name}"


class Declaration:
    """What a class declares: the interface, version and group of its service, and its methods."""

    def __init__(
        self,
        cls: type,
        interface: str,
        version: str,
        group: str,
        errors: Iterable[type[JavaError]] = (),
    ) -> None:
        check_service(interface)
        text("version", version)
        text("group", group)
        self.cls = cls
        self.interface = interface
        self.version = "" if version == "0.0.0" else version
        self.group = group
        self._errors = {_java_class_of(kind): kind for kind in exception_classes(errors)}
        self._methods: tuple[Method, ...] | None = None
        self._functions = public_methods(cls)
        for name, function in self._functions.items():
            _check_callable(cls, name, function)
        # Some annotation may name what is defined further below: looked at again when used.
        with contextlib.suppress(NameError):
            self._methods = tuple(self._read())

    @classmethod
    def of(cls, declared: Any) -> Declaration:
        """What ``service`` said of a class or a base of it; raises UsageError if nothing."""
        declaration: Declaration | None = getattr(declared, _ATTRIBUTE, None)
        if declaration is None:
            raise UsageError(f"expected a class with @dubbo.service, not {shown(declared)}")
        return declaration

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, in the class's order."""
        if self._methods is None:
            self._methods = resolved(self.cls, lambda: tuple(self._read()))
        return self._methods

    def _read(self) -> Iterator[Method]:
        taken: dict[tuple[str, str], str] = {}
        for python_name, function in self._functions.items():
            where = f"{self.cls.__qualname__}.{python_name}"
            hints = typing.get_type_hints(function, include_extras=True)
            parameters = parameters_of(self.cls, python_name, function)
            method = Method(
                self.interface,
                getattr(function, _METHOD, python_name),
                python_name,
                tuple(
                    (p.name, mapping_of(hints.get(p.name, Any), f"{where}: parameter {p.name!r}"))
                    for p in parameters
                ),
                sum(p.default is p.empty for p in parameters),
                mapping_of(hints.get("return", Any), f"{where}: result"),
                self._errors,
            )
            for count in range(method.least, len(method.parameters) + 1):
                other = taken.setdefault((method.name, method.descriptor(count)), python_name)
                if other != python_name:
                    raise UsageError(
                        f"{where}: {other} is {method.name}({method.descriptor(count)}) already"
                    )
            yield method


def service(
    interface: str,
    *,
    version: str = "",
    group: str = "",
    errors: Iterable[type[JavaError]] = (),
) -> Callable[[C], C]:
    """Declare that a class is the Dubbo service ``interface``: its public methods are served by
    ``dubbo.serve`` and called through ``Client.service``.

    Methods are coroutine functions or plain ones. Annotations say which Java types their parameters
    and results have (``docs/sdk.md``); a parameter without one takes anything. A parameter with a
    default makes two methods, as overloading does. ``dubbo.method`` gives a method another name in
    Java. ``errors``: exception classes, derived from JavaError with a ``java_class`` of their own,
    that callers get as themselves.

    Raises UsageError that names class, method and parameter when something cannot be served.
    """
    if not isinstance(interface, str):
        raise UsageError(f"service: expected the name of a Java interface, not {shown(interface)}")

    def decorate(cls: C) -> C:
        if not isinstance(cls, type):
            raise UsageError(f"service: expected a class, not {shown(cls)}")
        setattr(cls, _ATTRIBUTE, Declaration(cls, interface, version, group, errors))
        return cls

    return decorate


def method(name: str) -> Callable[[F], F]:
    """Declare that a method is called ``name`` in Java: ``say_hello`` may be ``sayHello``, and
    methods with one name and different parameters are overloads. Raises UsageError."""
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"method: expected the name of a Java method, not {shown(name)}")

    def decorate(function: F) -> F:
        setattr(function, _METHOD, name)
        return function

    return decorate


def _check_callable(cls: type, name: str, function: Any) -> None:
    """Look at the shape of a method, and whether Java can call it; raises UsageError."""
    for parameter in check_shape(cls, name, function):
        if parameter.kind is parameter.KEYWORD_ONLY:
            where = f"{cls.__qualname__}.{name}"
            raise UsageError(f"{where}: Java knows no parameters by name only: {parameter}")


def _java_class_of(kind: Any) -> str:
    """The Java class of a declared exception class; raises UsageError."""
    if not (isinstance(kind, type) and issubclass(kind, JavaError)):
        raise UsageError(f"errors: expected classes derived from JavaError, not {shown(kind)}")
    if kind.java_class == JavaError.java_class:
        raise UsageError(f"errors: {kind.__qualname__} has no java_class of its own")
    return kind.java_class
