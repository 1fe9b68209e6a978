"""One method of a typed service: how its arguments and its result travel.

``rpc.service`` reads methods from classes; servers bind them to functions, ``rpc.stub`` calls them.
Decoders are made once a method, and a call costs one encoding and one decoding at each end.

On the wire (``docs/formats/services.md``) arguments are a MessagePack array of the positional ones,
without those at the end that are left to their defaults, or a map from name to argument when some
are left out in between or are keyword-only. A result is one MessagePack value.

Invariant: what a peer sent either fits the annotations or ends in an error that names the argument;
a method never runs with anything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dragoman.errors import ProtocolError, RemoteError, UsageError
from dragoman.wire.misfit import (
    LOOKED_AT_BYTES_MAX,
    UNREADABLE,
    Misfit,
    msgpack_misfit,
    search,
    unsendable,
)

_ABSENT = object()
# What msgspec raises for values that it cannot encode.
UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)
# What the quick way of reading arguments may end in.
UNUSUAL = (KeyError, IndexError, *UNREADABLE)
encode = msgspec.msgpack.Encoder().encode

_ARRAY, _ARRAY16, _MAP, _MAP16, _MAP32 = 0x90, 0xDC, 0x80, 0xDE, 0xDF


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method."""

    name: str
    type: Any
    optional: bool
    by_position: bool
    by_name: bool


class Method:
    """A method called ``name`` on the wire.

    ``least`` to ``most`` arguments by position make a complete call. ``errors`` are the exception
    classes that its callers get back, by their codes. Raises UsageError for types that cannot
    travel.
    """

    def __init__(
        self,
        name: str,
        parameters: tuple[Parameter, ...],
        result: Any,
        errors: Mapping[int, type[RemoteError]],
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.errors = errors
        for parameter in parameters:
            check_type(parameter.type, f"{name}: parameter {parameter.name!r}")
        check_type(result, f"{name}: result")
        self.result = result
        self.decode_result = msgspec.msgpack.Decoder(result).decode
        self._positional = [p for p in parameters if p.by_position]
        self._named = {p.name: p for p in parameters if p.by_name}
        required = sum(not p.optional for p in self._positional)
        if any(not p.optional and not p.by_position for p in parameters):
            # Positions alone never make a complete call.
            self.least, self.most = 1, 0
        else:
            self.least, self.most = required, len(self._positional)
        self._by_count = {
            count: msgspec.msgpack.Decoder(
                tuple[tuple(p.type for p in self._positional[:count])]  # type: ignore[misc]
            ).decode
            for count in range(self.least, self.most + 1)
        }
        # By the first byte, which has the count of up to 15 arguments.
        self._by_first = {
            _ARRAY + count: decode for count, decode in self._by_count.items() if count < 16
        }
        self._decode_named = msgspec.msgpack.Decoder(
            msgspec.defstruct(
                "Arguments",
                [(p.name, p.type, _ABSENT) if p.optional else (p.name, p.type) for p in parameters],
                kw_only=True,
                forbid_unknown_fields=True,
            )
        ).decode

    # The calling end

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The body of a call; raises UsageError for arguments that make none or cannot be sent."""
        arguments: Any = args
        if kwargs or not self.least <= len(args) <= self.most:
            arguments = self._arrange(args, kwargs)
        try:
            return encode(arguments)
        except UNSENDABLE:
            why = unsendable(arguments)
            raise UsageError(f"{self.name}: arguments that cannot be sent: {why}") from None

    def _arrange(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > len(self._positional):
            raise UsageError(
                f"{self.name}: at most {len(self._positional)} arguments by position, "
                f"not {len(args)}"
            )
        given = {p.name: value for p, value in zip(self._positional, args, strict=False)}
        for name, value in kwargs.items():
            if name not in self._named:
                raise UsageError(f"{self.name}: no parameter {name!r} by name")
            if name in given:
                raise UsageError(f"{self.name}: two values for parameter {name!r}")
            given[name] = value
        missing = [p.name for p in self.parameters if not p.optional and p.name not in given]
        if missing:
            raise UsageError(f"{self.name}: no argument for {', '.join(map(repr, missing))}")
        leading = [p.name for p in self._positional[: len(given)]]
        if given.keys() == set(leading):
            return [given[name] for name in leading]
        return given

    def unpack_result(self, reply: bytes) -> Any:
        """The result that a reply holds; raises ProtocolError if it does not fit the annotation."""
        try:
            return self.decode_result(reply)
        except UNREADABLE:
            found = msgpack_misfit(reply, self.result)
            raise ProtocolError(f"{self.name}: result: {found}") from None

    def raise_own(self, error: RemoteError) -> None:
        """Raise ``error``, which came from the server, as the class declared for its code."""
        kind = self.errors.get(error.code)
        if kind is not None and type(error) is not kind:
            own = kind(str(error))
            own.endpoint = error.endpoint
            raise own from None

    # The serving end

    def bind(self, function: Callable[..., Any]) -> Callable[[bytes], Any]:
        """A handler for servers that calls ``function`` with what a body holds. The handler is a
        coroutine function if ``function`` is one. It raises UsageError for a wrong body."""
        by_first = self._by_first
        named = self._call_named

        if inspect.iscoroutinefunction(function):

            async def handle_async(body: bytes) -> bytes:
                try:
                    args = by_first[body[0]](body)
                except UNUSUAL as error:
                    args = error
                if type(args) is tuple:
                    result = await function(*args)
                else:
                    result = await named(function, body, args)
                try:
                    return encode(result)
                except UNSENDABLE:
                    raise self._unsendable(result) from None

            return handle_async

        def handle(body: bytes) -> Any:
            try:
                args = by_first[body[0]](body)
            except UNUSUAL as error:
                args = error
            result = function(*args) if type(args) is tuple else named(function, body, args)
            try:
                return encode(result)
            except UNSENDABLE:
                if inspect.isawaitable(result):
                    return self._pack_awaited(result)
                raise self._unsendable(result) from None

        return handle

    async def _pack_awaited(self, awaitable: Awaitable[Any]) -> bytes:
        result = await awaitable
        try:
            return encode(result)
        except UNSENDABLE:
            raise self._unsendable(result) from None

    def _unsendable(self, result: Any) -> Exception:
        """For the server's log too: it is the service that is wrong."""
        return TypeError(f"{self.name}: a result that cannot be sent: {unsendable(result)}")

    def _call_named(self, function: Callable[..., Any], body: bytes, fault: Exception) -> Any:
        """Call ``function`` with a body that is no short array of fitting arguments."""
        args, kwargs = self._unpack(body, fault)
        return function(*args, **kwargs)

    def _unpack(self, body: bytes, fault: Exception) -> tuple[list[Any], dict[str, Any]]:
        if isinstance(fault, UNREADABLE):
            raise self._malformed(body)
        first = body[0] if body else 0
        try:
            if first >> 4 == _MAP >> 4 or first in (_MAP16, _MAP32):
                given = self._decode_named(body)
                args: list[Any] = []
                kwargs = {}
                for parameter in self.parameters:
                    value = getattr(given, parameter.name)
                    if value is _ABSENT:
                        continue
                    if parameter.by_name:
                        kwargs[parameter.name] = value
                    elif len(args) == self.parameters.index(parameter):
                        args.append(value)
                    else:
                        raise UsageError(
                            f"{self.name}: argument {parameter.name!r} without those before it"
                        )
                return args, kwargs
            if first >> 4 == _ARRAY >> 4 or first == _ARRAY16:
                count = first & 15 if first != _ARRAY16 else int.from_bytes(body[1:3], "big")
                decode = self._by_count.get(count)
                if decode is None:
                    raise UsageError(self._count_wanted(count))
                return list(decode(body)), {}
        except UNREADABLE:
            raise self._malformed(body) from None
        raise UsageError(f"{self.name}: arguments: expected a MessagePack array or map")

    def _count_wanted(self, count: int) -> str:
        if self.least > self.most:
            return f"{self.name}: arguments: some are taken by name only"
        wanted = f"{self.least}"
        if self.most != self.least:
            wanted += f" to {self.most}"
        return f"{self.name}: expected {wanted} arguments, got {count}"

    def _malformed(self, body: bytes) -> UsageError:
        """The fault of a body: which argument, where in it, and how."""
        if len(body) > LOOKED_AT_BYTES_MAX:
            return UsageError(f"{self.name}: arguments: they are not of the declared types")
        try:
            given = msgspec.msgpack.decode(body)
        except UNREADABLE:
            return UsageError(f"{self.name}: arguments: expected one whole value of MessagePack")
        for parameter, value in self._paired(given):
            found = search(value, parameter.type, binary=True)
            if found is not None:
                index = self.parameters.index(parameter) + 1
                place = Misfit((parameter.name, *found.place), found.why)
                within = f" in {place.field}" if found.place else ""
                return UsageError(
                    f"{self.name}: argument {index}, {parameter.name!r}: {found.why}{within}"
                )
        return UsageError(f"{self.name}: arguments: {self._unnamed(given)}")

    def _paired(self, given: Any) -> Iterator[tuple[Parameter, Any]]:
        if isinstance(given, dict):
            yield from ((self._named[name], given[name]) for name in given if name in self._named)
        else:
            yield from zip(self._positional, given, strict=False)

    def _unnamed(self, given: Any) -> str:
        """The fault of arguments of which each fits."""
        if isinstance(given, dict):
            for name in given:
                if name not in self._named:
                    return f"object contains unknown field {str(name)[:64]}"
            for parameter in self._named.values():
                if not parameter.optional and parameter.name not in given:
                    return f"object missing required field {parameter.name}"
        return "they are not of the declared types"


def check_type(annotation: Any, where: str) -> None:
    """Raise UsageError, which names ``where``, unless values of the annotated type can travel."""
    try:
        info = msgspec.inspect.type_info(annotation)
        for part in _parts(info, set()):
            if isinstance(part, msgspec.inspect.CustomType):
                raise UsageError(
                    f"{where}: {getattr(part.cls, '__qualname__', part.cls)} cannot travel; "
                    "use a dataclass, a msgspec.Struct or plain types"
                )
        msgspec.msgpack.Decoder(annotation)
    except (TypeError, ValueError, NameError) as error:
        raise UsageError(f"{where}: {error}") from None


def _parts(info: Any, seen: set[Any]) -> Iterator[Any]:
    """A type's description and those of all types that it is made of."""
    yield info
    kind = getattr(info, "cls", None)
    if kind is not None:
        if kind in seen:
            return
        seen.add(kind)
    for name in getattr(info, "__struct_fields__", ()):
        value = getattr(info, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
                yield from _parts(part, seen)
