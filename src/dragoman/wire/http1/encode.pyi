from collections.abc import Iterable

def encode_request(
    method: str,
    target: str,
    *,
    host: str,
    body: bytes = b"",
    content_type: str | None = None,
    fields: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A whole request as bytes, with Content-Length. Raises ``UsageError``."""

def encode_request_head(
    method: str,
    target: str,
    *,
    host: str,
    content_type: str | None = None,
    fields: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A request's head but for Content-Length and the empty line. Raises ``UsageError``."""

def encode_response(
    status: int,
    *,
    body: bytes = b"",
    content_type: str | None = None,
    fields: Iterable[tuple[str, str]] = (),
    connection: int = 0,
) -> bytes:
    """A whole response as bytes; ``connection`` is 0 (say nothing), 1 (close) or 2 (keep-alive)."""
