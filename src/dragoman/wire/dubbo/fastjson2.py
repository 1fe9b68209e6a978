"""Bodies of Dubbo requests and replies in fastjson2 (serialization 23).

Each field is a length, four bytes, big endian, and a document of JSONB (``jsonb.reader``) with
names and references of its own; which fields there are is told in ``dubbo.hessian2``. The
reply's type is a number too.

``wire.dubbo.invocation`` reads and writes bodies with it for the SDK. The agents, who have hessian2
in mesh frames and make JSON of it, call ``request_of`` and ``reply_as_hessian2``. The invariant: a
body that is not all that it should be is a ProtocolError, whatever is wrong in it.
"""

from __future__ import annotations

import datetime
import sys
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from dragoman.errors import LimitError, ProtocolError, UsageError
from dragoman.wire.hessian2 import Hessian2Reader, Hessian2Writer
from dragoman.wire.java.descriptor import count_parameters, split_descriptor
from dragoman.wire.jsonb.reader import decode as decode_field
from dragoman.wire.jsonb.reader import decode_weighed
from dragoman.wire.jsonb.writer import JsonbWriter

_ECHO = "$echo"


class Fields(NamedTuple):
    """The fields of a request, and the descriptors of its parameters."""

    protocol: str | None
    path: str
    service_version: str | None
    method: str
    descriptor: str
    arguments: list[Any]
    attachments: Any


def _parts(body: bytes) -> list[bytes]:
    """The fields of a body."""
    at, parts = 0, []
    while at < len(body):
        length = int.from_bytes(body[at : at + 4])
        at += 4
        if at + length > len(body):
            raise ProtocolError(f"fastjson2: a field of {length} bytes is cut short")
        parts.append(body[at : at + length])
        at += length
    return parts


def _kinds(descriptor: str) -> list[str]:
    try:
        count_parameters(descriptor.encode("utf-8", "replace"))
    except UsageError as error:
        raise ProtocolError(str(error)) from None
    return split_descriptor(descriptor)


class _Body:
    """Fields that are being written."""

    def __init__(self, constants: Set[str] | None = None) -> None:
        self._writer = JsonbWriter(constants=constants)
        self._parts: list[bytes] = []

    def put(self, value: Any, descriptor: str | None = None) -> None:
        self._writer.write(value, descriptor)
        part = self._writer.take()
        self._parts += (len(part).to_bytes(4), part)

    def take(self) -> bytes:
        return b"".join(self._parts)


def _texts(fields: Sequence[Any]) -> None:
    if not all(isinstance(each, str) for each in (fields[1], fields[3], fields[4])):
        raise ProtocolError("fastjson2: a request without path, method or descriptor")
    if not all(each is None or isinstance(each, str) for each in (fields[0], fields[2])):
        raise ProtocolError("fastjson2: a request whose versions are no text")


def encode_request(fields: Fields, constants: Set[str] | None = None) -> bytes:
    """A request's body; the arguments fit the descriptor. ``constants`` are the classes that are
    enums, if that is known (``JsonbWriter``). Raises UsageError."""
    body = _Body(constants)
    for text in fields[:5]:
        body.put(text)
    for value, kind in zip(fields.arguments, _kinds(fields.descriptor), strict=True):
        body.put(value, kind)
    body.put(fields.attachments)
    return body.take()


def decode_request(body: bytes, weight_max: int = sys.maxsize) -> Fields:
    """The request of a body; arguments as their types in the descriptor have them.
    ``weight_max``: of arguments and attachments, as their reader counts; LimitError beyond it."""
    parts = _parts(body)
    if len(parts) < 6:
        raise ProtocolError(f"fastjson2: a request of {len(parts)} fields")
    head = []
    for part in parts[:5]:
        value, weight_max = decode_weighed(part, weight_max)
        head.append(value)
    _texts(head)
    kinds = _kinds(head[4])
    if len(parts) != 6 + len(kinds):
        raise ProtocolError(f"fastjson2: {len(kinds)} parameters in {len(parts)} fields")
    # What is echoed is to be what it was.
    exact = head[3] == _ECHO
    arguments = []
    for part, kind in zip(parts[5:-1], kinds, strict=True):
        value, weight_max = decode_weighed(part, weight_max, exact=exact, typed=_is_open(kind))
        arguments.append(_typed(value, kind))
    protocol, path, version, method, descriptor = head
    attachments, _ = decode_weighed(parts[-1], weight_max)
    return Fields(protocol, path, version, method, descriptor, arguments, attachments)


def _is_open(kind: str) -> bool:
    """Whether an argument may hold values whose types nobody declared: they keep Java's."""
    name = kind.lstrip("[")
    simple = len(name) == 1 or name.startswith(("Ljava/lang/", "Ljava/math/"))
    return not simple or name == "Ljava/lang/Object;"


def _typed(value: Any, kind: str) -> Any:
    """An argument whose class is lost on the wire, as the one declared."""
    try:
        if kind == "Ljava/util/UUID;" and isinstance(value, bytes):
            return uuid.UUID(bytes=value)
        if kind == "Ljava/sql/Timestamp;" and type(value) is datetime.datetime:
            return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise ProtocolError(f"fastjson2: {error}") from None
    return value


def encode_reply(
    code: int, value: Any, attachments: Mapping[str, str] | None, descriptor: str | None = None
) -> bytes:
    """A reply's body: the value or the throwable of its type, if it has one. Raises UsageError."""
    body = _Body()
    body.put(code, "B")
    if code % 3 != 2:
        body.put(value, descriptor)
    if attachments is not None:
        body.put(dict(attachments))
    return body.take()


def decode_reply(
    body: bytes, *, exact: bool = False, constants: set[str] | None = None
) -> tuple[int, Any, Any]:
    """The type, the value or throwable, and the attachments of a reply's body.

    ``constants`` gets the classes that came as enums do.
    """
    parts = _parts(body)
    code = decode_field(parts[0]) if parts else None
    if type(code) is not int or not 0 <= code <= 5:
        raise ProtocolError(f"fastjson2: a reply of type {code!r:.20}")
    if len(parts) != 1 + (code % 3 != 2) + (code >= 3):
        raise ProtocolError(f"fastjson2: a reply of type {code} in {len(parts)} fields")
    value = None if code % 3 == 2 else decode_field(parts[1], exact=exact, constants=constants)
    return code, value, decode_field(parts[-1]) if code >= 3 else None


# ---- from and to hessian2


def request_of(body: bytes, constants: Set[str] | None = None) -> bytes:
    """A request's body in hessian2, in fastjson2. Raises ProtocolError and UsageError.

    hessian2 does not tell an enum's constant from a bean whose one field is ``name``: who knows
    says which classes are enums.
    """
    reader = Hessian2Reader(body, exact=True)
    protocol, path, version, method, descriptor = [reader.read_text() for _ in range(5)]
    if path is None or method is None or descriptor is None:
        raise ProtocolError("a request without path, method or descriptor")
    arguments = [reader.read() for _ in _kinds(descriptor)]
    attachments = reader.read()
    if not reader.at_end:
        raise ProtocolError(f"a body goes on after its last field, at byte {reader.at}")
    return encode_request(
        Fields(protocol, path, version, method, descriptor, arguments, attachments), constants
    )


def reply_as_hessian2(body: bytes, constants: set[str] | None = None) -> bytes:
    """A reply's body in fastjson2, in hessian2.

    Raises ProtocolError, of which LimitError is for what is well formed but beyond a bound.
    ``constants`` gets the classes that came as enums do, for hessian2 does not tell.
    """
    code, value, attachments = decode_reply(body, exact=True, constants=constants)
    if attachments is not None and not (
        isinstance(attachments, dict) and all(isinstance(name, str) for name in attachments)
    ):
        raise ProtocolError("fastjson2: attachments that are no map of texts")
    writer = Hessian2Writer()
    try:
        writer.write(code)
        if code % 3 != 2:
            writer.write(value)
        if code >= 3:
            writer.write(attachments)
    except (UsageError, RecursionError) as error:
        # Read well, so it is well formed: nested too deeply, or too long a number.
        raise LimitError(f"fastjson2: {error}") from None
    return writer.take()


__all__ = [
    "Fields",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "reply_as_hessian2",
    "request_of",
]
