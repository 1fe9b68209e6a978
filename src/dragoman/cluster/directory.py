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
from dragoman.cluster.selection import chosen, is_choice
from dragoman.cluster.server import PROTOCOL
from dragoman.cluster.service import Service
from dragoman.errors import NotFoundError, OverloadError, UnavailableError
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
# Unions of services that callers have asked for (``group`` ``*``, say); those unused go first.
UNIONS_MAX = 64


class Directory:
    """The services that a registry lists. ``services`` maps ``service_key`` to ``Service``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Options) -> None:
        self._loop = loop
        self._options = options
        self.services: dict[bytes, Service] = {}
        self.known = False
        self.why_unread: Callable[[], str] = lambda: "the registry has not been read yet"
        # By interface: group, version and key of each service; by keys: the service of all of them.
        self._variants: dict[str, list[tuple[str, str, bytes]]] = {}
        self._unions: dict[tuple[bytes, ...], Service] = {}
        self._listed: dict[bytes, list[Registration]] = {}

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
        self._listed = wanted
        self._variants = {}
        for key, listed in wanted.items():
            one = listed[0]
            self._variants.setdefault(one.interface, []).append((one.group, one.version, key))
        for keys, service in self._unions.items():
            service.update(self._of(keys))
        self.known = True

    def _of(self, keys: Sequence[bytes]) -> list[Registration]:
        """What is listed of several services."""
        return [each for key in keys for each in self._listed.get(key, ())]

    def _union(self, interface: str, group: str, version: str) -> Service | None:
        """The service of all providers among those asked for, if there are any."""
        keys = tuple(
            sorted(
                key
                for said_group, said_version, key in self._variants.get(interface, ())
                if chosen(group, said_group)
                and (chosen(version, said_version) or (version == "0.0.0" and not said_version))
            )
        )
        if len(keys) < 2:
            return self.services[keys[0]] if keys else None
        service = self._unions.pop(keys, None)
        if service is None:
            for other in list(self._unions):
                if len(self._unions) < UNIONS_MAX:
                    break
                if not _busy(self._unions[other]):
                    self._loop.create_task(self._unions.pop(other).close())
            if len(self._unions) >= UNIONS_MAX:
                raise OverloadError(f"calls to more than {UNIONS_MAX} choices of services at once")
            service = Service(self._loop, b" or ".join(keys), self._options)
            service.update(self._of(keys))
        self._unions[keys] = service
        return service

    def find(self, interface: str, group: str = "", version: str = "") -> Service:
        """The service of that name; raises NotFoundError, or UnavailableError while nothing is
        known yet. ``group`` and ``version`` may be ``*`` or have commas (``cluster.selection``)."""
        service = self.services.get(service_key(interface, group, version))
        if service is None and is_choice(group, version):
            service = self._union(interface, group, version)
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
        for service in (*self.services.values(), *self._unions.values()):
            await service.close()

    def status(self) -> list[dict[str, Any]]:
        """Plain data for the status page."""
        services = (*self.services.values(), *self._unions.values())
        return [service.status() for service in services]


def _busy(service: Service) -> bool:
    """Whether calls are under way there, or wait."""
    return service.calls > 0 or service.waiting_bytes > 0
