KINDS: dict[str, int]
VERSION: int
MAGIC: bytes

class MeshDecoder:
    """Bytes in, frames out. ``body_bytes_max`` bounds the body of requests, replies and errors."""

    body_bytes_max: int
    error: str | None
    def __init__(self, body_bytes_max: int = ...) -> None: ...
    def frames(self, data: bytes) -> list[tuple[int, int, int, int, int, bytes]]:
        """All frames completed by ``data``: ``(type, flags, target, id, value, body)``.

        Raises ProtocolError where the peer broke the format.
        """

def encode(
    kind: int,
    *,
    flags: int = 0,
    target: int = 0,
    id: int = 0,
    value: int = 0,
    body: bytes = b"",
) -> bytes:
    """One frame as bytes (tests and tools)."""
