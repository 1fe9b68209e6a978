"""A call as a provider double got it: read from a frame, by a declaration if there is one.

``DubboProvider`` reads what comes by ``read_call`` and keeps the ``ReceivedCall``. The invariant: a
generic call is told as the call that it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dragoman.dubbo.types.declaration import Declaration, Method
from dragoman.dubbo.types.scalars import LENIENT, Misfit
from dragoman.errors import ProtocolError
from dragoman.wire.dubbo.frame import DubboFrame, Serialization
from dragoman.wire.dubbo.invocation import decode_request, parameters
from dragoman.wire.java.descriptor import descriptor_of, java_name

# Serializations by the names that registrations have for them.
SPOKEN: Final = {
    "hessian2": int(Serialization.HESSIAN2),
    "fastjson": int(Serialization.FASTJSON),
    "fastjson2": int(Serialization.FASTJSON2),
}
_NAMES: Final = {number: name for name, number in SPOKEN.items()}
_GENERIC: Final = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"
_ECHO: Final = "Ljava/lang/Object;"


@dataclass(frozen=True, kw_only=True)
class ReceivedCall:
    """A call as a ``DubboProvider`` got it.

    ``types`` are the parameters' types as Java writes them. A generic call (``$invoke``) is told as
    the call that it means, with ``generic`` true; its types may be missing. ``arguments`` are as
    the declared class has them if the provider was given one, else as ``docs/sdk.md`` says of
    values without annotations. ``at_s`` is the loop's time, ``connection`` the number of the
    connection, from 1.
    """

    interface: str
    method: str
    arguments: tuple[Any, ...]
    types: tuple[str, ...] = ()
    version: str = ""
    group: str = ""
    attachments: Mapping[str, Any] = field(default_factory=dict)
    generic: bool = False
    one_way: bool = False
    serialization: str = "hessian2"
    id: int = 0
    connection: int = 1
    at_s: float = 0.0


class Received(NamedTuple):
    """A call, and what is needed to answer it: the declared method that it means, if there is one,
    whether its caller takes attachments, and whether it is ``$echo``.
    """

    call: ReceivedCall
    method: Method | None
    takes_attachments: bool
    is_echo: bool


def spoken_name(serialization: int) -> str:
    """A serialization's name, its number in text if it has none here."""
    return _NAMES.get(serialization, str(serialization))


def read_call(
    frame: DubboFrame, declaration: Declaration | None, *, connection: int, at_s: float
) -> Received:
    """The call of a request's frame. Raises ProtocolError and UsageError for one that is none."""
    request = decode_request(frame.body, frame.serialization)
    name, arguments = request.method, request.arguments
    descriptor: str | None = request.descriptor
    generic = name == "$invoke" and descriptor == _GENERIC
    if generic:
        name, types, arguments = arguments
        if type(name) is not str or not isinstance(arguments, list | tuple | None):
            raise ProtocolError("the arguments are not a method, its types and its arguments")
        arguments = list(arguments or ())
        descriptor = descriptor_of(types) if types else None
    method = _declared(declaration, name, descriptor, len(arguments))
    if method is not None:
        arguments = _decoded(method, arguments, generic)
    group = request.attachments.get("group")
    call = ReceivedCall(
        interface=request.path,
        method=name,
        arguments=tuple(arguments),
        types=tuple(java_name(each) for each in parameters(descriptor or "")),
        version=request.service_version or "",
        group=group if isinstance(group, str) else "",
        attachments=request.attachments,
        generic=generic,
        one_way=not frame.two_way,
        serialization=spoken_name(frame.serialization),
        id=frame.id,
        connection=connection,
        at_s=at_s,
    )
    is_echo = name == "$echo" and descriptor == _ECHO
    return Received(call, method, request.takes_attachments, is_echo)


def _declared(
    declaration: Declaration | None, name: str, descriptor: str | None, count: int
) -> Method | None:
    """The declared method that a call means: by its types, or as the only one that fits."""
    if declaration is None:
        return None
    found = [
        each
        for each in declaration.methods
        if each.name == name and each.least <= count <= len(each.parameters)
    ]
    exact = [each for each in found if each.descriptor(count) == descriptor]
    return exact[0] if exact else found[0] if len(found) == 1 else None


def _decoded(method: Method, arguments: list[Any], generic: bool) -> list[Any]:
    """Arguments as the annotations have them; raises ProtocolError for what does not fit."""
    memo: dict[Any, Any] = {LENIENT: True} if generic else {}
    fitted = []
    for mapping, name, value in zip(method.parameters, method.names, arguments, strict=False):
        try:
            fitted.append(value if mapping.decode is None else mapping.decode(value, memo))
        except Misfit as error:
            raise ProtocolError(f"{method}: argument {name!r}: {error}") from None
    return fitted
