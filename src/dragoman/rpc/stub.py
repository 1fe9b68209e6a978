"""The calling end of typed services: objects that have a service's methods.

``Client.service`` and ``SyncClient.service``, and those of pools, make them from a class that
``rpc.service`` declared, or from a ``typing.Protocol``. A method of a stub packs its arguments, has
the client call, and unpacks the result: awaited with an asynchronous client, at once with a
synchronous one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from dragoman.errors import RemoteError, UsageError
from dragoman.options import shown
from dragoman.rpc.methods import UNSENDABLE, Method, encode
from dragoman.rpc.service import Declaration
from dragoman.wire.misfit import UNREADABLE

T = TypeVar("T")

# "As the client was told when it was made."
UNSET: Any = ...


class AsyncCaller(Protocol):
    """A client, or what calls like one."""

    @property
    def call(self) -> Callable[..., Awaitable[bytes]]:
        """See ``Client.call``."""


class SyncCaller(Protocol):
    """A synchronous client, or what calls like one."""

    @property
    def call(self) -> Callable[..., bytes]:
        """See ``SyncClient.call``."""


class Stub:
    """Has the methods of a service; each is made when it is first used."""

    def __init__(
        self,
        make: Callable[[Any, Method, dict[str, Any]], Callable[..., Any]],
        client: Any,
        declaration: Declaration,
        options: dict[str, Any],
    ) -> None:
        self._make = make
        self._client = client
        self._declaration = declaration
        self._methods = declaration.methods
        self._options = options

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = None if name.startswith("_") else self._methods.get(name)
        if method is None:
            raise AttributeError(f"the service {self._declaration.name} has no method {name!r}")
        caller = self._make(self._client, method, self._options)
        caller.__name__ = name
        caller.__qualname__ = method.name
        caller.__doc__ = getattr(self._declaration.cls, name).__doc__
        self.__dict__[name] = caller
        return caller

    def __repr__(self) -> str:
        # A pool has a name, and many addresses.
        where = getattr(self._client, "address", None) or self._client.name
        return f"<stub of {self._declaration.name} at {where}>"

    def __dir__(self) -> list[str]:
        return [*self._methods, "with_options"]

    def with_options(
        self, *, timeout_ms: Any = UNSET, order_key: Any = UNSET, metadata: Any = UNSET
    ) -> Stub:
        """See ``dragoman.rpc.with_options``."""
        options = _options(self._options, timeout_ms, order_key, metadata)
        return Stub(self._make, self._client, self._declaration, options)


def with_options(
    stub: T,
    *,
    timeout_ms: float | None = UNSET,
    order_key: bytes | str | None = UNSET,
    metadata: Mapping[str, str] | None = UNSET,
) -> T:
    """A stub like ``stub`` whose calls have these options (see ``Client.call``). What is not given
    stays as it was. ``stub.with_options(...)`` does the same, without its type."""
    if not isinstance(stub, Stub):
        raise UsageError(f"with_options: expected what Client.service() gave, not {shown(stub)}")
    made: Any = stub.with_options(timeout_ms=timeout_ms, order_key=order_key, metadata=metadata)
    result: T = made
    return result


def _options(old: dict[str, Any], timeout_ms: Any, order_key: Any, metadata: Any) -> dict[str, Any]:
    options = dict(old)
    if timeout_ms is not UNSET:
        options["timeout_ms"] = timeout_ms
    if order_key is not UNSET:
        options["order_key"] = order_key
    if metadata is not UNSET:
        options["metadata"] = metadata
    return options


def async_stub(
    client: AsyncCaller,
    declared: Any,
    timeout_ms: Any = UNSET,
    order_key: Any = UNSET,
    metadata: Any = UNSET,
) -> Any:
    """A stub whose methods are awaited. Raises UsageError if ``declared`` declares no service."""
    options = _options({}, timeout_ms, order_key, metadata)
    return Stub(_async_method, client, Declaration.of(declared), options)


def sync_stub(
    client: SyncCaller,
    declared: Any,
    timeout_ms: Any = UNSET,
    order_key: Any = UNSET,
    metadata: Any = UNSET,
) -> Any:
    """A stub whose methods give results. Raises UsageError if ``declared`` declares no service."""
    options = _options({}, timeout_ms, order_key, metadata)
    return Stub(_sync_method, client, Declaration.of(declared), options)


def _async_method(
    client: AsyncCaller, method: Method, options: dict[str, Any]
) -> Callable[..., Any]:
    call = partial(client.call, **options) if options else client.call
    name = method.name
    least, most = method.least, method.most
    pack = method.pack
    decode = method.decode_result

    async def stub_method(*args: Any, **kwargs: Any) -> Any:
        if kwargs or not least <= len(args) <= most:
            body = pack(args, kwargs)
        else:
            try:
                body = encode(args)
            except UNSENDABLE:
                # Says what is wrong.
                body = pack(args, kwargs)
        try:
            reply = await call(name, body)
        except RemoteError as error:
            method.raise_own(error)
            raise
        try:
            return decode(reply)
        except UNREADABLE:
            # Says what is wrong.
            return method.unpack_result(reply)

    return stub_method


def _sync_method(client: SyncCaller, method: Method, options: dict[str, Any]) -> Callable[..., Any]:
    call = partial(client.call, **options) if options else client.call
    name = method.name
    least, most = method.least, method.most
    pack = method.pack
    decode = method.decode_result

    def stub_method(*args: Any, **kwargs: Any) -> Any:
        if kwargs or not least <= len(args) <= most:
            body = pack(args, kwargs)
        else:
            try:
                body = encode(args)
            except UNSENDABLE:
                body = pack(args, kwargs)
        try:
            reply = call(name, body)
        except RemoteError as error:
            method.raise_own(error)
            raise
        try:
            return decode(reply)
        except UNREADABLE:
            return method.unpack_result(reply)

    return stub_method
