"""The registry in etcd: puts the lease, the watches and the gateway client together.

``open_registry("etcd://...")`` makes it. Keys are ``<prefix>/<interface>/<host:port>``, the
prefix ``/dragoman/services`` unless the URL names another (``etcd://127.0.0.1:2379/dubbomesh``
reads and writes the contest's layout), values the JSON of a ``Registration``. The invariant:
discovery is never on the path of a request, and nothing that happens to etcd changes what is being
served.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dragoman.errors import ProtocolError, RegistryError
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.changes import OnChanges
from dragoman.registry.etcd_lease import EtcdLease, LeaseSettings
from dragoman.registry.etcd_watch import (
    PAGE_KEYS,
    EtcdWatch,
    WatchCounters,
    WatchSettings,
)
from dragoman.registry.gateway import EtcdGateway, range_end
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import Registration, decode_entry

DEFAULT_PREFIX = "/dragoman/services"


class EtcdRegistry(Registry):
    """See Registry. ``members`` are base URLs (``http://127.0.0.1:2379``) of one cluster."""

    def __init__(
        self,
        members: list[str],
        *,
        prefix: str = DEFAULT_PREFIX,
        user: str = "",
        password: str = "",
        timeout_s: float = 2.0,
        lease: LeaseSettings | None = None,
        watch: WatchSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._prefix = prefix
        self._rng = rng or random.Random()
        self._watch_settings = watch or WatchSettings()
        # The lease has a client of its own, so that a watch's troubles do not move it.
        self._gateway = EtcdGateway(members, user=user, password=password, timeout_s=timeout_s)
        self._lease_gateway = EtcdGateway(
            members, user=user, password=password, timeout_s=timeout_s
        )
        self._lease = EtcdLease(self._lease_gateway, prefix, lease or LeaseSettings(), self._rng)
        self._watches: list[EtcdWatch] = []
        self._counters = WatchCounters()
        self._closed = False
        hosts = ",".join(member.partition("://")[2] for member in members)
        self.location = f"etcd://{hosts}{prefix if prefix != DEFAULT_PREFIX else ''}"

    async def register(self, registration: Registration) -> Handle:
        """See Registry."""
        self._check_open()
        return self._lease.add(registration)

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry."""
        check_interface(interface)
        return self._add_watch(interface, on_change, None, None)

    def watch_services(
        self, on_changes: OnChanges, on_complete: Callable[[], None] | None = None
    ) -> Watch:
        """See Registry."""
        return self._add_watch(EVERY, None, on_changes, on_complete)

    def _add_watch(
        self,
        interface: str,
        on_change: OnChange | None,
        on_changes: OnChanges | None,
        on_complete: Callable[[], None] | None,
    ) -> Watch:
        self._check_open()
        watch = EtcdWatch(
            self._gateway,
            self._prefix,
            interface,
            on_change,
            settings=self._watch_settings,
            counters=self._counters,
            rng=self._rng,
            on_changes=on_changes,
            on_complete=on_complete,
        )
        self._watches.append(watch)
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry. Malformed entries are left out."""
        self._check_open()
        key = f"{self._prefix}/".encode()
        end, revision, more = range_end(key), 0, True
        result: dict[str, list[Registration]] = {}
        while more:
            reply = await self._gateway.range(key, end, limit=PAGE_KEYS, revision=revision)
            revision = revision or reply.header.revision
            for kv in reply.kvs:
                try:
                    entry = decode_entry(self._prefix, kv.key.decode("utf-8", "replace"), kv.value)
                except ProtocolError:
                    continue
                if not entry.leaving:
                    result.setdefault(entry.registration.interface, []).append(entry.registration)
            more = reply.more and bool(reply.kvs)
            key = reply.kvs[-1].key + b"\0" if more else key
        return {interface: sorted(result[interface]) for interface in sorted(result)}

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        lease, counters = self._lease, self._counters
        watches = [watch for watch in self._watches if not watch.closed]
        return RegistryStatistics(
            healthy=not self._closed
            and (not watches or all(watch.synced for watch in watches))
            and (not lease.registrations or lease.registered == lease.registrations),
            watches=len(watches),
            endpoints=sum(watch.count for watch in watches),
            registrations=lease.registrations,
            registered=lease.registered,
            malformed_entries=sum(watch.malformed_entries for watch in watches),
            held_entries=sum(watch.held_entries for watch in watches),
            lists_total=counters.lists_total,
            watch_starts_total=counters.watch_starts_total,
            compactions_total=counters.compactions_total,
            repairs_total=counters.repairs_total,
            errors_total=self._gateway.errors_total + self._lease_gateway.errors_total,
            leases_lost_total=lease.leases_lost_total,
            conflicts_total=lease.conflicts_total,
        )

    async def close(self) -> None:
        """See Registry."""
        if self._closed:
            return
        self._closed = True
        await self._lease.close()
        for watch in self._watches:
            await watch.close()
        await self._gateway.close()
        await self._lease_gateway.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryError(f"{self.location} is closed")
