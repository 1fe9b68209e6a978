"""A registry in this process's memory, for tests and for meshes in one process.

Every ``MemoryRegistry`` of one name shares its entries. The invariant: all watchers of a name see a
change before ``register`` or ``unregister`` returns.
"""

from __future__ import annotations

from typing import ClassVar

from dragoman.errors import RegistryError
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import Registration


class _Space:
    """The entries and watchers of one name."""

    def __init__(self) -> None:
        # interface -> address -> (registration, its owner)
        self.entries: dict[str, dict[str, tuple[Registration, object]]] = {}
        self.watches: list[_MemoryWatch] = []

    def snapshot(self, interface: str) -> list[Registration]:
        names = list(self.entries) if interface == EVERY else [interface]
        return [
            registration
            for name in names
            for registration, _ in self.entries.get(name, {}).values()
        ]

    def tell(self, interface: str) -> None:
        for watch in list(self.watches):
            if watch.interface in (EVERY, interface):
                watch.refresh()


class MemoryRegistry(Registry):
    """Entries shared by every registry of the same ``name`` in this process."""

    _spaces: ClassVar[dict[str, _Space]] = {}

    def __init__(self, name: str) -> None:
        self.location = f"memory://{name}"
        self._space = self._spaces.setdefault(name, _Space())
        self._handles: list[_MemoryHandle] = []
        self._watches: list[_MemoryWatch] = []
        self._closed = False

    @classmethod
    def forget(cls, name: str) -> None:
        """Drop all entries of ``name``; open registries keep the old ones to themselves."""
        cls._spaces.pop(name, None)

    async def register(self, registration: Registration) -> Handle:
        """See Registry. It stands on return."""
        self._check_open()
        handle = _MemoryHandle(self._space, registration)
        self._handles.append(handle)
        return handle

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry. The first snapshot arrives before this returns."""
        self._check_open()
        check_interface(interface)
        watch = _MemoryWatch(self._space, interface, on_change)
        self._watches.append(watch)
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry."""
        self._check_open()
        entries = self._space.entries
        return {name: sorted(self._space.snapshot(name)) for name in sorted(entries)}

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        registered = sum(handle.registered for handle in self._handles)
        return RegistryStatistics(
            healthy=not self._closed,
            watches=len(self._watches),
            endpoints=sum(len(watch.current) for watch in self._watches),
            registrations=registered,
            registered=registered,
        )

    async def close(self) -> None:
        """See Registry."""
        self._closed = True
        for handle in self._handles:
            await handle.unregister()
        for watch in self._watches:
            await watch.close()
        self._handles.clear()
        self._watches.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryError(f"{self.location} is closed")


class _MemoryHandle(Handle):
    def __init__(self, space: _Space, registration: Registration) -> None:
        self.registration = registration
        self._space = space
        interface = registration.interface
        space.entries.setdefault(interface, {})[registration.address] = (registration, self)
        space.tell(interface)

    @property
    def registered(self) -> bool:
        entries = self._space.entries.get(self.registration.interface, {})
        found = entries.get(self.registration.address)
        return found is not None and found[1] is self

    async def ready(self, timeout_s: float | None = None) -> None:
        return

    async def unregister(self, timeout_s: float = 3.0) -> bool:
        # A successor may have taken the address over: its entry stays.
        if self.registered:
            interface = self.registration.interface
            del self._space.entries[interface][self.registration.address]
            if not self._space.entries[interface]:
                del self._space.entries[interface]
            self._space.tell(interface)
        return True


class _MemoryWatch(Watch):
    def __init__(self, space: _Space, interface: str, on_change: OnChange | None) -> None:
        super().__init__(interface, on_change)
        self._space = space
        space.watches.append(self)
        self.refresh()

    def refresh(self) -> None:
        self._publish(self._space.snapshot(self.interface))

    async def close(self) -> None:
        if self in self._space.watches:
            self._space.watches.remove(self)
