"""The registry of Dubbo in ZooKeeper: providers as ephemeral nodes, read and written as Java does.

``open_registry("zookeeper://host:2181")`` makes it. Below the root (``/dubbo`` unless the URL names
another) stands ``<interface>/providers/<URL>``: the URL of a provider, percent-encoded, is the
node's name (``dubbo_url``). What Dubbo cannot call, such as a provider's agent, stands under
``<interface>/dragoman`` instead, which Dubbo's consumers do not look at; ``configurators`` may
change weights and take providers out.

Two tasks: the *follower* reads the folders that something has happened to (``zookeeper_watch``),
and the *registrar* sees to it that what is registered here stands.

Invariants: discovery is never on the path of a request; nothing that happens to ZooKeeper
empties a list; a registration stands again after every loss of the session.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from dragoman.errors import ProtocolError, RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.changes import OnChanges, Snapshots
from dragoman.registry.dubbo_metadata import MetadataCache, decode_methods, encode_methods
from dragoman.registry.dubbo_url import DEFAULT_APPLICATION, write_provider
from dragoman.registry.keeping import KeptHandle
from dragoman.registry.methods import Method
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import Registration
from dragoman.registry.zookeeper_client import NodeExists, NoNode, ZookeeperClient
from dragoman.registry.zookeeper_watch import Folders, ZookeeperWatch, encode

log = logging.getLogger("dragoman.registry")

DEFAULT_ROOT: Final = "/dubbo"


class ZookeeperSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. Tests shorten them."""

    session_timeout_s: float = 10.0
    """How long a registration outlives its process; ZooKeeper bounds it (4 to 40 s by default)."""
    request_timeout_s: float = 3.0
    check_s: float = 5.0
    """Between two looks at what is registered, beside being told of changes."""
    reconcile_s: float = 30.0
    """Between two full lists, beside being told of changes."""
    grace_s: float = 10.0
    """How long after an outage entries that vanished in it are still served."""
    backoff_min_s: float = 0.1
    backoff_max_s: float = 0.7
    metadata_s: float = 60.0
    """How long a provider's metadata is kept."""


class ZookeeperHandle(KeptHandle):
    """A registration of a ZookeeperRegistry. See Handle."""

    def __init__(self, registry: ZookeeperRegistry, registration: Registration, path: str) -> None:
        super().__init__(registry, registration)
        self.path = path


class ZookeeperRegistry(Registry):
    """See Registry. ``hosts`` are ``host:port`` of one ensemble; ``application`` is whose
    consumers these are, for overrides that are about one.
    """

    def __init__(
        self,
        hosts: list[str],
        *,
        root: str = DEFAULT_ROOT,
        user: str = "",
        password: str = "",
        application: str = DEFAULT_APPLICATION,
        settings: ZookeeperSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._root = root
        self._settings = settings or ZookeeperSettings()
        self._rng = rng or random.Random()
        self._closed = False
        self._handles: dict[str, ZookeeperHandle] = {}
        self._to_delete: set[str] = set()
        self._published: dict[str, bytes] = {}
        self._to_publish: set[str] = set()
        self._last_timestamp_ms = 0
        self._registrar_wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watches: list[ZookeeperWatch] = []
        self._metadata = MetadataCache(self._settings.metadata_s)
        self.location = f"zookeeper://{','.join(hosts)}{root if root != DEFAULT_ROOT else ''}"
        self._client = ZookeeperClient(
            hosts,
            user=user,
            password=password,
            session_timeout_s=self._settings.session_timeout_s,
            request_timeout_s=self._settings.request_timeout_s,
            on_connected=self._on_connected,
            on_lost=self._on_lost,
        )
        self._application = application
        self._folders = Folders(self._client, root, self._settings.grace_s, application=application)

    @property
    def reason(self) -> str:
        """Why something does not stand, as far as is known."""
        return self._client.last_error

    async def register(self, registration: Registration) -> Handle:
        """See Registry. Raises UsageError for what cannot be said in a URL of Dubbo."""
        self._check_open()
        # Strictly rising, so that of two registrations of one address the later is known.
        self._last_timestamp_ms = max(int(time.time() * 1000), self._last_timestamp_ms + 1)
        url = write_provider(registration, timestamp_ms=self._last_timestamp_ms, pid=os.getpid())
        category = "providers" if registration.protocol == "dubbo" else "dragoman"
        folder = f"{self._root}/{encode(registration.interface)}/{category}"
        handle = ZookeeperHandle(self, registration, f"{folder}/{encode(url)}")
        for other in list(self._handles.values()):
            if _place(other.registration) == _place(registration):
                other.withdrawn = True
                other.standing = False
                del self._handles[other.path]
                self._to_delete.add(other.path)
        self._handles[handle.path] = handle
        self._start("registrar", self._register_all)
        self._registrar_wake.set()
        return handle

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry."""
        self._check_open()
        check_interface(interface)
        return self._add(ZookeeperWatch(self._folders, interface, on_change, lambda: self.reason))

    def watch_services(
        self, on_changes: OnChanges, on_complete: Callable[[], None] | None = None
    ) -> Watch:
        """See Registry. One at a time: what has changed is told to the last."""
        self._check_open()
        snapshots = Snapshots(self._loop, on_changes, on_complete)
        return self._add(ZookeeperWatch(self._folders, EVERY, None, lambda: self.reason, snapshots))

    def _add(self, watch: ZookeeperWatch) -> Watch:
        self._watches.append(watch)
        self._start("follower", self._follow)
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry. Malformed and disabled entries are left out."""
        self._check_open()
        await self._connected()
        folders = Folders(
            self._client, self._root, 0.0, application=self._application, watching=False
        )
        folders.want(EVERY)
        await folders.read()
        found: dict[str, list[Registration]] = {}
        for each in folders.snapshot(EVERY):
            found.setdefault(each.interface, []).append(each)
        return {interface: sorted(found[interface]) for interface in sorted(found)}

    async def metadata(
        self, interface: str, *, group: str = "", version: str = ""
    ) -> tuple[Method, ...]:
        """See Registry: what providers put below ``metadata`` (2.7 where it is told to, 3)."""
        self._check_open()
        check_interface(interface)
        return await self._metadata.get(
            (interface, group, version),
            lambda: self._read_metadata(interface, group, version),
        )

    async def _read_metadata(self, interface: str, group: str, version: str) -> tuple[Method, ...]:
        await self._connected()
        path = self._metadata_path(interface, group, version)
        try:
            applications = await self._client.children(path)
        except NoNode:
            return ()
        for application in sorted(applications):
            with suppress(NoNode, ProtocolError):
                return decode_methods(await self._client.data(f"{path}/{application}"), interface)
        return ()

    async def publish(
        self,
        interface: str,
        methods: Sequence[Method],
        *,
        group: str = "",
        version: str = "",
        application: str = "",
    ) -> bool:
        """See Registry: where Java's providers put it, and to stay, as theirs do."""
        self._check_open()
        check_interface(interface)
        said = {"interface": interface, "application": application, "side": "provider"}
        said |= {"group": group} if group else {}
        said |= {"version": version} if version else {}
        path = f"{self._metadata_path(interface, group, version)}/{encode(application)}"
        self._published[path] = encode_methods(interface, methods, said)
        self._to_publish.add(path)
        self._start("registrar", self._register_all)
        self._registrar_wake.set()
        return True

    def _metadata_path(self, interface: str, group: str, version: str) -> str:
        parts = [self._root, "metadata", encode(interface), version, group, "provider"]
        return "/".join(part for part in parts if part)

    async def _connected(self) -> None:
        """Wait a moment for the first connection; what is asked then says what is wrong."""
        until_s = self._loop.time() + self._settings.request_timeout_s
        while not self._client.connected and self._loop.time() < until_s:
            await asyncio.sleep(0.01)

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        watches = [watch for watch in self._watches if not watch.closed]
        folders = self._folders
        registered = sum(handle.standing for handle in self._handles.values())
        return RegistryStatistics(
            healthy=not self._closed
            and self._client.connected
            and (not watches or folders.synced)
            and registered == len(self._handles),
            watches=len(watches),
            endpoints=sum(watch.count for watch in watches),
            registrations=len(self._handles),
            registered=registered,
            malformed_entries=folders.malformed_entries,
            held_entries=folders.held_entries,
            lists_total=folders.lists_total,
            watch_starts_total=folders.watch_starts_total,
            repairs_total=folders.repairs_total,
            errors_total=self._client.errors_total,
            leases_lost_total=self._client.sessions_lost_total,
        )

    async def close(self) -> None:
        """See Registry."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for watch in self._watches:
            await watch.close()
        # With the session go its nodes.
        await self._client.close()
        for handle in self._handles.values():
            handle.standing = False
        self._handles.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryError(f"{self.location} is closed")

    # What the client tells.

    def _on_connected(self, new_session: bool) -> None:
        if new_session:
            for handle in self._handles.values():
                handle.standing = False
            # ZooKeeper may have lost its data in the meantime.
            self._to_publish.update(self._published)
        self._folders.connected()
        self._registrar_wake.set()

    def _on_lost(self) -> None:
        self._folders.lost()

    # The tasks.

    def _start(self, name: str, task: Callable[[], Awaitable[None]]) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._loop.create_task(
                self._for_ever(task), name=f"zookeeper {name}"
            )

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat ``step``, which waits for something to do and does it."""
        failures = 0
        while True:
            try:
                await step()
                failures = 0
                continue
            except RegistryError as error:
                failures += 1
                if failures == 1 and self._client.connected:
                    log.warning("ZooKeeper: trying again: %s", error)
            except Exception as error:
                failures += 1
                log_fault(log, error, "ZooKeeper: a task failed; starting it again")
            await asyncio.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        settings = self._settings
        longest: float = min(
            settings.backoff_max_s, settings.backoff_min_s * 2 ** min(failures, 10)
        )
        return longest * self._rng.uniform(0.5, 1.0)

    async def _follow(self) -> None:
        """Read what has changed, tell the watches, and wait for the next change."""
        folders = self._folders
        if self._client.connected:
            await folders.read()
        for watch in self._watches:
            await watch.refresh()
        await folders.wait(self._settings.reconcile_s * self._rng.uniform(0.8, 1.0))

    async def _register_all(self) -> None:
        """Make what does not stand, delete what is not to, and wait for the next reason to look."""
        self._registrar_wake.clear()
        if self._client.connected:
            failure = None
            for handle in list(self._handles.values()):
                if not handle.withdrawn:
                    try:
                        await self._stand(handle)
                    except RegistryError as error:
                        # One that is refused does not keep the others from their places.
                        failure = error
            for path in list(self._to_delete):
                try:
                    await self._delete(path)
                except RegistryError as error:
                    failure = error
            await self._publish_all()
            if failure is not None:
                raise failure
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.check_s * self._rng.uniform(0.8, 1.0)):
                await self._registrar_wake.wait()

    async def _publish_all(self) -> None:
        """Put what is not there yet; what cannot be put is tried again with the next look."""
        for path in list(self._to_publish):
            try:
                await self._client.put(path, self._published[path])
            except RegistryError as error:
                log.warning("%s cannot be published: %s", path, error)
                return
            self._to_publish.discard(path)

    async def _stand(self, handle: ZookeeperHandle) -> None:
        """Have the node stand under this session."""
        while True:
            owner = await self._client.exists(
                handle.path, None if handle.standing else self._registrar_wake.set
            )
            if handle.withdrawn:
                return
            if owner == self._client.session_id:
                handle.standing = True
                handle.first.set()
                return
            handle.standing = False
            if owner is not None:
                # Left by an earlier session, and about to vanish with it.
                with suppress(NoNode):
                    await self._client.delete(handle.path)
            with suppress(NodeExists):
                await self._client.create(handle.path, ephemeral=True)
            if handle.withdrawn:
                # In the meantime.
                self._to_delete.add(handle.path)
                self._registrar_wake.set()
                return

    async def _delete(self, path: str) -> None:
        with suppress(NoNode):
            await self._client.delete(path)
        self._to_delete.discard(path)

    async def withdraw(self, handle: ZookeeperHandle, timeout_s: float) -> bool:
        """Delete a registration's node. See Handle.unregister."""
        if handle.withdrawn:
            return not handle.standing
        handle.withdrawn = True
        self._handles.pop(handle.path, None)
        # Also when whoever withdraws it waits no longer.
        self._to_delete.add(handle.path)
        self._registrar_wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._delete(handle.path)
        except (RegistryError, TimeoutError):
            # As soon as ZooKeeper is back, or with the session.
            log.warning(
                "%s at %s stays registered until ZooKeeper is back: %s",
                handle.registration.interface,
                handle.registration.address,
                self.reason,
            )
            return False
        handle.standing = False
        return True


def _place(registration: Registration) -> tuple[str, ...]:
    """Of registrations of the same place the latest counts."""
    return (
        registration.interface,
        registration.address,
        registration.protocol,
        registration.group,
        registration.version,
    )
