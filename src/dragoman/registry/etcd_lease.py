"""Registrations kept standing in etcd: one lease for all of a registry, renewed and watched over.

Made by ``etcd.EtcdRegistry``. One task looks after it: when a third of its time has passed it
renews the lease, and asks whether it lives and holds the keys (``LeaseTimeToLive`` with keys). In
between a stream for each key (``etcd_sentinel``) tells when that may not be so; while there is
none, as after etcd was away, it asks every ``check_s``. A lease or key found missing is made again
at once, so that a registration stands again within 1 s of etcd answering, whatever happened to etcd
or to this process meanwhile.

Invariants: a put always names the lease, and etcd refuses it when the lease is gone, so no key is
ever left without one; only the entry we wrote is deleted or replaced - a successor on the same
address that registered since is left alone (a conflict, counted) until its key vanishes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from contextlib import suppress

import msgspec

from dragoman.errors import RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.etcd_sentinel import EtcdSentinel
from dragoman.registry.gateway import EtcdGateway, KeyValue, LeaseNotFound
from dragoman.registry.keeping import KeptHandle
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")


class LeaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a lease, in seconds."""

    ttl_s: int = 10
    """How long an entry outlives its process. etcd may grant more, 2 s at the least by default."""
    check_s: float = 0.7
    """Between two looks at the lease while no stream watches over it; bounds how long a lost
    registration goes unnoticed then."""
    backoff_min_s: float = 0.1
    backoff_max_s: float = 0.7


class EtcdHandle(KeptHandle):
    """A registration of an EtcdLease. See Handle."""

    def __init__(self, lease: EtcdLease, registration: Registration, key: bytes) -> None:
        super().__init__(lease, registration)
        self.key = key
        self.conflict = False
        # The first put takes over what an earlier run left at this address; later ones do not.
        self.was_put = False


class EtcdLease:
    """The lease of one registry and the registrations that hang on it."""

    def __init__(
        self, gateway: EtcdGateway, prefix: str, settings: LeaseSettings, rng: random.Random
    ) -> None:
        self._gateway = gateway
        self._prefix = prefix
        self._settings = settings
        self._rng = rng
        self._handles: dict[bytes, EtcdHandle] = {}
        self._lease = 0
        self._renew_at_s = 0.0
        self._renew_every_s = 0.0
        # The last leases of this process: a key under one of them is ours.
        self._own: deque[int] = deque(maxlen=64)
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._sentinel = EtcdSentinel(gateway, self._wake.set)
        self.leases_lost_total = 0
        self.conflicts_total = 0

    @property
    def lease(self) -> int:
        """The id of the lease in use, 0 when there is none."""
        return self._lease

    @property
    def reason(self) -> str:
        """Why a registration does not stand, as far as is known."""
        return self._gateway.last_error

    @property
    def registrations(self) -> int:
        """How many registrations are to stand."""
        return len(self._handles)

    @property
    def registered(self) -> int:
        """How many stand now, as far as is known."""
        return sum(handle.standing for handle in self._handles.values())

    def handles(self) -> list[EtcdHandle]:
        """The registrations that are to stand."""
        return list(self._handles.values())

    def add(self, registration: Registration) -> EtcdHandle:
        """Have ``registration`` stand from now on; one of the same key is replaced."""
        key = registration.key(self._prefix).encode()
        handle = EtcdHandle(self, registration, key)
        self._handles[key] = handle
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd lease")
        self._wake.set()
        return handle

    async def withdraw(self, handle: EtcdHandle, timeout_s: float) -> bool:
        """Say goodbye, then delete the entry if it is ours. See Handle.unregister."""
        if handle.withdrawn:
            return not handle.standing
        handle.withdrawn = True
        if self._handles.get(handle.key) is handle:
            del self._handles[handle.key]
        with suppress(TimeoutError, RegistryError):
            async with asyncio.timeout(timeout_s), self._lock:
                if handle.standing and self._handles.get(handle.key) is None:
                    await self._delete(handle)
                handle.standing = False
                if not self._handles and self._lease:
                    lease, self._lease = self._lease, 0
                    await self._gateway.lease_revoke(lease)
        if handle.standing:
            log.warning(
                "%s at %s stays registered until its lease ends: %s",
                handle.registration.interface,
                handle.registration.address,
                self.reason,
            )
        return not handle.standing

    async def close(self, timeout_s: float = 3.0) -> None:
        """Withdraw everything and stop."""
        await asyncio.gather(*(self.withdraw(each, timeout_s) for each in self.handles()))
        await self._sentinel.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    # The task.

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                async with self._lock:
                    await self._step()
                if failures:
                    log.info("registrations stand again")
                failures = 0
            except LeaseNotFound:
                self._lost()
                continue
            except Exception as error:
                failures += 1
                if not isinstance(error, RegistryError):
                    log_fault(log, error, "keeping up the registrations failed; trying again")
                elif failures == 1:
                    log.warning("registrations cannot be kept up for now: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(failures)):
                    await self._wake.wait()

    def _pause_s(self, failures: int) -> float | None:
        if not self._handles:
            return None  # until one is added
        settings = self._settings
        if not failures:
            if not self._sentinel.watches(self._handles):
                return settings.check_s * self._rng.uniform(0.8, 1.0)
            # With the lease's renewal it is asked, too, in case a stream hangs.
            return max(0.0, self._renew_at_s - asyncio.get_running_loop().time())
        longest: float = min(
            settings.backoff_max_s, settings.backoff_min_s * 2 ** min(failures, 10)
        )
        return longest * self._rng.uniform(0.5, 1.0)

    async def _step(self) -> None:
        """Bring etcd to where it should be, or make sure that it still is."""
        if not self._handles:
            self._sentinel.watch((), 0)
            return
        if not self._lease:
            await self._grant()
        missing = [handle for handle in self._handles.values() if not handle.standing]
        if not missing:
            if asyncio.get_running_loop().time() >= self._renew_at_s:
                self._renewed(await self._gateway.lease_keepalive(self._lease))
            told = self._sentinel.told()
            held = set(await self._gateway.lease_keys(self._lease))
            for handle in self._handles.values():
                if handle.key not in held:
                    handle.standing = False
                    missing.append(handle)
            if missing and not told:
                self._sentinel.distrust()
        for handle in missing:
            if self._handles.get(handle.key) is handle:
                await self._put(handle)
        self._sentinel.watch(self._handles, self._lease)

    async def _grant(self) -> None:
        # The id is ours to choose: should the answer get lost, the lease only runs out unused.
        lease = self._rng.getrandbits(62) | 1
        self._renewed(await self._gateway.lease_grant(lease, self._settings.ttl_s))
        self._lease = lease
        self._own.append(lease)

    def _renewed(self, ttl_s: int) -> None:
        self._renew_every_s = ttl_s / 3
        self._renew_at_s = asyncio.get_running_loop().time() + self._renew_every_s

    def _lost(self) -> None:
        """The lease is gone and etcd has deleted its keys: everything has to be put again."""
        log.warning("the lease %x was lost: registering again", self._lease)
        self.leases_lost_total += 1
        self._lease = 0
        for handle in self._handles.values():
            handle.standing = False

    async def _put(self, handle: EtcdHandle) -> None:
        """Put the entry under the lease, unless somebody else has taken its place since."""
        put = _put(handle.key, handle.registration.value(), self._lease)
        if not handle.was_put:
            await self._gateway.txn([], [put])
        else:
            look: dict[str, object] = {"request_range": {"key": handle.key}}
            reply = await self._gateway.txn([_absent(handle.key)], [put], [look])
            if not reply.succeeded:
                found = reply.responses[0].response_range if reply.responses else None
                present = found.kvs[0] if found is not None and found.kvs else None
                if present is None or not await self._replace(handle, present, put):
                    return
        handle.was_put = True
        handle.standing = True
        handle.conflict = False
        handle.first.set()

    async def _replace(self, handle: EtcdHandle, present: KeyValue, put: dict[str, object]) -> bool:
        """Replace an entry that we wrote under an earlier lease; False if it is somebody else's."""
        if present.lease in self._own:
            unchanged = _compare(handle.key, "MOD", "mod_revision", present.mod_revision)
            return (await self._gateway.txn([unchanged], [put])).succeeded
        if not handle.conflict:
            handle.conflict = True
            self.conflicts_total += 1
            log.warning(
                "%s at %s: another process registered the same address; leaving it alone",
                handle.registration.interface,
                handle.registration.address,
            )
        return False

    async def _delete(self, handle: EtcdHandle) -> None:
        ours = _compare(handle.key, "LEASE", "lease", self._lease)
        goodbye = _put(handle.key, handle.registration.value(leaving=True), self._lease)
        try:
            if (await self._gateway.txn([ours], [goodbye])).succeeded:
                delete: dict[str, object] = {"request_delete_range": {"key": handle.key}}
                await self._gateway.txn([ours], [delete])
        except LeaseNotFound:
            pass  # then the key is gone with it
        handle.standing = False


def _put(key: bytes, value: bytes, lease: int) -> dict[str, object]:
    return {"request_put": {"key": key, "value": value, "lease": str(lease)}}


def _absent(key: bytes) -> dict[str, object]:
    return _compare(key, "CREATE", "create_revision", 0)


def _compare(key: bytes, target: str, field: str, value: int) -> dict[str, object]:
    return {"key": key, "target": target, "result": "EQUAL", field: str(value)}
