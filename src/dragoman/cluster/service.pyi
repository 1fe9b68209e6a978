import asyncio
from collections.abc import Sequence
from typing import Any

from dragoman.registry.base import Registration

class Options:
    """What a service is configured with."""

    policy: str
    queue_max: int
    body_bytes_max: int
    seed: int | None
    def __init__(
        self,
        policy: str = "demand",
        queue_max: int = 1024,
        body_bytes_max: int = 16777216,
        seed: int | None = None,
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
    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes, options: Options) -> None: ...
    def update(self, registrations: Sequence[Registration]) -> None:
        """The registry's current list. New endpoints are connected to, those gone are let go."""
    async def close(self) -> None:
        """Let all endpoints go; what waits fails."""
    def status(self) -> dict[str, Any]:
        """A plain dict for the status page."""
