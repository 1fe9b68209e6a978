from collections.abc import Iterable

def parse_form(body: bytes, *, fields_max: int = 64) -> list[tuple[bytes, bytes]]:
    """All fields in order, decoded. Raises ``ProtocolError``."""

def known_fields(
    body: bytes, names: tuple[bytes, ...], *, fields_max: int = 64
) -> tuple[bytes | None, ...]:
    """The decoded values of known fields, in the order of ``names``; None for an absent one.

    Raises ``ProtocolError`` for a known field that comes twice, a malformed escape or too many
    fields.
    """

def raw_field(body: bytes, name: bytes) -> bytes | None:
    """The value of one field as it stands; None if absent; ``ProtocolError`` if repeated."""

def is_utf8(text: bytes) -> bool:
    """Whether the bytes are valid UTF-8 (RFC 3629)."""

def encode_form(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """A form body from pairs of bytes or text."""
