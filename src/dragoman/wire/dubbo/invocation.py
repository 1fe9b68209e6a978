"""Bodies of Dubbo requests and replies as values, in every serialization spoken here.

The SDK's client and server use it, and so do tests. What Java's values are in Python is told in
``dragoman.wire.java``; the agents, which make no values of what passes through, use the compiled
modules below. fastjson knows no types: what is decoded from it is what JSON has, fitted to the
descriptor's types in requests, and natural in replies.

The invariants: nobody's names become members that fastjson obeys (``@type``, ``$ref``) in a body in
fastjson; a body that is not all that it should be is a ProtocolError, whatever is wrong in it,
and nothing that it names is made.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dragoman.errors import ProtocolError, UsageError
from dragoman.wire.dubbo import fastjson, fastjson2
from dragoman.wire.dubbo.frame import Serialization
from dragoman.wire.dubbo.json_values import received
from dragoman.wire.hessian2 import Hessian2Reader, Hessian2Writer, decode, encode, to_json
from dragoman.wire.java import Bean
from dragoman.wire.java.descriptor import count_parameters, java_name, split_descriptor
from dragoman.wire.java.from_json import java_type, natural, read_json
from dragoman.wire.json.string import decode_string
from dragoman.wire.json.text import for_fastjson

# To which replies may carry attachments; older ones do not.
PROTOCOL: Final = "2.0.2"
_NO_ATTACHMENTS = re.compile(r"2\.0\.[01]\Z|1\.")
_HEADER_BYTES = 16

HESSIAN2: Final = int(Serialization.HESSIAN2)
FASTJSON: Final = int(Serialization.FASTJSON)
FASTJSON2: Final = int(Serialization.FASTJSON2)


class Request(NamedTuple):
    """A request as it was read. ``service_version`` and texts that were null are None."""

    protocol: str | None
    path: str
    service_version: str | None
    method: str
    descriptor: str
    arguments: list[Any]
    attachments: dict[str, Any]

    @property
    def takes_attachments(self) -> bool:
        """Whether the reply may have attachments."""
        return bool(self.protocol) and not _NO_ATTACHMENTS.match(self.protocol or "")


class Reply(NamedTuple):
    """A reply as it was read: the value, or the service's throwable, a Bean as a rule."""

    value: Any
    exception: Any
    threw: bool
    attachments: dict[str, Any]


def parameters(descriptor: str) -> list[str]:
    """The descriptors of the single parameters. Raises UsageError."""
    count_parameters(descriptor.encode("utf-8", "replace"))
    return split_descriptor(descriptor)


def encode_request(
    interface: str,
    method: str,
    descriptor: str,
    arguments: Sequence[Any],
    *,
    serialization: int = HESSIAN2,
    lengths: bool = False,
    service_version: str | None = None,
    group: str | None = None,
    attachments: Mapping[str, str] | None = None,
    protocol: str = PROTOCOL,
) -> bytes:
    """A request's body.

    ``lengths``: in fastjson, with a length before each field rather than a newline after it.
    Attachments for path, interface, version and group are added. Raises UsageError for values that
    do not fit the descriptor, and for a serialization that is not spoken.
    """
    kinds = parameters(descriptor)
    if len(kinds) != len(arguments):
        raise UsageError(f"{len(arguments)} arguments for {len(kinds)} parameters")
    own = {"path": interface, "interface": interface}
    own |= {"version": service_version} if service_version else {}
    own |= {"group": group} if group else {}
    together = {**(attachments or {}), **own}
    if serialization == HESSIAN2:
        writer = Hessian2Writer()
        for text in (protocol, interface, service_version, method, descriptor):
            writer.write(text)
        for value, kind in zip(arguments, kinds, strict=True):
            writer.write(value, kind)
        writer.write(together)
        return writer.take()
    if serialization == FASTJSON:
        frame = fastjson.encode_request(
            0,
            interface.encode(),
            method.encode(),
            descriptor.encode(),
            arguments=[
                _fastjson(encode(value, types=[kind]))
                for value, kind in zip(arguments, kinds, strict=True)
            ],
            version=protocol.encode(),
            service_version=service_version.encode() if service_version else None,
            group=group.encode() if group else None,
            attachments=_members(together, ("path", "version", "group")),
            lengths=lengths,
        )
        return frame[_HEADER_BYTES:]
    if serialization == FASTJSON2:
        fitted = [_fitted(value, kind) for value, kind in zip(arguments, kinds, strict=True)]
        return fastjson2.encode_request(
            fastjson2.Fields(
                protocol, interface, service_version, method, descriptor, fitted, together
            )
        )
    raise _unknown(serialization)


def decode_request(body: bytes, serialization: int, *, weight_max: int = sys.maxsize) -> Request:
    """The request of a body. Raises ProtocolError; of one in fastjson2 LimitError when it
    weighs more than ``weight_max`` (``jsonb.reader``)."""
    if serialization == HESSIAN2:
        reader = Hessian2Reader(body)
        protocol, path, version, method, descriptor = [reader.read_text() for _ in range(5)]
        try:
            kinds = parameters(descriptor or "")
        except UsageError as error:
            raise ProtocolError(str(error)) from None
        arguments = [reader.read() for _ in kinds]
        attachments = _attachments(reader.read())
        _check_end(reader)
        if path is None or method is None:
            raise ProtocolError("a request without path or method")
        return Request(protocol, path, version, method, descriptor or "", arguments, attachments)
    if serialization == FASTJSON:
        return _fastjson_request(body)
    if serialization == FASTJSON2:
        said = fastjson2.decode_request(body, weight_max)
        return Request(*said[:6], _attachments(said.attachments))
    raise ProtocolError(str(_unknown(serialization)))


def _fastjson_request(body: bytes) -> Request:
    raw = fastjson.decode_request(body)
    try:
        descriptor = raw.descriptor.decode()
        return Request(
            decode_string(raw.version).decode(),
            decode_string(raw.path).decode(),
            None if raw.service_version == b"null" else decode_string(raw.service_version).decode(),
            decode_string(raw.method).decode(),
            descriptor,
            [
                # Not a number is null in fastjson.
                math.nan
                if argument == b"null" and kind in ("D", "F")
                else received(read_json(argument), java_type(java_name(kind)))
                for argument, kind in zip(raw.arguments, parameters(descriptor), strict=True)
            ],
            _attachments(read_json(raw.attachments)),
        )
    except (UsageError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a request in fastjson: {error}") from None


def encode_reply(
    value: Any = None,
    *,
    exception: Bean | None = None,
    attachments: Mapping[str, str] | None = None,
    serialization: int = HESSIAN2,
    type: str | None = None,
) -> bytes:
    """A reply's body: ``value``, or ``exception`` if there is one.

    ``attachments`` are for those who take them (``Request.takes_attachments``). ``type`` is the JVM
    descriptor or Java name of the method's result, if it is known. Raises UsageError.
    """
    kind = 0 if exception is not None else 2 if value is None else 1
    code = kind + (3 if attachments is not None else 0)
    if serialization == HESSIAN2:
        writer = Hessian2Writer()
        writer.write(code)
        if kind == 0:
            writer.write(exception)
        elif kind == 1:
            writer.write(value, type)
        if attachments is not None:
            writer.write(dict(attachments))
        return writer.take()
    if serialization == FASTJSON:
        fields = [b"%d" % code]
        if kind == 0:
            assert exception is not None
            message = exception.get("detailMessage")
            fields.append(_json({"@type": exception.java_class, "message": message}))
        elif kind == 1:
            fields.append(_fastjson(encode(value, types=None if type is None else [type])))
        if attachments is not None:
            fields.append(_fastjson(encode(dict(attachments))))
        return b"".join(field + b"\n" for field in fields)
    if serialization == FASTJSON2:
        return fastjson2.encode_reply(
            code, exception if kind == 0 else _fitted(value, type), attachments, type
        )
    raise _unknown(serialization)


def decode_reply(body: bytes, serialization: int) -> Reply:
    """The reply of a body under status 20. Raises ProtocolError."""
    if serialization == HESSIAN2:
        reader = Hessian2Reader(body)
        kind = reader.read_int()
        if not 0 <= kind <= 5:
            raise ProtocolError(f"a reply of type {kind}")
        value = None if kind % 3 == 2 else reader.read()
        attachments = _attachments(reader.read()) if kind >= 3 else {}
        _check_end(reader)
        if kind % 3 == 0:
            return Reply(None, value, True, attachments)
        return Reply(value, None, False, attachments)
    if serialization == FASTJSON:
        raw = fastjson.decode_reply(body)
        try:
            value = read_json(raw.value)
            attachments = _attachments(read_json(raw.attachments or b"null"))
        except UsageError as error:
            raise ProtocolError(f"a reply in fastjson: {error}") from None
        if raw.kind == "exception":
            return Reply(None, throwable(value), True, attachments)
        return Reply(natural(value, beans=False), None, False, attachments)
    if serialization == FASTJSON2:
        kind, value, more = fastjson2.decode_reply(body)
        if kind % 3 == 0:
            return Reply(None, value, True, _attachments(more))
        return Reply(value, None, False, _attachments(more))
    raise ProtocolError(str(_unknown(serialization)))


def throwable(value: Any) -> Bean:
    """A throwable as fastjson has it, as the Bean that it would be in hessian2."""
    if not isinstance(value, dict):
        return Bean("java.lang.RuntimeException", detailMessage=str(value))
    name = value.get("@type") or value.get("class")
    said = value.get("message", value.get("localizedMessage", value.get("detailMessage")))
    known = ("@type", "class", "message", "localizedMessage", "detailMessage")
    fields = {key: natural(each, beans=False) for key, each in value.items() if key not in known}
    return Bean(
        name if isinstance(name, str) and name else "java.lang.RuntimeException",
        {"detailMessage": said if isinstance(said, str) else None, **fields},
    )


def _fitted(value: Any, kind: str | None) -> Any:
    """A value as the type has it, with all of Java's types."""
    if kind is None or value is None or type(value) in (str, bool):
        return value
    return decode(encode(value, types=[kind]), exact=True)


def _json(value: Any) -> bytes:
    return to_json(encode(value))


def _fastjson(value: bytes) -> bytes:
    """A value in hessian2 as fastjson may be given it. UsageError for members that it obeys."""
    return for_fastjson(to_json(value))


def _members(attachments: Mapping[str, Any], written: Sequence[str]) -> bytes:
    """Attachments as members of a JSON object, less those that the codec writes itself."""
    kept = {key: value for key, value in attachments.items() if key not in written}
    return _fastjson(encode(kept))[1:-1]


def _attachments(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ProtocolError("attachments that are no map of texts")
    return value


def _check_end(reader: Hessian2Reader) -> None:
    if not reader.at_end:
        raise ProtocolError(f"a body goes on after its last field, at byte {reader.at}")


def _unknown(serialization: int) -> UsageError:
    return UsageError(f"serialization {serialization} is not spoken here")
