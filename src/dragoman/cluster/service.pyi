import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dragoman.cluster.member import Listed
from dragoman.cluster.options import Options

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
    serving: bool
    unusable: dict[str, str]
    why_unread: Callable[[], str] | None
    """Says why the registry has not told who serves, until it has."""
    calls: int
    queued: int
    waiting_bytes: int
    def __init__(self, loop: asyncio.AbstractEventLoop, key: bytes, options: Options) -> None: ...
    def update(self, registrations: Sequence[Listed]) -> None:
        """The registry's current list. New endpoints are connected to, those gone are let go."""
    def change(self, listed: Mapping[str, Sequence[Listed]]) -> None:
        """Take over what is listed at some addresses: mostly one registration, or none."""
    async def close(self) -> None:
        """Let all endpoints go; what waits fails, what is in flight may end."""
    def let_go(self) -> None:
        """No endpoint is wanted any longer."""
    def abort(self) -> None:
        """After ``close``: end what is in flight."""
    def status(self, idle_max: int | None = None) -> dict[str, Any]:
        """A plain dict for the status page: all endpoints, or of those without calls at most
        ``idle_max``, first those that take part.
        """
