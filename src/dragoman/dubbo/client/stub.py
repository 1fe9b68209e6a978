"""What callers have of a service: an object with its methods.

``Client.service`` and ``SyncClient.service`` make them: a ``Stub`` with the methods that a class
declares, or a ``Reference`` that has whatever method it is asked for. Both make a ``RemoteMethod``
of each method when it is first used, and give what ``expose`` makes of that: the asynchronous
client the ``RemoteMethod`` itself, the synchronous one a function that waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from dragoman.dubbo.client.calling import JavaPool, RemoteMethod, checked_attachments
from dragoman.dubbo.types.declaration import Declaration
from dragoman.dubbo.types.info import Result
from dragoman.errors import UsageError
from dragoman.options import flag, shown, text
from dragoman.rpc.arguments import timeout_us

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# "As it was told when it was made."
UNSET: Any = ...
Expose = Callable[[RemoteMethod], Any]


class Stub:
    """Has the methods of a declared service."""

    def __init__(
        self, pool: JavaPool, declaration: Declaration, expose: Expose, options: dict[str, Any]
    ) -> None:
        self._pool = pool
        self._declaration = declaration
        self._methods = {method.python_name: method for method in declaration.methods}
        self._expose = expose
        self._options = options

    def __getattr__(self, name: str) -> Any:
        method = None if name.startswith("_") else self._methods.get(name)
        if method is None:
            raise AttributeError(f"the service {self._declaration.interface} has no method {name}")
        found = self._expose(RemoteMethod(self._pool, method.name, method, self._options))
        self.__dict__[name] = found
        return found

    def __repr__(self) -> str:
        return f"<stub of {self._pool.name}, {self._pool._told()}>"

    def with_options(
        self,
        *,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = UNSET,
        generic: bool = UNSET,
    ) -> Stub:
        """See ``dragoman.dubbo.with_options``."""
        options = {**self._options, **_given(timeout_ms, attachments, generic)}
        return Stub(self._pool, self._declaration, self._expose, options)

    def __dir__(self) -> list[str]:
        return [*self._methods, "with_options"]


class Reference:
    """A service whose methods nobody has declared: ``reference.hash("abc")`` calls ``hash``.

    The Java types are those that the arguments have by nature, or ``types``. Such a method takes
    options beside its arguments, by name: ``types``, ``timeout_ms``, ``attachments``, ``generic``.
    """

    def __init__(self, pool: JavaPool, expose: Expose, options: dict[str, Any]) -> None:
        self._pool = pool
        self._expose = expose
        self._options = options

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self.__dict__[name] = self.method(name)
        return found

    def method(self, name: str, types: Sequence[str] | str | None = None) -> Any:
        """The method ``name``, to be called; also one whose name Python has another use for.

        ``types`` are its parameters' Java types (``["long", "java.lang.String"]``), or their JVM
        descriptor. Raises UsageError for what is none.
        """
        text("method", name, empty=False)
        options = self._options if types is None else {**self._options, "types": types}
        return self._expose(RemoteMethod(self._pool, name, None, options))

    def __repr__(self) -> str:
        return f"<reference to {self._pool.name}, {self._pool._told()}>"

    def with_options(
        self,
        *,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = UNSET,
        generic: bool = UNSET,
    ) -> Reference:
        """See ``dragoman.dubbo.with_options``."""
        options = {**self._options, **_given(timeout_ms, attachments, generic)}
        return Reference(self._pool, self._expose, options)


def check_options(timeout_ms: Any, attachments: Any, generic: Any) -> None:
    """Raise UsageError for what cannot be an option of a service's calls."""
    if timeout_ms is not UNSET and timeout_ms is not None:
        timeout_us(timeout_ms)
    if attachments is not UNSET:
        checked_attachments(attachments)
    if generic is not UNSET:
        flag("generic", generic)


def _given(timeout_ms: Any, attachments: Any, generic: Any) -> dict[str, Any]:
    options = {"timeout_ms": timeout_ms, "attachments": attachments, "generic": generic}
    check_options(timeout_ms, attachments, generic)
    return {name: value for name, value in options.items() if value is not UNSET}


def with_options(
    service: T,
    *,
    timeout_ms: float | None = UNSET,
    attachments: Mapping[str, str] | None = UNSET,
    generic: bool = UNSET,
) -> T:
    """A service like ``service`` whose calls have these options (see ``Client.service``). What is
    not given stays as it was. ``service.with_options(...)`` does the same, without its type."""
    if not isinstance(service, Stub | Reference):
        raise UsageError(f"with_options: expected what Client.service() gave, not {shown(service)}")
    made: Any = service.with_options(
        timeout_ms=timeout_ms, attachments=attachments, generic=generic
    )
    result: T = made
    return result


class Exposed:
    """A method as a synchronous client has it; ``wait`` makes the call and waits."""

    def __init__(
        self,
        caller: RemoteMethod,
        wait: Callable[[RemoteMethod, tuple[Any, ...], dict[str, Any]], Any],
    ) -> None:
        self.caller = caller
        self._wait = wait

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._wait(self.caller, args, kwargs)

    def like(self, caller: RemoteMethod) -> Exposed:
        """The same for another caller."""
        return Exposed(caller, self._wait)

    def __repr__(self) -> str:
        return repr(self.caller)


def _variant(method: Any, what: str) -> Any:
    """``method``, with what becomes of the reply changed."""
    if isinstance(method, RemoteMethod):
        return method.variant(what)
    if isinstance(method, Exposed):
        return method.like(method.caller.variant(what))
    raise UsageError(f"expected a method of what Client.service() gave, not {shown(method)}")


@overload
def invoke(  # type: ignore[overload-overlap]
    method: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
) -> Awaitable[Result[R]]: ...
@overload
def invoke(method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Result[R]: ...


def invoke(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a method of a service for the whole reply: a ``Result`` with ``value`` and
    ``attachments``. Awaited if the method is."""
    return _variant(method, "whole")(*args, **kwargs)


@overload
def send(
    method: Callable[P, Awaitable[Any]], *args: P.args, **kwargs: P.kwargs
) -> Awaitable[None]: ...
@overload
def send(method: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None: ...


def send(method: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a method of a service one-way: it ends when the call is on its way to a provider.
    Nobody hears what becomes of it; a provider whose pool is exhausted drops it. Awaited if the
    method is."""
    return _variant(method, "one_way")(*args, **kwargs)
