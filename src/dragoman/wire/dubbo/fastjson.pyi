from collections.abc import Sequence
from typing import Literal, NamedTuple

class Reply(NamedTuple):
    """A reply read; ``value`` and ``attachments`` are JSON text."""

    kind: Literal["exception", "value", "null"]
    value: bytes
    attachments: bytes | None

class Request(NamedTuple):
    """A request read: all JSON text but ``descriptor``."""

    version: bytes
    path: bytes
    service_version: bytes
    method: bytes
    descriptor: bytes
    arguments: tuple[bytes, ...]
    attachments: bytes

def encode_request(
    id: int,
    interface: bytes,
    method: bytes,
    descriptor: bytes,
    *,
    text: bytes | None = None,
    arguments: Sequence[bytes] = (),
    version: bytes | None = None,
    service_version: bytes | None = None,
    group: bytes | None = None,
    attachments: bytes | None = None,
    lengths: bool = False,
) -> bytes:
    """A request frame with one text argument, or with ``arguments`` that are JSON text.

    ``lengths``: with a length before each field instead of a newline after it.

    UsageError when a text is not UTF-8, an argument is no JSON, or their number is not the
    descriptor's.
    """

def decode_reply(body: bytes) -> Reply:
    """Read the body of a reply under status 20. ProtocolError when it is malformed."""

def decode_request(body: bytes) -> Request:
    """Read the body of a request. ProtocolError when it is malformed."""

def encode_int_reply(id: int, value: int) -> bytes:
    """A reply frame with an ``int``."""

def encode_value_reply(id: int, json: bytes) -> bytes:
    """A reply frame with a value given as well-formed JSON text."""

def encode_null_reply(id: int) -> bytes:
    """A reply frame whose value is null."""

def encode_exception_reply(id: int, class_name: bytes, message: bytes) -> bytes:
    """A reply frame with a throwable. UsageError when ``message`` is not UTF-8."""

def describe_exception(json: bytes) -> str:
    """The throwable of a JSON text as ``class: message``, best effort, bounded, on one line."""
