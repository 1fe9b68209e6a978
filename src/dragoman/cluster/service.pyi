import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dragoman.cluster.member import LinkFactory, Listed

STATES: tuple[str, ...]

class Options:
    """What a service is configured with."""

    policy: str
    queue_max: int
    body_bytes_max: int
    seed: int | None
    links: dict[str, LinkFactory]
    def __init__(
        self,
        policy: str = "demand",
        queue_max: int = 1024,
        body_bytes_max: int = 16777216,
        seed: int | None = None,
        *,
        on_full: Literal["shed", "wait", "fail"] = "shed",
        calls_max: int = ...,
        bytes_max: int = ...,
        waiting_bytes_max: int = ...,
        heartbeat_ms: int = 5000,
        identity: bytes = ...,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        pings: bool = False,
        links: Mapping[str, LinkFactory] | None = None,
    ) -> None: ...

class Service:
    """The endpoints of one service. ``key`` is its name on the wire."""

    key: bytes
    name: str
    requests: int
    retried: int
    shed: int
    expired: int
    known: bool
    closed: bool
    unusable: dict[str, str]
    calls: int
    lined: int
    waiting_bytes: int
    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes, options: Options) -> None: ...
    def update(self, registrations: Sequence[Listed]) -> None:
        """The registry's current list. New endpoints are connected to, those gone are let go."""
    async def close(self) -> None:
        """Let all endpoints go; what waits fails, what is in flight may end."""
    def abort(self) -> None:
        """After ``close``: end what is in flight."""
    def status(self) -> dict[str, Any]:
        """A plain dict for the status page."""
