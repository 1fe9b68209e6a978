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
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from dragoman.cluster.options import Options
from dragoman.cluster.selection import chosen, is_choice
from dragoman.cluster.server import PROTOCOL
from dragoman.cluster.service import Service
from dragoman.errors import NotFoundError, OverloadError, UnavailableError
from dragoman.registry.names import EVERY

if TYPE_CHECKING:
    from dragoman.registry.changes import Change
    from dragoman.registry.registration import Registration


def service_key(interface: str, group: str = "", version: str = "") -> bytes:
    """Dubbo's own name for a service: ``group/interface:version``, with what is empty left out."""
    key = interface
    if group:
        key = f"{group}/{key}"
    if version and version != "0.0.0":
        key = f"{key}:{version}"
    return key.encode()


def interface_of(key: bytes) -> str:
    """The interface in a ``service_key`` without ``/`` in the version."""
    return key.decode().rpartition("/")[2].partition(":")[0]


EVERY_KEY = service_key(EVERY)
# Unions of services that callers have asked for (``group`` ``*``, say); those unused go first.
UNIONS_MAX = 64
# How long a service without endpoints stays known, and how many of them.
EMPTY_S: Final = 60.0
EMPTY_MAX: Final = 1000
# So many of these are let go at once, about a millisecond's work, with a pause between.
TIDIED_A_TICK: Final = 25
PAUSE_S: Final = 0.004
CLOSED_A_TICK: Final = 200
# Services that are looked at for the status page, and those that are put on it, at once.
LOOKED_AT_A_TICK: Final = 5000
SHOWN_A_TICK: Final = 50
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
        # By interface: the keys of its services, with group and version of each; by keys: the
        # service of all of them.
        self._variants: dict[str, dict[bytes, tuple[str, str]]] = {}
        self._unions: dict[tuple[bytes, ...], Service] = {}
        # By key and address.
        self._listed: dict[bytes, dict[str, tuple[Registration, ...]]] = {}
        # Services without endpoints, and since when: the longest first.
        self._empty: dict[bytes, float] = {}
        self._tidying: asyncio.TimerHandle | None = None

    def update(self, registrations: Iterable[Registration]) -> None:
        """Take over the registry's current list (all services), at once."""
        there = {
            id(each): each
            for listed in self._listed.values()
            for at_address in listed.values()
            for each in at_address
        }
        wanted = {id(each): each for each in registrations}
        changes: list[Change] = [(each, None) for n, each in there.items() if n not in wanted]
        changes += [(None, each) for n, each in wanted.items() if n not in there]
        self.change(changes)
        self.complete()

    def complete(self) -> None:
        """All that the registry lists has been taken over."""
        self.known = True

    def change(self, changes: Iterable[Change]) -> None:
        """Take over some changes of what the registry lists. What this costs follows their number,
        whatever else is listed."""
        touched: dict[bytes, dict[str, tuple[Registration, ...]]] = {}
        for before, now in changes:
            if before is not None:
                self._list(before, touched, there=False)
            if now is not None:
                self._list(now, touched, there=True)
        for key, addresses in touched.items():
            self._settle(key, addresses)
        for keys, union in self._unions.items():
            if not touched.keys().isdisjoint(keys):
                union.update(self._of(keys))
        if self._empty and self._tidying is None:
            self._tidying = self._loop.call_later(EMPTY_S / 60, self._tidy)

    def _list(
        self,
        one: Registration,
        touched: dict[bytes, dict[str, tuple[Registration, ...]]],
        *,
        there: bool,
    ) -> None:
        """Note whether ``one`` is listed, and which addresses of which services that concerns."""
        if not self._is_usable(one):
            return
        key = service_key(one.interface, one.group, one.version)
        listed = self._listed.get(key)
        if listed is None:
            if not there:
                return
            listed = self._listed[key] = {}
            self._variants.setdefault(one.interface, {})[key] = one.group, one.version
        address = one.address
        others = [each for each in listed.get(address, ()) if each is not one]
        if there:
            others.append(one)
            others.sort()
        # Once nothing is left the address is dropped, but only then: it may come in this change.
        touched.setdefault(key, {})[address] = listed[address] = tuple(others)

    def _settle(self, key: bytes, addresses: dict[str, tuple[Registration, ...]]) -> None:
        """Have the service of ``key`` take over what is listed at ``addresses`` now."""
        listed = self._listed[key]
        for address, there in addresses.items():
            if not there:
                del listed[address]
        service = self.services.get(key)
        if listed:
            if service is None:
                service = self.services[key] = Service(self._loop, key, self._options)
            self._empty.pop(key, None)
        else:
            del self._listed[key]
            interface = interface_of(key)
            variants = self._variants[interface]
            del variants[key]
            if not variants:
                del self._variants[interface]
            if service is None:
                return
            self._empty.setdefault(key, self._loop.time())
        service.change(addresses)

    def _is_usable(self, one: Registration) -> bool:
        """Whether it stands for one service, and speaks of one: a name with ``:`` could be
        another's version, and a version with ``/`` another's name; servers of plain RPC know
        nothing of Dubbo."""
        if one.protocol == PROTOCOL or "/" in one.version:
            return False
        return self._catch_all if one.interface == EVERY else ":" not in one.interface

    def _tidy(self) -> None:
        """Forget services that have been without endpoints for long, or are too many."""
        self._tidying = None
        now_s = self._loop.time()
        for key, since_s in list(islice(self._empty.items(), TIDIED_A_TICK)):
            if now_s - since_s < EMPTY_S and len(self._empty) <= EMPTY_MAX:
                break
            service = self.services[key]
            del self._empty[key]
            if _busy(service):
                self._empty[key] = now_s
                continue
            del self.services[key]
            service.let_go()
        else:
            if self._empty:
                self._tidying = self._loop.call_later(PAUSE_S, self._tidy)
            return
        self._tidying = self._loop.call_later(EMPTY_S / 60, self._tidy)

    def _of(self, keys: Sequence[bytes]) -> list[Registration]:
        """The listed servers of several services."""
        return [
            each for key in keys for there in self._listed.get(key, {}).values() for each in there
        ]

    def _union(self, interface: str, group: str, version: str) -> Service | None:
        """The service of all providers among those asked for, if there are any."""
        keys = tuple(
            sorted(
                key
                for key, (said_group, said_version) in self._variants.get(interface, {}).items()
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
        every = (*self.services.values(), *self._unions.values())
        for number, service in enumerate(every, 1):
            await service.close()
            if number % CLOSED_A_TICK == 0:
                await asyncio.sleep(0)

    async def status(self) -> list[dict[str, Any]]:
        """Plain data for the status page, made some a tick: all services that have been asked for,
        and ``IDLE_SHOWN_MAX`` of the others, first of those that are served now; so of the
        endpoints of each, of which ``endpoints_known`` are listed. ``served``: whether some
        endpoint takes part, so that a call now is not refused for want of one.
        """
        shown: list[Service] = []
        served: list[Service] = []
        idle: list[Service] = []
        every = (*self.services.values(), *self._unions.values())
        for number, service in enumerate(every, 1):
            if service.requests:
                shown.append(service)
            elif service.serving:
                served.append(service)
            else:
                idle.append(service)
            if number % LOOKED_AT_A_TICK == 0:
                await asyncio.sleep(0)
        pages: list[dict[str, Any]] = []
        for number, service in enumerate(shown + (served + idle)[:IDLE_SHOWN_MAX], 1):
            page = service.status(IDLE_SHOWN_MAX)
            page["served"] = any(each["state"] == "ready" for each in page["endpoints"])
            pages.append(page)
            if number % SHOWN_A_TICK == 0 or len(page["endpoints"]) > SHOWN_A_TICK:
                await asyncio.sleep(0)
        return pages


def _busy(service: Service) -> bool:
    """Whether calls are under way there, or wait."""
    return service.calls > 0 or service.queued > 0
