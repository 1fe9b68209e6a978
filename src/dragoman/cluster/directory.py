"""All services of a registry on one loop: from the registry's snapshots to ``Service`` objects.

Discovery stays off the request path: the directory follows the registry, and a request finds its
service in a dictionary. Used by the consumer agent.

Invariant: a service once seen stays known (a registry outage or an empty list makes its endpoints
go, not the service), and its dictionary is the same object for ever.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dragoman.cluster.options import Options
from dragoman.cluster.server import PROTOCOL
from dragoman.cluster.service import Service
from dragoman.errors import NotFoundError, UnavailableError
from dragoman.registry.base import EVERY

if TYPE_CHECKING:
    from dragoman.registry.base import Registration


def service_key(interface: str, group: str = "", version: str = "") -> bytes:
    """Dubbo's own name for a service: ``group/interface:version``, with what is empty left out."""
    key = interface
    if group:
        key = f"{group}/{key}"
    if version and version != "0.0.0":
        key = f"{key}:{version}"
    return key.encode()


EVERY_KEY = service_key(EVERY)


class Directory:
    """The services that a registry lists. ``services`` maps ``service_key`` to ``Service``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self._loop = loop
        self._options = options
        self.services: dict[bytes, Service] = {}
        self.known = False
        self.why_unread: Callable[[], str] = lambda: "the registry has not been read yet"

    def update(self, registrations: Sequence[Registration]) -> None:
        """Take over the registry's current list (all services)."""
        wanted: dict[bytes, list[Registration]] = defaultdict(list)
        for registration in registrations:
            if registration.protocol == PROTOCOL:
                # Servers of plain RPC know nothing of Dubbo.
                continue
            key = service_key(registration.interface, registration.group, registration.version)
            wanted[key].append(registration)
        for key in wanted.keys() - self.services.keys():
            self.services[key] = Service(self._loop, key, self._options)
        for key, service in self.services.items():
            service.update(wanted.get(key, ()))
        self.known = True

    def find(self, interface: str, group: str = "", version: str = "") -> Service:
        """The service of that name; raises NotFoundError, or UnavailableError while nothing is
        known yet."""
        service = self.services.get(service_key(interface, group, version))
        if service is None:
            # Static endpoints may serve whatever they are asked for.
            service = self.services.get(EVERY_KEY)
        if service is None:
            if not self.known:
                raise UnavailableError(self.why_unread())
            asked = service_key(interface, group, version).decode()
            raise NotFoundError(f"no service {asked} is registered")
        return service

    def ready_reason(self) -> str | None:
        """None when requests can be served, else why not."""
        if not self.known:
            return self.why_unread()
        return None

    async def close(self) -> None:
        """Let all endpoints go."""
        for service in self.services.values():
            await service.close()

    def status(self) -> list[dict[str, Any]]:
        """Plain data for the status page."""
        return [service.status() for service in self.services.values()]
