"""Events that the HTTP decoders' Python methods return; compiled callers read attributes."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """A whole request.

    ``values`` are the wanted fields that came; ``content_kind`` is a ``CT_*``.
    """

    method: str
    target: bytes
    path: bytes
    query: bytes | None
    keep_alive: bool
    content_kind: int
    body: bytes
    values: dict[str, bytes]


class Response(NamedTuple):
    """A whole response.

    ``values`` are the wanted fields that came; ``content_kind`` is a ``CT_*``.
    """

    status: int
    keep_alive: bool
    content_kind: int
    body: bytes
    values: dict[str, bytes]
