"""What a registry is: who serves which interface, told as registrations and watched as snapshots.

The agents and ``dragoman.cluster`` call these interfaces; ``etcd``, ``static`` and ``memory``
implement them, and ``tests/registry`` holds every implementation to the same conduct. The
invariant: a watcher always has the last complete list that was known, and no failure of the
registry takes it away.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dragoman.errors import RegistryError, UsageError
from dragoman.observe.faults import log_fault
from dragoman.registry.changes import OnChanges, Snapshots
from dragoman.registry.methods import Method
from dragoman.registry.names import EVERY
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

OnChange = Callable[[list[Registration]], None]


class RegistryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A registry's state and counters since it was opened; counters never fall.

    ``healthy``: the last exchange with the registry succeeded. ``malformed_entries``: set aside
    now. ``held_entries``: gone from the registry without goodbye, still served for a grace period.
    """

    healthy: bool = True
    watches: int = 0
    endpoints: int = 0
    registrations: int = 0
    registered: int = 0
    malformed_entries: int = 0
    held_entries: int = 0
    lists_total: int = 0
    watch_starts_total: int = 0
    compactions_total: int = 0
    repairs_total: int = 0
    errors_total: int = 0
    leases_lost_total: int = 0
    conflicts_total: int = 0


class Handle(ABC):
    """A registration that stands until it is withdrawn, and is made again whenever it is lost."""

    registration: Registration

    @property
    @abstractmethod
    def registered(self) -> bool:
        """Whether, as far as is known, the registry holds it now."""

    @abstractmethod
    async def ready(self, timeout_s: float | None = None) -> None:
        """Return once it stands. Raises RegistryError with the reason after ``timeout_s``."""

    @abstractmethod
    async def unregister(self, timeout_s: float = 3.0) -> bool:
        """Withdraw it; True when the registry confirmed, False when that must wait for the lease.

        Never raises for an unreachable registry, and may be called twice.
        """


class Watch(ABC):
    """The endpoints of one interface, kept up to date."""

    def __init__(self, interface: str, on_change: OnChange | None) -> None:
        self.interface = interface
        self._on_change = on_change
        self._current: list[Registration] | None = None
        self._first = asyncio.Event()

    @property
    def current(self) -> list[Registration]:
        """A copy of the last snapshot, sorted; empty before the first."""
        return list(self._current or ())

    @property
    def count(self) -> int:
        """How many endpoints are listed now."""
        return len(self._current or ())

    @property
    def has_snapshot(self) -> bool:
        """Whether a first snapshot has arrived, though it may be empty."""
        return self._current is not None

    @property
    def why_unread(self) -> str:
        """Why there is no snapshot yet, in a line."""
        return f"the registry has not been read yet: {self._reason() or 'it has not answered'}"

    async def ready(self, timeout_s: float | None = None) -> None:
        """Return once the first snapshot has arrived; RegistryError with the reason after the
        timeout.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._first.wait()
        except TimeoutError:
            raise RegistryError(
                f"no list of {self.interface} within {timeout_s:g} s: {self._reason()}"
            ) from None

    @abstractmethod
    async def close(self) -> None:
        """Stop watching; ``on_change`` is not called any more. May be called twice."""

    def _reason(self) -> str:
        """Why there is no snapshot yet, for the message of ``ready``."""
        return "the registry has not answered"

    def _publish(self, registrations: list[Registration]) -> None:
        """Take over a snapshot and tell the watcher when it differs from the last."""
        snapshot = sorted(registrations)
        if self._current is not None and snapshot == self._current:
            return
        self._current = snapshot
        self._first.set()
        if self._on_change is not None:
            try:
                self._on_change(list(snapshot))
            except Exception as error:
                log_fault(log, error, "a watcher of %s failed on a snapshot", self.interface)


class _EntryWatch(Watch):
    """A watch whose lists are told entry by entry; at its close what is not told yet is dropped."""

    def __init__(self, watch: Watch, changes: Snapshots) -> None:
        super().__init__(watch.interface, None)
        self._watch = watch
        self._changes = changes

    @property
    def current(self) -> list[Registration]:
        return self._watch.current

    @property
    def count(self) -> int:
        return self._watch.count

    @property
    def has_snapshot(self) -> bool:
        return self._watch.has_snapshot

    @property
    def why_unread(self) -> str:
        return self._watch.why_unread

    async def ready(self, timeout_s: float | None = None) -> None:
        await self._watch.ready(timeout_s)

    async def close(self) -> None:
        self._changes.close()
        await self._watch.close()


class Registry(ABC):
    """Who serves what. To be used on the loop it was opened on.

    ``location`` tells where it is without user or password, for logs and messages.
    """

    location: str

    @abstractmethod
    async def register(self, registration: Registration) -> Handle:
        """Have ``registration`` stand from now on; returns at once, ``Handle.ready`` waits."""

    @abstractmethod
    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """Follow the endpoints of ``interface``, or of all interfaces when it is ``EVERY``.

        ``on_change`` is called on the loop with each new snapshot, sorted: the first one as soon as
        it is known (perhaps before this returns), even when it is empty, and then whenever it
        differs from the last. It must not block; what it raises is logged and does not end the
        watch.
        """

    def watch_services(
        self, on_changes: OnChanges, on_complete: Callable[[], None] | None = None
    ) -> Watch:
        """Follow all interfaces, entry by entry: ``on_changes`` is called on the loop with some
        changes a tick, so that a registry of any size and its changes hold nobody up.
        ``on_complete`` is called when all that has changed has been told, the first time once all
        is known.
        """
        changes = Snapshots(asyncio.get_running_loop(), on_changes, on_complete)
        return _EntryWatch(self.watch(EVERY, changes.take), changes)

    @abstractmethod
    async def services(self) -> dict[str, list[Registration]]:
        """Every interface with its endpoints, sorted. Raises RegistryError."""

    async def metadata(
        self, interface: str, *, group: str = "", version: str = ""
    ) -> tuple[Method, ...]:
        """The methods of ``interface`` where its providers publish them, else nothing.

        What is found is kept for a while, so asking before every call is cheap. Raises
        RegistryError when the registry does not answer.
        """
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
        """Tell callers the types of a service's methods, which ``metadata`` gives them; returns at
        once, and is done in the background. False where a registry has no place for it.
        """
        return False

    @abstractmethod
    def statistics(self) -> RegistryStatistics:
        """A frozen picture of its state and counters."""

    @property
    def healthy(self) -> bool:
        """Whether the last exchange with the registry succeeded."""
        return self.statistics().healthy

    @abstractmethod
    async def close(self) -> None:
        """Withdraw all registrations, end all watches, leave nothing open. May be called twice."""


def check_registry(name: str, registry: Any) -> None:
    """Raise UsageError, which names the option, for what is neither a URL nor a Registry. It is
    not shown: it may hold a password."""
    if not isinstance(registry, str | Registry):
        kind = type(registry).__name__
        raise UsageError(f"{name}: expected a URL or an open Registry, not {kind}")
