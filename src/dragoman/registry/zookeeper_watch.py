"""The folders of ZooKeeper that somebody wants to know about, mirrored, and the watches on them.

Used by ``zookeeper.ZookeeperRegistry``, whose follower calls ``Folders.read`` whenever something
has changed. A folder is a node whose children matter: the root (the interfaces), and the
``CATEGORIES`` of each interface. ZooKeeper's own watches fire once; each list sets a new one
together with reading, so that no change falls between.

Invariants: a folder is read again after every event, every reconnection and every half minute, so
a watch that was lost costs half a minute at most; no error changes what is held; what vanished in
an outage is served for ``grace_s`` after it, for a provider whose session ran out while ZooKeeper
was away registers again as soon as it is back. Otherwise what ZooKeeper takes off the list is gone
at once: providers withdraw in order, and the session of a dead one has run out.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_plus

from dragoman.errors import ProtocolError, RegistryError, UsageError
from dragoman.registry.base import OnChange, Watch
from dragoman.registry.changes import Snapshots
from dragoman.registry.dubbo_url import (
    Consumer,
    Override,
    ProviderEntry,
    in_order,
    overridden,
    read_override,
    read_provider,
    registered_url,
)
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.own_hosts import own_hosts
from dragoman.registry.registration import Registration
from dragoman.registry.zookeeper_client import NoNode, ZookeeperClient

log = logging.getLogger("dragoman.registry")

PROVIDERS: Final = ("providers", "dragoman")
CONFIGURATORS: Final = "configurators"
CATEGORIES: Final = (*PROVIDERS, CONFIGURATORS)
# Folders beside those of interfaces that Dubbo 3 keeps below its root.
NO_INTERFACES: Final = ("config", "mapping", "metadata")
READS_AT_ONCE: Final = 64
# Names that are decoded in one tick of the loop, and entries that are looked at: a millisecond.
NAMES_A_TICK: Final = 20
ENTRIES_A_TICK: Final = 500
# A configurator that changes nothing of what is looked at here.
NOTHING: Final = Override("", 0, "", "", {}, "", {}, applies=False)


def encode(text: str) -> str:
    """A name as Java's URLEncoder writes it."""
    return quote(text, safe="*-._").replace("~", "%7E")


class _Folder:
    """A node whose children are held: what each one's name says, and since when it is gone."""

    __slots__ = ("_wake", "dirty", "entries", "gone_at_s", "interface", "listed", "path")

    def __init__(self, interface: str, path: str, wake: asyncio.Event) -> None:
        self._wake = wake
        self.interface = interface
        self.path = path
        self.entries: dict[str, ProviderEntry | Override | None] = {}
        self.gone_at_s: dict[str, float] = {}
        self.listed = False
        self.dirty = True

    def changed(self) -> None:
        """Something has happened to it."""
        self.dirty = True
        self._wake.set()


class Folders:
    """See this module's description. ``want`` says what is to be held."""

    def __init__(
        self,
        client: ZookeeperClient,
        root: str,
        grace_s: float,
        *,
        application: str = "",
        watching: bool = True,
    ) -> None:
        self._client = client
        self._application = application
        self._changed: dict[str, Changed] = {}
        self._path = root
        self._grace_s = grace_s
        self._watching = watching
        self._loop = asyncio.get_running_loop()
        self._root: _Folder | None = None
        self._interfaces: dict[str, dict[str, _Folder]] = {}
        self._wake = asyncio.Event()
        self._served_until_s = -math.inf
        self._was_lost = False
        self._any_gone = False
        # Interfaces of which something has changed since they were last asked for.
        self._touched: dict[str, None] = {}
        # One folder's names are decoded at a time.
        self._decoding = asyncio.Lock()
        self._decoded = 0
        self.lists_total = 0
        self.watch_starts_total = 0
        self.repairs_total = 0

    def want(self, interface: str) -> None:
        """From now on hold what there is of ``interface``, or of all when it is EVERY."""
        if interface == EVERY:
            if self._root is None:
                self._root = _Folder("", self._path, self._wake)
        elif interface not in self._interfaces:
            self._interfaces[interface] = {
                category: _Folder(
                    interface, f"{self._path}/{encode(interface)}/{category}", self._wake
                )
                for category in CATEGORIES
            }
        self._wake.set()

    def _all(self) -> list[_Folder]:
        found = [folder for each in self._interfaces.values() for folder in each.values()]
        return found if self._root is None else [self._root, *found]

    @property
    def synced(self) -> bool:
        """Whether nothing is known to have changed since it was read."""
        return all(folder.listed and not folder.dirty for folder in self._all())

    @property
    def malformed_entries(self) -> int:
        """Names that are no provider's or configurator's URL."""
        return sum(
            entry is None
            for folder in self._all()
            if folder is not self._root
            for entry in folder.entries.values()
        )

    @property
    def held_entries(self) -> int:
        """Entries that vanished in an outage and are served for the grace period."""
        return sum(len(folder.gone_at_s) for folder in self._all())

    def connected(self) -> None:
        """ZooKeeper answers: everything is to be read anew."""
        if self._was_lost:
            self._was_lost = False
            self._served_until_s = self._loop.time() + self._grace_s
        self._read_all_again()

    def lost(self) -> None:
        """The connection is gone; what fires now says nothing."""
        self._was_lost = True

    def _read_all_again(self) -> None:
        for folder in self._all():
            folder.dirty = True
        self._wake.set()

    async def wait(self, reconcile_s: float) -> None:
        """Return when there is something to read: a change, or all after ``reconcile_s``."""
        until_s = self._loop.time() + reconcile_s
        due_s = min(until_s, self._grace_ends_s())
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due_s):
                await self._wake.wait()
        self._wake.clear()
        if self._loop.time() >= due_s:
            self._read_all_again()
            self._wake.clear()

    def _grace_ends_s(self) -> float:
        if self._any_gone:
            self._any_gone = self.held_entries > 0
        return self._served_until_s if self._any_gone else math.inf

    async def read(self) -> None:
        """Read every folder that may have changed, until none may. Raises RegistryError."""
        while dirty := [folder for folder in self._all() if folder.dirty]:
            for first in range(0, len(dirty), READS_AT_ONCE):
                some = dirty[first : first + READS_AT_ONCE]
                results = await asyncio.gather(
                    *(self._read(folder) for folder in some), return_exceptions=True
                )
                for result in results:
                    if isinstance(result, BaseException):
                        raise result

    async def _read(self, folder: _Folder) -> None:
        folder.dirty = False
        on_change = folder.changed if self._watching else None
        names: Iterable[str]
        try:
            try:
                names = await self._client.children(folder.path, on_change)
            except NoNode:
                names = ()
                if on_change and await self._client.exists(folder.path, on_change) is not None:
                    # It was made in between.
                    folder.dirty = True
                    return
        except RegistryError:
            folder.dirty = True
            raise
        self.lists_total += 1
        self.watch_starts_total += self._watching
        folder.listed = True
        if folder is self._root:
            self._take_interfaces(names)
        else:
            async with self._decoding:
                await self._take_names(folder, set(names))

    def _take_interfaces(self, names: Iterable[str]) -> None:
        for name in names:
            interface = unquote_plus(name)
            if interface in NO_INTERFACES or interface == EVERY:
                continue
            try:
                check_interface(interface)
            except UsageError:
                continue
            self.want(interface)

    async def _take_names(self, folder: _Folder, names: set[str]) -> None:
        now_s = self._loop.time()
        for name in list(folder.entries):
            if name in names:
                folder.gone_at_s.pop(name, None)
            elif now_s < self._served_until_s:
                folder.gone_at_s.setdefault(name, now_s)
                self._any_gone = True
            else:
                self._touched[folder.interface] = None
                del folder.entries[name]
                folder.gone_at_s.pop(name, None)
        for name in names - folder.entries.keys():
            self._touched[folder.interface] = None
            folder.entries[name] = _decoded(folder, name)
            self._decoded += 1
            if self._decoded % NAMES_A_TICK == 0:
                await asyncio.sleep(0)

    def touched(self) -> list[str]:
        """The interfaces of which something has changed since this was last asked."""
        names = list(self._touched)
        self._touched.clear()
        return names

    def known(self, interface: str) -> bool:
        """Whether a first list of ``interface`` (or of all) is there."""
        if interface == EVERY:
            return self._root is not None and all(folder.listed for folder in self._all())
        return all(folder.listed for folder in self._interfaces[interface].values())

    def snapshot(self, interface: str) -> list[Registration]:
        """The endpoints of ``interface``, or of all."""
        found: list[Registration] = []
        for name in list(self._interfaces) if interface == EVERY else [interface]:
            for _ in self.steps_of(name, found):
                pass
        return found

    def steps_of(self, interface: str, found: list[Registration]) -> Iterator[None]:
        """Add the endpoints of one interface to ``found``; ends a tick's work wherever it yields,
        before ``read`` is called again.
        """
        folders = self._interfaces[interface]
        configurators = folders[CONFIGURATORS]
        overrides = in_order(
            entry
            for _, entry in sorted(configurators.entries.items())
            if isinstance(entry, Override) and entry.applies
        )
        latest: dict[tuple[str, ...], tuple[str, ProviderEntry]] = {}
        for category in PROVIDERS:
            for number, (name, entry) in enumerate(folders[category].entries.items(), 1):
                if number % ENTRIES_A_TICK == 0:
                    yield
                if not isinstance(entry, ProviderEntry):
                    continue
                one = entry.registration
                place = (one.address, one.protocol, one.group, one.version)
                other = latest.get(place)
                if other is None or other[1].timestamp_ms < entry.timestamp_ms:
                    latest[place] = name, entry
        if overrides:
            changes = self._changed.get(configurators.interface)
            if changes is None or changes.overrides != overrides:
                changes = Changed(overrides, Consumer(self._application, own_hosts()), {})
            # What is gone need not be kept.
            kept = {}
            for number, (name, entry) in enumerate(latest.values(), 1):
                kept[name] = changes.provider(name, entry)
                if number % NAMES_A_TICK == 0:
                    yield
            self._changed[configurators.interface] = changes._replace(providers=kept)
            providers: Iterable[ProviderEntry] = kept.values()
        else:
            self._changed.pop(configurators.interface, None)
            providers = [entry for _, entry in latest.values()]
        found += [each.registration for each in providers if not each.disabled]


class Changed(NamedTuple):
    """The providers of an interface as overrides change them, by the names of their nodes. Kept,
    since the URL of a provider is read once more for it.
    """

    overrides: list[Override]
    consumer: Consumer
    providers: dict[str, ProviderEntry]

    def provider(self, name: str, entry: ProviderEntry) -> ProviderEntry:
        """``entry``, which stands under ``name``, changed."""
        known = self.providers.get(name)
        if known is not None:
            return known
        url = registered_url(unquote_plus(name))
        return overridden(entry, self.overrides, self.consumer, url)


def _decoded(folder: _Folder, name: str) -> ProviderEntry | Override | None:
    try:
        url = unquote_plus(name, errors="strict")
        if folder.path.endswith(f"/{CONFIGURATORS}"):
            return read_override(url) or NOTHING
        return read_provider(url, folder.interface)
    except UnicodeError:
        log.warning("set aside: an entry of %s: expected UTF-8", folder.interface)
    except ProtocolError as error:
        log.warning("set aside: an entry of %s: %s", folder.interface, error)
    return None


class ZookeeperWatch(Watch):
    """See Watch and this module's description."""

    def __init__(
        self,
        folders: Folders,
        interface: str,
        on_change: OnChange | None,
        reason: Callable[[], str],
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__(interface, on_change)
        self._folders = folders
        self._why = reason
        self._snapshots = snapshots
        self._whole = False
        self._looked = 0
        self.closed = False
        folders.want(interface)

    @property
    def count(self) -> int:
        """See Watch."""
        return super().count if self._snapshots is None else len(self._snapshots)

    @property
    def has_snapshot(self) -> bool:
        """See Watch."""
        return super().has_snapshot if self._snapshots is None else self._whole

    async def refresh(self) -> None:
        """The folders may have changed. With ``snapshots`` some of that is looked at a tick."""
        if self.closed or not self._folders.known(self.interface):
            return
        if self._snapshots is None:
            self._publish(self._folders.snapshot(self.interface))
            return
        for interface in self._folders.touched():
            found: list[Registration] = []
            for _ in self._folders.steps_of(interface, found):
                await asyncio.sleep(self._snapshots.pause_s)
            for _ in self._snapshots.steps_of(interface, found):
                await asyncio.sleep(self._snapshots.pause_s)
            self._looked += 1 + len(found)
            if self._looked >= ENTRIES_A_TICK // 2:
                self._looked = 0
                await asyncio.sleep(self._snapshots.pause_s)
        self._whole = True
        self._first.set()
        self._snapshots.complete()

    async def close(self) -> None:
        """See Watch."""
        self.closed = True
        if self._snapshots is not None:
            self._snapshots.close()

    def _reason(self) -> str:
        return self._why()
