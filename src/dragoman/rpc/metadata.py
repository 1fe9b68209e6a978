"""Metadata of a request: a small map of texts beside its body, for traces and tenants.

Called by ``rpc.client`` and ``cluster.pool`` with what a caller passes, and by
``rpc.server_session`` with a peer's bytes. Each pair is the length of the key (u8), the key, the
length of the value (u16, little-endian) and the value, in UTF-8 (``docs/formats/mesh.md``).
"""

from __future__ import annotations

from typing import Any

from dragoman.errors import ProtocolError, UsageError

KEY_BYTES_MAX = 255
METADATA_BYTES_MAX = 4096


def metadata_bytes(metadata: Any) -> bytes | None:
    """A mapping of texts as it travels, None if it is empty; raises UsageError."""
    try:
        pairs = list(metadata.items())
    except (AttributeError, TypeError):
        raise UsageError(
            f"metadata: expected a mapping of texts, not {type(metadata).__name__}"
        ) from None
    parts = bytearray()
    for key, value in pairs:
        name = _text(key, "a key")
        said = _text(value, f"the value of {key!r}")
        if not 1 <= len(name) <= KEY_BYTES_MAX:
            raise UsageError(
                f"metadata: expected keys of 1 to {KEY_BYTES_MAX} bytes, not {len(name)}"
            )
        if len(parts) + 3 + len(name) + len(said) > METADATA_BYTES_MAX:
            raise UsageError(f"metadata: at most {METADATA_BYTES_MAX} bytes were expected")
        parts += len(name).to_bytes(1, "little") + name
        parts += len(said).to_bytes(2, "little") + said
    return bytes(parts) or None


def _text(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise UsageError(f"metadata: expected {what} to be text, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"metadata: expected {what} without lone surrogates") from None


def metadata_of(data: bytes) -> dict[str, str]:
    """The mapping of which ``metadata_bytes`` made this; raises ProtocolError."""
    metadata: dict[str, str] = {}
    at = 0
    while at < len(data):
        key, at = _part(data, at, 1)
        value, at = _part(data, at, 2)
        if not key or key in metadata:
            raise ProtocolError("METADATA with a key that is empty or repeated")
        metadata[key] = value
    return metadata


def _part(data: bytes, at: int, width: int) -> tuple[str, int]:
    start = at + width
    end = start + int.from_bytes(data[at:start], "little")
    if start > len(data) or end > len(data):
        raise ProtocolError("METADATA that ends within a pair")
    try:
        return data[start:end].decode(), end
    except UnicodeDecodeError:
        raise ProtocolError("METADATA that is not UTF-8") from None


__all__ = ["METADATA_BYTES_MAX", "metadata_bytes", "metadata_of"]
