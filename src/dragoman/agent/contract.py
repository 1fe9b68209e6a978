"""The HTTP contracts of the consumer agent: what a request means and how an error looks.

Called by ``agent.ingress`` for everything but the hot path of a form. ``docs/http.md`` describes
it to users.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal
from urllib.parse import unquote_to_bytes

import msgspec

from dragoman.errors import Code, NotFoundError, UsageError
from dragoman.wire.http1 import encode_response
from dragoman.wire.misfit import UNREADABLE, json_misfit

# Error code on the wire -> HTTP status and the name in x-dragoman-error.
ERRORS: dict[int, tuple[int, str]] = {
    Code.MALFORMED: (400, "malformed"),
    Code.NOT_FOUND: (404, "not-found"),
    Code.OVERLOAD: (503, "overload"),
    Code.UNAVAILABLE: (503, "unavailable"),
    Code.DEADLINE: (504, "deadline"),
    Code.CANCELLED: (503, "cancelled"),
    Code.REMOTE: (500, "remote"),
    Code.UPSTREAM_PROTOCOL: (502, "upstream-protocol"),
    Code.UPSTREAM_LOST: (502, "upstream-lost"),
    Code.TOO_LARGE: (413, "too-large"),
    Code.UNSUPPORTED: (501, "unsupported"),
    Code.INTERNAL: (500, "internal"),
    Code.BAD_RESULT: (502, "bad-result"),
}

STATUS_NAMES = {
    400: "malformed",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "too-large",
    414: "target-too-long",
    417: "expectation-failed",
    431: "head-too-large",
    501: "unsupported",
    505: "version-not-supported",
}

TIMEOUT_MS_MAX = 600_000
_NAME = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$.]{0,511}")
_GROUP = re.compile(rb"[A-Za-z0-9_$.\-]{0,128}")


class JsonCall(msgspec.Struct, rename={"class_names": "class"}):
    """The body of a call by the JSON contract.

    Only what chooses the service and the form of the response is used here; the rest is checked so
    that what is wrong is refused before it travels.
    """

    types: list[str] | None = None
    args: list[msgspec.Raw] = []
    group: str = ""
    version: str = ""
    attachments: dict[str, str] = {}
    generic: bool | Literal["gson"] | None = None
    class_names: bool = False
    envelope: bool = False
    oneway: bool = False


_decoder = msgspec.json.Decoder(JsonCall)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# Interface, group, version, method and number of arguments -> the types that providers publish.
Published = Callable[[str, str, str, str, int], list[str] | None]


def status_of(code: int) -> int:
    """The HTTP status for an error code."""
    return ERRORS.get(code, (500, "internal"))[0]


def name_of(code: int) -> str:
    """The name in ``x-dragoman-error`` for an error code."""
    return ERRORS.get(code, (500, "internal"))[1]


def name_of_status(status: int) -> str:
    """The name for a status that the HTTP decoder decided on."""
    return STATUS_NAMES.get(status, "malformed")


def timeout_ms(text: bytes) -> int:
    """The value of ``x-dragoman-timeout-ms``; raises UsageError unless 1..600000."""
    if not text.isdigit() or len(text) > 9 or not 1 <= (value := int(text)) <= TIMEOUT_MS_MAX:
        raise UsageError(f"x-dragoman-timeout-ms: 1 to {TIMEOUT_MS_MAX} was expected")
    return value


def _name(what: str, text: bytes) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(f"{what}: a Java name was expected")
    return text.decode()


def _group(what: str, text: bytes) -> str:
    if not _GROUP.fullmatch(text):
        raise UsageError(f"{what}: at most 128 letters, digits and _ $ . - were expected")
    return text.decode()


def form_service(interface: bytes, group: bytes, version: bytes) -> tuple[str, str, str]:
    """Interface, group and version that a form asks for; ``interface`` is still form-encoded."""
    name = unquote_to_bytes(interface.replace(b"+", b" "))
    return (
        _name("interface", name),
        _group("x-dragoman-group", group),
        _group("x-dragoman-version", version),
    )


def json_call(
    path: bytes, group: bytes, version: bytes, body: bytes, published: Published | None = None
) -> tuple[str, str, str, bytes, bool]:
    """Interface, group, version, the payload for the provider's agent, and whether there is no
    result to wait for, of a call by the JSON contract.

    The payload is ``interface NUL method NUL group NUL version NUL`` and the JSON body. A call
    without types gets those that ``published`` knows, if it does. Raises
    UsageError for what is malformed, NotFoundError for a path that is not
    ``/{interface}/{method}``.
    """
    parts = path.split(b"/")
    if len(parts) != 3 or parts[0] or not parts[1] or not parts[2]:
        raise NotFoundError("the path /{interface}/{method} was expected")
    interface = _name("interface", unquote_to_bytes(parts[1]))
    method = _name("method", unquote_to_bytes(parts[2]))
    try:
        call = _decoder.decode(body or b"{}")
    except UNREADABLE:
        raise UsageError(f"body: {json_misfit(body, JsonCall)}") from None
    wanted_group = _group("group", group or call.group.encode())
    wanted_version = _group("version", version or call.version.encode())
    if call.types is None and call.args and published is not None:
        types = published(interface, wanted_group, wanted_version, method, len(call.args))
        if types is not None:
            body = _with_types(body, types)
    payload = b"%s\0%s\0%s\0%s\0%s" % (
        interface.encode(),
        method.encode(),
        wanted_group.encode(),
        wanted_version.encode(),
        body or b"{}",
    )
    return interface, wanted_group, wanted_version, payload, call.oneway


def _with_types(body: bytes, types: list[str]) -> bytes:
    """The JSON call with its types named, all else as it was."""
    fields = _fields(body)
    fields["types"] = msgspec.Raw(msgspec.json.encode(types))
    return msgspec.json.encode(fields)


def accepted_response(keep_alive: bool, http_1_0: bool) -> bytes:
    """A whole HTTP response for a call without result that has been passed on."""
    return encode_response(202, connection=(2 if http_1_0 else 0) if keep_alive else 1)


def error_response(status: int, name: str, why: str, close: bool) -> bytes:
    """A whole HTTP response for an error: one line of text, its name in a header."""
    line = " ".join(why.split()) or name
    fields = [("x-dragoman-error", name)]
    if status == 503:
        fields.append(("retry-after", "1"))
    if status == 405:
        fields.append(("allow", "POST"))
    return encode_response(
        status,
        body=line.encode("utf-8", "replace") + b"\n",
        content_type="text/plain;charset=utf-8",
        fields=tuple(fields),
        connection=1 if close else 0,
    )
