"""A server that is registered: pools find it, and leave it before it goes.

``cluster.serve`` makes one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from dragoman.errors import RegistryError
from dragoman.opening import Drained
from dragoman.options import milliseconds, number
from dragoman.registry import Handle, Registration, Registry
from dragoman.rpc.address import Address
from dragoman.rpc.server import Server
from dragoman.rpc.statistics import ServerStatistics

# What is spoken to a server of one's own, as the registry has it: frames like those of the mesh,
# but with bodies and methods that are nobody else's business.
PROTOCOL: Final = "rpc"
UNREGISTER_TIMEOUT_S: Final = 2.0
READY_S_MAX: Final = 86_400


class RegisteredServer(Drained):
    """An ``rpc.Server`` and its registration. ``address`` is where it listens."""

    def __init__(self, server: Server, handle: Handle, registry: Registry | None) -> None:
        self._server = server
        self._handle = handle
        self._registry = registry
        self._closed = False
        self.address: Address = server.address

    @property
    def registration(self) -> Registration:
        """The registration that pools are told."""
        return self._handle.registration

    @property
    def registered(self) -> bool:
        """Whether, as far as is known, the registry lists it now."""
        return self._handle.registered

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or is being closed."""
        return self._server.closed

    def __repr__(self) -> str:
        name = self.registration.interface
        listed = "registered" if self.registered else "not registered"
        return f"<RegisteredServer of {name}, {listed}, {self._server!r}>"

    async def ready(self, timeout_s: float | None = None) -> None:
        """Return once it is registered; raises RegistryError with the reason after the time."""
        if timeout_s is not None:
            number("timeout_s", timeout_s, 0, READY_S_MAX)
        self._server.check_mine()
        await self._handle.ready(timeout_s)

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        await self._server.serve_forever()

    def set_limit(self, limit: int) -> None:
        """From now on take ``limit`` requests at once."""
        self._server.set_limit(limit)

    def statistics(self) -> ServerStatistics:
        """The server's counters now."""
        return self._server.statistics()

    async def close(self, *, drain_ms: int = 10_000) -> None:
        """Deregister, take nothing new, answer what is in progress, for ``drain_ms`` milliseconds
        at most; then close every connection. Never fails for a registry that is away."""
        milliseconds("drain_ms", drain_ms)
        if self._server.foreign or self._closed:
            return
        self._server.check_mine()
        unregistering = asyncio.create_task(self._handle.unregister(timeout_s=UNREGISTER_TIMEOUT_S))
        await self._server.close(drain_ms=drain_ms)
        await asyncio.gather(unregistering, return_exceptions=True)
        if self._registry is not None:
            with contextlib.suppress(RegistryError):
                await self._registry.close()
        self._closed = True
