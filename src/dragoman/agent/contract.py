"""The HTTP contracts of the consumer agent: what a request means and how an error looks.

Called by ``agent.ingress`` for everything but the hot path of a form. ``docs/http.md`` describes
it to users.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from email.utils import formatdate
from functools import lru_cache, wraps
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from dragoman.agent.published import Signature
from dragoman.cluster.directory import service_key
from dragoman.errors import Code, NotFoundError, UsageError
from dragoman.wire.http1 import encode_response
from dragoman.wire.json.outline import Outline
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
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "too-large",
    414: "target-too-long",
    415: "unsupported-media-type",
    417: "expectation-failed",
    421: "misdirected",
    431: "head-too-large",
    501: "unsupported",
    505: "version-not-supported",
}

# Failures that are the caller's own affair: what its request was, what its method threw.
CALLERS_OWN = frozenset(("malformed", "remote"))
# What a request is refused for with 5xx, though it is its client's doing.
CLIENTS_OWN: Final = frozenset(("unsupported", "version-not-supported"))
# Whose line holds no words of a provider's, which might be a caller's data.
REASON_IS_OURS = frozenset(
    ("overload", "unavailable", "deadline", "cancelled", "upstream-lost", "too-large", "internal")
)

TIMEOUT_MS_MAX = 600_000
ARGUMENTS_MAX = 255
NAME_SHOWN_MAX = 40
BOM: Final = b"\xef\xbb\xbf"
# Of a GET's query, beside ``arg`` and ``type``, which may be repeated.
QUERY_FIELDS: Final = ("args", "group", "version")
TEXT_TYPES: Final = frozenset(("java.lang.String", "char", "java.lang.Character"))
# Of a longer call the arguments are not looked at here, and all else is no longer than this: a loop
# has other calls to answer.
READ_WHOLE_BYTES = 65536
# So many of the names that callers have used lately are remembered. Callers choose them: what is
# longer is not remembered, nor what is refused.
REMEMBERED: Final = 2048
REMEMBERED_BYTES: Final = 256
_NAME = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$.]{0,511}")
# Also * for any, and several with commas between.
# A list has one space after a comma at most.
_GROUP = re.compile(rb"(?=.{0,128}\Z)(?:[A-Za-z0-9_$.\-*]|, ?)*")


class HttpRefusal(Exception):
    """A request is refused with ``status``; ``name`` is for ``x-dragoman-error``, ``why`` the
    line."""

    def __init__(self, status: int, name: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.name = name
        self.why = why


def wrong_type(charset: bool, expected: str) -> HttpRefusal:
    """The refusal of a ``Content-Type``, or of its ``charset`` alone."""
    why = f"Content-Type {expected} was expected"
    if charset:
        why = "Content-Type: charset=utf-8, or none, was expected"
    return HttpRefusal(415, "unsupported-media-type", why)


class JsonCall(msgspec.Struct, rename={"class_names": "class"}, forbid_unknown_fields=True):
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


MEMBERS: Final = tuple(field.encode_name for field in msgspec.structs.fields(JsonCall))
_decoder = msgspec.json.Decoder(JsonCall)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
# Interface, group, version, method and number of arguments -> what providers publish of it.
# What is to be joined to a payload.
Parts = tuple[bytes | memoryview, ...]
Published = Callable[[str, str, str, str, int], Signature | None]


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
        raise UsageError(f"{what}: at most 128 letters, digits and _ $ . - * , were expected")
    return text.decode()


class Asked(NamedTuple):
    """What a JSON call asks for. ``key`` names the service, and ``names`` stand before the call on
    its way to the provider's agent."""

    interface: str
    group: str
    version: str
    method: str
    key: bytes
    names: bytes


_Found = TypeVar("_Found")


def _remembering(
    look: Callable[[bytes, bytes, bytes], _Found],
) -> Callable[[bytes, bytes, bytes], _Found]:
    """``look`` with what it has found lately remembered."""
    known = lru_cache(REMEMBERED)(look)

    @wraps(look)
    def find(first: bytes, group: bytes, version: bytes) -> _Found:
        short = len(first) + len(group) + len(version) <= REMEMBERED_BYTES
        return (known if short else look)(first, group, version)

    return find


@_remembering
def form_service(interface: bytes, group: bytes, version: bytes) -> tuple[str, str, str]:
    """Interface, group and version that a form asks for; ``interface`` is still form-encoded."""
    name = unquote_to_bytes(interface.replace(b"+", b" "))
    return (
        _name("interface", name),
        _group("x-dragoman-group", group),
        _group("x-dragoman-version", version),
    )


def _path(path: bytes) -> tuple[str, str]:
    """Interface and method of ``/{interface}/{method}``."""
    parts = path.split(b"/")
    if len(parts) != 3 or parts[0] or not parts[1] or not parts[2]:
        raise NotFoundError("the path /{interface}/{method} was expected")
    return (
        _name("interface", unquote_to_bytes(parts[1])),
        _name("method", unquote_to_bytes(parts[2])),
    )


@_remembering
def asked_for(path: bytes, group: bytes, version: bytes) -> Asked:
    """What the path of a JSON call, its group and its version ask for. Raises UsageError, and
    NotFoundError for a path that is not ``/{interface}/{method}``."""
    interface, method = _path(path)
    wanted_group = _group("group", group)
    wanted_version = _group("version", version)
    names = "\0".join((interface, method, wanted_group, wanted_version, "")).encode()
    key = service_key(interface, wanted_group, wanted_version)
    return Asked(interface, wanted_group, wanted_version, method, key, names)


def _unknown(name: str, known: Iterable[str]) -> str:
    """The text for a name that does not belong there. What is near to it is suggested."""
    shown = name if len(name) <= NAME_SHOWN_MAX else name[:NAME_SHOWN_MAX] + "..."
    near = get_close_matches(name[:NAME_SHOWN_MAX], list(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"
    return f"unknown {shown!r}: {hint}"


def _complaint(body: bytes) -> str:
    """The complaint about the body of a malformed JSON call."""
    try:
        members = _fields(body)
    except UNREADABLE:
        members = {}
    for name in members:
        if name not in MEMBERS:
            return _unknown(name, MEMBERS)
    return str(json_misfit(body, JsonCall))


def query_call(
    path: bytes, group: bytes, version: bytes, query: bytes, published: Published | None = None
) -> tuple[str, str, str, Parts, bool]:
    """``json_call`` for a GET, whose query holds the arguments.

    Either ``args``, a JSON list, or any number of ``arg``, each a value: as text where its type
    (in ``type``, or published) is one of text, else as JSON, and what is no JSON as text.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=2 * ARGUMENTS_MAX + 8,
        )
    except ValueError:
        raise UsageError("query: name=value&... in UTF-8, percent-encoded, was expected") from None
    single: dict[str, str] = {}
    texts: list[str] = []
    types: list[str] = []
    for name, value in pairs:
        if name == "arg":
            texts.append(value)
        elif name == "type":
            types.append(value)
        elif name not in QUERY_FIELDS:
            raise UsageError("query: " + _unknown(name, ("arg", "type", *QUERY_FIELDS)))
        elif name in single:
            raise UsageError(f"query: {name} is repeated")
        else:
            single[name] = value
    if "args" in single and texts:
        raise UsageError("query: args or arg was expected, not both")
    call: dict[str, Any] = {name: single[name] for name in ("group", "version") if name in single}
    if "args" in single:
        call["args"] = _raw_json("query: args", single["args"])
    else:
        if not types and texts and published is not None:
            interface, method = _path(path)
            known = published(
                interface,
                _group("group", group or single.get("group", "").encode()),
                _group("version", version or single.get("version", "").encode()),
                method,
                len(texts),
            )
            types = (known.types if known is not None else None) or []
        if types and len(types) != len(texts):
            raise UsageError(f"query: a type for each of {len(texts)} arguments was expected")
        call["args"] = [
            _query_value(text, types[i] if types else "") for i, text in enumerate(texts)
        ]
    if types:
        call["types"] = types
    return json_call(path, group, version, msgspec.json.encode(call), published)


def _raw_json(where: str, text: str) -> msgspec.Raw:
    try:
        msgspec.json.decode(text)
    except UNREADABLE:
        raise UsageError(f"{where}: JSON was expected") from None
    return msgspec.Raw(text.encode())


def _query_value(text: str, java_type: str) -> object:
    if java_type in TEXT_TYPES:
        return text
    try:
        return _raw_json("", text)
    except UsageError:
        return text


def json_call(
    path: bytes,
    group: bytes,
    version: bytes,
    body: bytes | memoryview,
    published: Published | None = None,
    looked: Outline | None = None,
) -> tuple[str, str, str, Parts, bool]:
    """Interface, group, version, the payload for the provider's agent, and whether there is no
    result to wait for, of a call by the JSON contract. ``looked``: its outline, if it is known.

    The payload, in parts to be joined, is ``interface NUL method NUL group NUL version NUL`` and
    the JSON body. A call without types gets those that ``published`` knows, if it does. Raises
    UsageError for what is malformed, NotFoundError for a path that is not
    ``/{interface}/{method}``.
    """
    body = _without_bom(body)
    said: bytes | memoryview = body or b"{}"
    end = -1
    if len(body) > READ_WHOLE_BYTES:
        if looked is None:
            _path(path)
            looked = outline_of(body)
            look(looked, len(body))
        said, end = looked.take()
    try:
        call = _decoder.decode(said)
    except UNREADABLE:
        _path(path)  # what is wrong with it is told first
        raise UsageError(f"body: {_complaint(bytes(said))}") from None
    asked = asked_for(path, group or call.group.encode(), version or call.version.encode())
    parts: Parts = (body or b"{}",)
    # What a large call's arguments are is not looked at: there may be objects in them.
    if published is not None and (
        (call.types is None and call.args)
        or end >= 0
        or any(b"{" in bytes(each) for each in call.args)
    ):
        known = published(*asked[:4], len(call.args))
        if known is not None and (call.types is None or known.fields):
            parts = _with_types(body, call.types or known.types, known.fields, end)
    return asked.interface, asked.group, asked.version, (asked.names, *parts), call.oneway


def outline_of(body: bytes | memoryview) -> Outline:
    """The members of a large JSON call beside its arguments, to be found by ``look``."""
    return Outline(_without_bom(body), b"args", ARGUMENTS_MAX, READ_WHOLE_BYTES)


def look(outline: Outline, most: int) -> bool:
    """Go through about so many bytes more of a call, or raise UsageError; whether that was all."""
    try:
        return outline.look(most)
    except UsageError as error:
        raise UsageError(f"body: {error}") from None


def _without_bom(body: bytes | memoryview) -> bytes | memoryview:
    if body[: len(BOM)] == BOM:
        return memoryview(body)[len(BOM) :]
    return body


def _with_types(
    body: bytes | memoryview,
    types: list[str] | None,
    fields: dict[str, dict[str, str]],
    end: int,
) -> Parts:
    """The JSON call with its types named, and those of beans' fields, all else as it was; ``end``:
    where its last brace is, if that is known."""
    added: dict[str, Any] = {}
    if types is not None:
        added["types"] = types
    if fields:
        added["fields"] = fields
    if end >= 0:
        if not added:
            return (body,)
        # Of two members the last one counts: there may be one that is null.
        said = memoryview(body)
        return said[:end], b",", msgspec.json.encode(added)[1:-1], said[end:]
    members = _fields(body)
    members |= {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in added.items()}
    return (msgspec.json.encode(members),)


def called(service: str, json: bool, body: bytes) -> str:
    """What a payload, or its beginning, calls, for a log line: ``method of service``. Endpoints of
    a static list may serve every interface (``*``): then it is the one that was asked for."""
    if json:
        parts = body.split(b"\0", 2)
        names = parts[:2] if len(parts) == 3 else []
    else:
        found = [
            re.search(rb"(?:^|&)%s=([A-Za-z0-9_$.]{1,512})(?:&|$)" % field, body)
            for field in (b"interface", b"method")
        ]
        names = [each[1] for each in found if each]
    interface, method = (each.decode("ascii", "replace") for each in (*names, b"?", b"?")[:2])
    return f"{method} of {interface if service == '*' else service}"


def date_line(wall_s: float) -> bytes:
    """The field line of a response's date (RFC 9110 section 5.6.7), with its CR LF."""
    return f"date: {formatdate(wall_s, usegmt=True)}\r\n".encode()


def _date(line: bytes) -> tuple[str, str]:
    return "date", line[6:-2].decode()


def cors_lines(origin: bytes) -> bytes:
    """``cors_fields`` as lines, each with its CR LF."""
    return b"".join(
        b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in cors_fields(origin)
    )


def cors_fields(origin: bytes) -> list[tuple[str, str]]:
    """The fields that let a page of ``origin`` read the response (Fetch, section 3.3)."""
    return [
        ("access-control-allow-origin", origin.decode("latin-1")),
        ("access-control-expose-headers", "x-dragoman-error, retry-after"),
        ("vary", "origin"),
    ]


def accepted_response(connection: int, date: bytes, origin: bytes | None) -> bytes:
    """A whole HTTP response for a call without result that has been passed on."""
    fields = [_date(date), *(cors_fields(origin) if origin else [])]
    return encode_response(202, fields=tuple(fields), connection=connection)


def error_response(
    status: int,
    name: str,
    why: str,
    connection: int,
    date: bytes,
    origin: bytes | None = None,
    methods: str = "POST",
) -> bytes:
    """A whole HTTP response for an error: one line of text, its name in a header.

    ``connection`` is as for ``encode_response``, ``date`` a field line, ``origin`` that of the page
    that may read the response, ``methods`` what a 405 names.
    """
    line = " ".join(why.split()) or name
    fields = [_date(date), ("x-dragoman-error", name)]
    if status == 503:
        fields.append(("retry-after", "1"))
    if status == 405:
        fields.append(("allow", methods))
    if status == 415:
        fields.append(("accept-encoding", "identity"))
    if origin:
        fields += cors_fields(origin)
    return encode_response(
        status,
        body=line.encode("utf-8", "replace") + b"\n",
        content_type="text/plain;charset=utf-8",
        fields=tuple(fields),
        connection=connection,
    )
