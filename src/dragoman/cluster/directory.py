"""All services of a registry on one loop: from what is listed to ``Service`` objects.

Discovery stays off the request path: the directory follows the registry, and a request finds its
service in a dictionary. Used by the consumer agent.

Invariants: a service whose endpoints have all gone stays known for a while (its callers are to hear
that nobody serves it now, not that it never was), and while it has calls; then it is forgotten, and
no more than ``EMPTY_MAX`` such are kept, so that memory follows what is listed now. The dictionary
is the same object for ever. A name in a registry means that service and no other: what could be
taken for another one's name is not used.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

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
# How long a service without endpoints stays known, and how many of them.
EMPTY_S: Final = 60.0
EMPTY_MAX: Final = 1000
# A registry may be full of names; a page about all of them would hold up the calls.
IDLE_SHOWN_MAX: Final = 200


class Directory:
    """The services that a registry lists. ``services`` maps ``service_key`` to ``Service``.

    ``catch_all``: whether ``*`` among them serves whatever has no service of its own, as the
    endpoints do that a user names on the command line; nobody who writes to a registry may say so.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: Options, *, catch_all: bool = False
    ) -> None:
        self._loop = loop
        self._options = options
        self._catch_all = catch_all
        self.services: dict[bytes, Service] = {}
        self.known = False
        self.why_unread: Callable[[], str] = lambda: "the registry has not been read yet"
        # By interface: group, version and key of each service; by keys: the service of all of them.
        self._variants: dict[str, list[tuple[str, str, bytes]]] = {}
        self._unions: dict[tuple[bytes, ...], Service] = {}
        self._listed: dict[bytes, list[Registration]] = {}
        # Services without endpoints, and since when: the longest first.
        self._empty: dict[bytes, float] = {}
        self._tidying: asyncio.TimerHandle | None = None

    def update(self, registrations: Sequence[Registration]) -> None:
        """Take over the registry's current list (all services), at once."""
        lists: dict[str, list[Registration]] = {interface: [] for interface in self._variants}
        for each in registrations:
            lists.setdefault(each.interface, []).append(each)
        for interface, listed in lists.items():
            self.take(interface, listed)
        self.complete()

    def complete(self) -> None:
        """All that the registry lists has been taken over."""
        self.known = True

    def take(self, interface: str, registrations: Sequence[Registration]) -> None:
        """Take over what the registry lists of one interface now."""
        wanted: dict[bytes, list[Registration]] = defaultdict(list)
        if self._is_usable(interface):
            for registration in registrations:
                if registration.protocol == PROTOCOL:
                    # Servers of plain RPC know nothing of Dubbo.
                    continue
                key = service_key(interface, registration.group, registration.version)
                wanted[key].append(registration)
        before = {key for _, _, key in self._variants.get(interface, ())}
        for key, listed in wanted.items():
            service = self.services.get(key)
            if service is None:
                service = self.services[key] = Service(self._loop, key, self._options)
            self._empty.pop(key, None)
            service.update(listed)
        for key in before - wanted.keys():
            self._listed.pop(key, None)
            if key in self.services:
                self.services[key].update(())
                self._empty.setdefault(key, self._loop.time())
        self._listed.update(wanted)
        if wanted:
            self._variants[interface] = [
                (listed[0].group, listed[0].version, key) for key, listed in wanted.items()
            ]
        else:
            self._variants.pop(interface, None)
        if self._unions:
            changed = before | wanted.keys()
            for keys, service in self._unions.items():
                if not changed.isdisjoint(keys):
                    service.update(self._of(keys))
        if self._empty and self._tidying is None:
            self._tidying = self._loop.call_later(EMPTY_S / 60, self._tidy)

    def _is_usable(self, interface: str) -> bool:
        """Whether the name stands for one service: with ``:`` it could be another's version."""
        return self._catch_all if interface == EVERY else ":" not in interface

    def _tidy(self) -> None:
        """Forget services that have been without endpoints for long, or are too many."""
        self._tidying = None
        now_s = self._loop.time()
        for key, since_s in list(self._empty.items())[:EMPTY_MAX]:
            if now_s - since_s < EMPTY_S and len(self._empty) <= EMPTY_MAX:
                break
            service = self.services[key]
            del self._empty[key]
            if _busy(service):
                self._empty[key] = now_s
                continue
            del self.services[key]
            service.let_go()
        if self._empty:
            self._tidying = self._loop.call_later(EMPTY_S / 60, self._tidy)

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
        if service is None and self._catch_all:
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
        if self._tidying is not None:
            self._tidying.cancel()
        for service in (*self.services.values(), *self._unions.values()):
            await service.close()

    def status(self) -> list[dict[str, Any]]:
        """Plain data for the status page: all services that have been asked for, and
        ``IDLE_SHOWN_MAX`` of the others, first of those that are served now.
        ``served``: whether some endpoint takes part, so that a call now is not refused for want of
        one.
        """
        shown: list[Service] = []
        served: list[Service] = []
        idle: list[Service] = []
        for service in (*self.services.values(), *self._unions.values()):
            if service.requests:
                shown.append(service)
            elif service.serving:
                served.append(service)
            else:
                idle.append(service)
        pages = [service.status() for service in shown + (served + idle)[:IDLE_SHOWN_MAX]]
        for page in pages:
            page["served"] = any(each["state"] == "ready" for each in page["endpoints"])
        return pages


def _busy(service: Service) -> bool:
    """Whether calls are under way there, or wait."""
    return service.calls > 0 or service.lined > 0
