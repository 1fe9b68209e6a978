"""The registry of Dubbo in Nacos: providers as instances of services, as Java has them.

``open_registry("nacos://host:8848")`` makes it. What instances are called and say stands in
``nacos_instances``.

Nacos is asked every ``poll_s``: one question for the names of all services, one for the instances
of each that is wanted. What is registered here is looked at as often, and sends heartbeats.

Invariants: discovery is never on the path of a request; an error changes no list; what vanished in
an outage is served for ``grace_s`` after it, since Nacos keeps instances in memory only, and they
come back with their next heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from dragoman.errors import RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.changes import OnChanges, Snapshots
from dragoman.registry.dubbo_url import ProviderEntry
from dragoman.registry.keeping import KeptHandle
from dragoman.registry.nacos_client import Instance, NacosClient
from dragoman.registry.nacos_instances import MARK, InstanceReader, Place, service_of, written
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

DEFAULT_GROUP: Final = "DEFAULT_GROUP"
DEFAULT_PATH: Final = "/nacos"


class NacosSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. Tests shorten them."""

    ttl_s: float = 10.0
    """How long an entry outlives its process."""
    poll_s: float = 1.0
    timeout_s: float = 3.0
    grace_s: float = 15.0
    backoff_max_s: float = 2.0


class NacosHandle(KeptHandle):
    """A registration of a NacosRegistry. See Handle."""

    def __init__(self, registry: NacosRegistry, registration: Registration, mark: str) -> None:
        super().__init__(registry, registration)
        self.mark = mark
        self.conflict = False
        # Asked for, and known to have been done.
        self.was_asked_for = False
        self.was_put = False
        self.beat_at_s = 0.0


class NacosRegistry(Registry):
    """See Registry. ``hosts`` are ``host:port`` of one cluster."""

    def __init__(
        self,
        hosts: list[str],
        *,
        path: str = DEFAULT_PATH,
        namespace: str = "",
        group: str = DEFAULT_GROUP,
        user: str = "",
        password: str = "",
        settings: NacosSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings or NacosSettings()
        self._rng = rng or random.Random()
        self._client = NacosClient(
            hosts,
            path=path,
            namespace=namespace,
            group=group,
            user=user,
            password=password,
            timeout_s=self._settings.timeout_s,
        )
        self._reader = InstanceReader(self._client)
        self.location = f"nacos://{','.join(hosts)}"
        self._handles: dict[Place, NacosHandle] = {}
        self._watches: list[NacosWatch] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._last_timestamp_ms = 0
        self._held: dict[Place, tuple[ProviderEntry, float | None]] = {}
        self._answered = False
        self._served_until_s = 0.0
        self._lost_total = 0
        self._conflicts_total = 0
        self._closed = False

    @property
    def reason(self) -> str:
        """Why something does not stand, as far as is known."""
        return self._client.last_error

    async def register(self, registration: Registration) -> Handle:
        """See Registry."""
        self._check_open()
        self._last_timestamp_ms = max(int(time.time() * 1000), self._last_timestamp_ms + 1)
        handle = NacosHandle(self, registration, f"{os.getpid()}-{self._rng.getrandbits(64):x}")
        place = (service_of(registration), registration.address)
        earlier = self._handles.get(place)
        if earlier is not None:
            earlier.withdrawn = True
            earlier.standing = False
        self._handles[place] = handle
        self._start("keeper", self._keep)
        self._wake.set()
        return handle

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry."""
        self._check_open()
        check_interface(interface)
        return self._add(NacosWatch(self, interface, on_change))

    def watch_services(
        self, on_changes: OnChanges, on_complete: Callable[[], None] | None = None
    ) -> Watch:
        """See Registry."""
        self._check_open()
        return self._add(
            NacosWatch(self, EVERY, None, Snapshots(self._loop, on_changes, on_complete))
        )

    def _add(self, watch: NacosWatch) -> Watch:
        self._watches.append(watch)
        self._start("follower", self._follow)
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry. Malformed and disabled entries are left out."""
        self._check_open()
        found: dict[str, list[Registration]] = {}
        for entry in (await self._reader.list({EVERY})).values():
            if not entry.disabled:
                one = entry.registration
                found.setdefault(one.interface, []).append(one)
        return {interface: sorted(found[interface]) for interface in sorted(found)}

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        watches = [watch for watch in self._watches if not watch.closed]
        registered = sum(handle.standing for handle in self._handles.values())
        return RegistryStatistics(
            healthy=not self._closed
            and (not watches or self._answered)
            and registered == len(self._handles),
            watches=len(watches),
            endpoints=sum(watch.count for watch in watches),
            registrations=len(self._handles),
            registered=registered,
            malformed_entries=self._reader.malformed,
            held_entries=sum(gone is not None for _, gone in self._held.values()),
            lists_total=self._reader.lists_total,
            errors_total=self._client.errors_total,
            leases_lost_total=self._lost_total,
            conflicts_total=self._conflicts_total,
        )

    async def close(self) -> None:
        """See Registry."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(self.withdraw(each, 3.0) for each in list(self._handles.values())))
        for watch in self._watches:
            await watch.close()
        await self._client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryError(f"{self.location} is closed")

    def _start(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._loop.create_task(self._for_ever(step), name=f"nacos {name}")

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                await step()
                failures = 0
                continue
            except RegistryError as error:
                failures += 1
                if failures == 1:
                    listed = any(watch.has_snapshot for watch in self._watches)
                    state = "the last lists serve on" if listed else "no list yet"
                    log.warning("%s: %s", state, error)
            except Exception as error:
                failures += 1
                log_fault(log, error, "Nacos: a task failed; starting it again")
            settings = self._settings
            longest = min(settings.poll_s * 2 ** min(failures, 6), settings.backoff_max_s)
            await asyncio.sleep(longest * self._rng.uniform(0.5, 1.0))

    # The follower.

    async def _follow(self) -> None:
        interfaces = {watch.interface for watch in self._watches if not watch.closed}
        try:
            found = await self._reader.list(interfaces)
        except RegistryError:
            self._answered = False
            raise
        now_s = self._loop.time()
        if not self._answered and self._held:
            self._served_until_s = now_s + self._settings.grace_s
        self._answered = True
        held: dict[Place, tuple[ProviderEntry, float | None]] = {
            place: (entry, None) for place, entry in found.items()
        }
        if now_s < self._served_until_s:
            for place, (entry, gone_at_s) in self._held.items():
                held.setdefault(place, (entry, gone_at_s or now_s))
        self._held = held
        for watch in self._watches:
            if watch.interface in interfaces:
                watch.refresh(self._snapshot(watch.interface))
        await asyncio.sleep(self._settings.poll_s * self._rng.uniform(0.8, 1.0))

    def _snapshot(self, interface: str) -> Iterator[Registration]:
        # Of the list as it is now, whichever comes while this is gone through.
        return (
            entry.registration
            for entry, _ in self._held.values()
            if interface in (EVERY, entry.registration.interface) and not entry.disabled
        )

    # The keeper.

    async def _keep(self) -> None:
        self._wake.clear()
        failure = None
        for place, handle in list(self._handles.items()):
            if not handle.withdrawn:
                try:
                    await self._stand(place[0], handle)
                except RegistryError as error:
                    # The others are not to miss their heartbeats for the sake of one.
                    failure = error
        if failure is not None:
            raise failure
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_s * self._rng.uniform(0.8, 1.0)):
                await self._wake.wait()

    async def _stand(self, service: str, handle: NacosHandle) -> None:
        """Have the instance stand, unless somebody else has taken its place since."""
        now_s = self._loop.time()
        instance = self._instance(handle)
        if handle.was_put:
            there = await self._at(service, instance)
            if there is not None and there.metadata.get(MARK) != handle.mark:
                if not handle.conflict:
                    handle.conflict = True
                    self._conflicts_total += 1
                    log.warning("%s: another process registered the same address", service)
                handle.standing = False
                return
            handle.conflict = False
            if there is None and handle.standing:
                self._lost_total += 1
                handle.standing = False
        if handle.withdrawn:
            return
        if not handle.standing:
            handle.was_asked_for = True
            await self._client.register(service, instance)
            handle.was_put = True
            if handle.withdrawn:
                # In the meantime.
                if (service, handle.registration.address) not in self._handles:
                    await self._client.deregister(service, instance)
                return
            handle.beat_at_s = now_s
            handle.standing = True
            handle.first.set()
        if now_s >= handle.beat_at_s:
            handle.beat_at_s = now_s + self._settings.ttl_s / 3
            if not await self._client.beat(service, instance):
                handle.standing = False
                self._wake.set()

    async def _at(self, service: str, instance: Instance) -> Instance | None:
        for each in await self._client.instances(service):
            if isinstance(each, Instance) and (each.ip, each.port) == (instance.ip, instance.port):
                return each
        return None

    def _instance(self, handle: NacosHandle) -> Instance:
        return written(
            handle.registration,
            mark=handle.mark,
            timestamp_ms=self._last_timestamp_ms,
            ttl_s=self._settings.ttl_s,
        )

    async def withdraw(self, handle: NacosHandle, timeout_s: float) -> bool:
        """Delete an instance if it is ours. See Handle.unregister."""
        if handle.withdrawn:
            return not handle.standing
        handle.withdrawn = True
        service = service_of(handle.registration)
        place = (service, handle.registration.address)
        if self._handles.get(place) is handle:
            del self._handles[place]
        if not handle.was_asked_for:
            return True
        instance = self._instance(handle)
        try:
            async with asyncio.timeout(timeout_s):
                there = await self._at(service, instance)
                if there is not None and there.metadata.get(MARK) == handle.mark:
                    await self._client.deregister(service, instance)
        except (RegistryError, TimeoutError):
            log.warning(
                "%s stays registered for %g s: %s", service, self._settings.ttl_s, self.reason
            )
            return False
        handle.standing = False
        return True


class NacosWatch(Watch):
    """See Watch. The registry's follower refreshes it. With ``snapshots`` these are told."""

    def __init__(
        self,
        registry: NacosRegistry,
        interface: str,
        on_change: OnChange | None,
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__(interface, on_change)
        self._registry = registry
        self._snapshots = snapshots
        self.closed = False

    @property
    def count(self) -> int:
        """See Watch."""
        return super().count if self._snapshots is None else len(self._snapshots)

    @property
    def has_snapshot(self) -> bool:
        """See Watch."""
        return self._first.is_set()

    def refresh(self, registrations: Iterable[Registration]) -> None:
        """The list as it is now, which stays as it is."""
        if self.closed:
            return
        if self._snapshots is None:
            self._publish(list(registrations))
        else:
            self._first.set()
            self._snapshots.take(registrations)

    async def close(self) -> None:
        """See Watch."""
        self.closed = True
        if self._snapshots is not None:
            self._snapshots.close()

    def _reason(self) -> str:
        return self._registry.reason
