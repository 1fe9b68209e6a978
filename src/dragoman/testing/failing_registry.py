"""A registry in memory that fails when a test says so.

Programs give a ``FailingRegistry`` wherever an open registry is taken: to ``cluster.serve`` and
``cluster.connect``, to ``dubbo.serve`` and ``dubbo.Client``. It does what ``registry.base`` says of
every registry, which tests hold it to beside the real ones, except for what a command has it do
otherwise. The invariant: no failure takes away the list that a watcher has, and ``come_back`` makes
everything as if nothing had failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from dragoman.errors import RegistryError, UsageError
from dragoman.observe.faults import log_fault
from dragoman.options import number, shown, text, whole
from dragoman.registry.base import Handle, OnChange, Registry, RegistryStatistics, Watch
from dragoman.registry.keeping import KeptHandle
from dragoman.registry.methods import Method
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

DELAY_S_MAX: Final = 86_400.0
REPEATS_MAX: Final = 1000
REFUSED: Final = "connection refused"
SILENT: Final = "it does not answer"


class _Entries:
    """What the registry holds, and all that are connected to it."""

    def __init__(self) -> None:
        # interface -> address -> who keeps it standing, and has its registration
        self.kept: dict[str, dict[str, KeptHandle]] = {}
        self.methods: dict[tuple[str, str, str], tuple[Method, ...]] = {}
        self.members: list[FailingRegistry] = []

    def holds(self, handle: KeptHandle) -> bool:
        registration = handle.registration
        return self.kept.get(registration.interface, {}).get(registration.address) is handle

    def put(self, handle: KeptHandle) -> KeptHandle | None:
        """Enter it; who had the place before."""
        registration = handle.registration
        places = self.kept.setdefault(registration.interface, {})
        before = places.get(registration.address)
        places[registration.address] = handle
        self.tell(registration.interface)
        return None if before is handle else before

    def remove(self, handle: KeptHandle) -> None:
        registration = handle.registration
        if self.holds(handle):
            places = self.kept[registration.interface]
            del places[registration.address]
            if not places:
                del self.kept[registration.interface]
            self.tell(registration.interface)

    def snapshot(self, interface: str) -> list[Registration]:
        names = list(self.kept) if interface == EVERY else [interface]
        return [each.registration for name in names for each in self.kept.get(name, {}).values()]

    def tell(self, interface: str) -> None:
        for member in list(self.members):
            member.hear(interface)


class FailingRegistry(Registry):
    """A registry of its own, empty; ``another()`` is one more way to it, which fails by itself.

    Its events may be made late or many at any time, for whatever happens from then on:

    - ``delay_s``: how long a change takes to its watchers, in seconds (0: at once);
    - ``repeats``: how many times more each is told.

    It belongs to the loop that it is used on, and is closed by who made it.
    """

    def __init__(self, name: str = "test") -> None:
        self.location = f"failing://{text('name', name, empty=False)}"
        self._entries = _Entries()
        self._entries.members.append(self)
        self._handles: list[KeptHandle] = []
        self._published: dict[tuple[str, str, str], tuple[Method, ...]] = {}
        self._watches: list[_Watch] = []
        self._away = ""
        self._hangs = False
        self._back = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._closed = False
        self._delay_s = 0.0
        self._repeats = 0

    def another(self) -> FailingRegistry:
        """One more registry with the same entries, as another process has it: what it is told to do
        concerns nobody else. To be closed as well."""
        self._check_open()
        other = FailingRegistry(self.location.partition("://")[2])
        other._entries = self._entries
        self._entries.members.append(other)
        return other

    # What a test says.

    @property
    def delay_s(self) -> float:
        """How long a change takes to its watchers."""
        return self._delay_s

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self._delay_s = number("delay_s", seconds, 0, DELAY_S_MAX)

    @property
    def repeats(self) -> int:
        """How many times more each change is told."""
        return self._repeats

    @repeats.setter
    def repeats(self, times: int) -> None:
        self._repeats = whole("repeats", times, 0, REPEATS_MAX)

    def refuse(self, why: str = REFUSED) -> None:
        """Fail at once whatever is asked from now on, as if nobody listened there: nothing is
        registered or withdrawn, and watchers hear of nothing. What stands stays."""
        self._check_open()
        self._away, self._hangs = text("why", why, empty=False), False
        self._back.set()

    def hang(self) -> None:
        """Answer nothing from now on: the same, but whoever asks waits."""
        self._check_open()
        if not self._hangs:
            self._back = asyncio.Event()
        self._away, self._hangs = SILENT, True

    def drop_watches(self) -> None:
        """Tell the watches that there are nothing more, as over a connection that died unnoticed.
        Everything else works, and so do watches that begin later."""
        self._check_open()
        for watch in self._watches:
            watch.drop()

    def lose_lease(self, *which: Registration | str, again_s: float | None = None) -> None:
        """Let run out the leases of what was registered here (``which``: registrations, or
        ``host:port``; without any: of all): the entries vanish, and their owners know it.

        They are put again after ``again_s`` seconds (None: when ``come_back`` is called). Raises
        UsageError for what does not stand.
        """
        self._check_open()
        if again_s is not None:
            number("again_s", again_s, 0, DELAY_S_MAX)
        for handle in self._chosen("lose_lease", which, self._handles):
            handle.standing = False
            self._counts["leases_lost_total"] += 1
            self._entries.remove(handle)
        if again_s is not None:
            asyncio.get_running_loop().call_later(again_s, self._keep)

    def forget(self, *which: Registration | str) -> None:
        """Lose entries, whoever registered them, as if somebody had deleted them: their owners
        believe that they stand, until ``come_back`` is called where they were registered.

        ``which`` is as for ``lose_lease``. Raises UsageError for what does not stand.
        """
        self._check_open()
        places = self._entries.kept.values()
        every = [handle for handles in places for handle in handles.values()]
        for handle in self._chosen("forget", which, every):
            self._entries.remove(handle)

    def come_back(self) -> None:
        """Work again: what was asked for while it was away is done, what vanished is put again, and
        watchers are told the whole list."""
        self._check_open()
        self._away, self._hangs = "", False
        self._back.set()
        self._keep()
        for watch in list(self._watches):
            watch.resume()

    # What every registry does.

    async def register(self, registration: Registration) -> Handle:
        """See Registry. It stands on return, unless the registry is away."""
        self._check_open()
        handle = KeptHandle(self, registration)
        self._handles.append(handle)
        if self._reached():
            self._put(handle)
        return handle

    async def withdraw(self, handle: KeptHandle, timeout_s: float) -> bool:
        """Take a registration back. See Handle.unregister."""
        handle.withdrawn = True
        if not self._reached():
            if self._hangs:
                try:
                    async with asyncio.timeout(timeout_s):
                        await self._back.wait()
                except TimeoutError:
                    pass
            if self._away:
                return False
        self._withdraw(handle)
        return True

    def watch(self, interface: str, on_change: OnChange | None = None) -> Watch:
        """See Registry. The first snapshot arrives before this returns, unless the registry is away
        or its events are late."""
        self._check_open()
        check_interface(interface)
        watch = _Watch(self, interface, on_change)
        self._watches.append(watch)
        self._counts["watch_starts_total"] += 1
        if self._reached():
            watch.resume()
        return watch

    async def services(self) -> dict[str, list[Registration]]:
        """See Registry."""
        await self._answered()
        kept = self._entries.kept
        return {name: sorted(self._entries.snapshot(name)) for name in sorted(kept)}

    async def metadata(
        self, interface: str, *, group: str = "", version: str = ""
    ) -> tuple[Method, ...]:
        """See Registry."""
        await self._answered()
        return self._entries.methods.get((interface, group, version), ())

    async def publish(
        self,
        interface: str,
        methods: Sequence[Method],
        *,
        group: str = "",
        version: str = "",
        application: str = "",
    ) -> bool:
        """See Registry. What is published while it is away is there when it is back."""
        self._check_open()
        self._published[interface, group, version] = tuple(methods)
        if self._reached():
            self._entries.methods |= self._published
        return True

    def statistics(self) -> RegistryStatistics:
        """See Registry."""
        wanted = [handle for handle in self._handles if not handle.withdrawn]
        standing = sum(handle.standing for handle in wanted)
        return RegistryStatistics(
            healthy=not (self._closed or self._away) and standing == len(wanted),
            watches=len(self._watches),
            endpoints=sum(watch.count for watch in self._watches),
            registrations=len(wanted),
            registered=standing,
            **self._counts,
        )

    @property
    def reason(self) -> str:
        """Why something does not stand, as far as is known."""
        return self._away or "it is not registered again yet"

    async def close(self) -> None:
        """See Registry. What cannot be withdrawn stays, for others to see."""
        if self._closed:
            return
        self._closed = True
        for handle in list(self._handles):
            handle.withdrawn = True
            if not self._away:
                self._withdraw(handle)
        for watch in list(self._watches):
            await watch.close()
        self._handles.clear()
        self._entries.members.remove(self)
        self._back.set()

    # Within.

    def hear(self, interface: str) -> None:
        """Something has changed of ``interface``."""
        if not self._away:
            for watch in list(self._watches):
                if watch.interface in (EVERY, interface):
                    watch.hear()

    def left(self, watch: _Watch) -> None:
        """Nobody watches there any more."""
        if watch in self._watches:
            self._watches.remove(watch)

    def listed(self, interface: str) -> list[Registration]:
        """What stands of ``interface``."""
        return self._entries.snapshot(interface)

    @property
    def away(self) -> str:
        """Why it cannot be reached, or nothing."""
        return self._away

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryError(f"{self.location} is closed")

    def _reached(self) -> bool:
        """Whether an exchange succeeds now; one that does not counts."""
        if self._away:
            self._counts["errors_total"] += 1
        return not self._away

    async def _answered(self) -> None:
        """One exchange; raises RegistryError."""
        self._check_open()
        if not self._reached() and self._hangs:
            while self._hangs and not self._closed:
                await self._back.wait()
            self._check_open()
        if self._away:
            raise RegistryError(f"{self.location}: {self._away}")

    def _put(self, handle: KeptHandle) -> None:
        before = self._entries.put(handle)
        if before is not None:
            # Its place is taken: it does not come back.
            before.standing, before.withdrawn = False, True
        handle.standing = True
        handle.first.set()

    def _withdraw(self, handle: KeptHandle) -> None:
        handle.standing = False
        self._entries.remove(handle)
        if handle in self._handles:
            self._handles.remove(handle)

    def _keep(self) -> None:
        """Have stand what is to stand, and nothing else of what was registered here."""
        if self._away or self._closed:
            return
        for handle in list(self._handles):
            if handle.withdrawn:
                self._withdraw(handle)
            elif not self._entries.holds(handle):
                self._put(handle)
        self._entries.methods |= self._published

    def _chosen(
        self, command: str, which: Sequence[Registration | str], among: Sequence[KeptHandle]
    ) -> list[KeptHandle]:
        """The entries that a command is about; raises UsageError for one that does not stand."""
        standing = [handle for handle in among if self._entries.holds(handle)]
        if not which:
            return standing
        found: list[KeptHandle] = []
        for each in which:
            if not isinstance(each, Registration | str):
                raise UsageError(
                    f"{command}: expected a Registration or host:port, not {shown(each)}"
                )
            some = [one for one in standing if each in (one.registration, one.registration.address)]
            if not some:
                known = ", ".join(sorted({one.registration.address for one in standing}))
                name = each if isinstance(each, str) else each.address
                raise UsageError(f"{command}: {name} does not stand, but {known or 'nothing'}")
            found += some
        return found


class _Watch(Watch):
    """A watch that hears of changes late, many times or not at all."""

    def __init__(
        self, registry: FailingRegistry, interface: str, on_change: OnChange | None
    ) -> None:
        super().__init__(interface, on_change)
        self._registry = registry
        self._dropped = False
        self._under_way: deque[tuple[list[Registration], int]] = deque()
        self._last_s = 0.0
        self._closed = False

    def resume(self) -> None:
        """The registry works: hear the whole list, and what changes from now on."""
        self._dropped = False
        self.hear()

    def drop(self) -> None:
        """Hear nothing more."""
        self._dropped = True

    def hear(self) -> None:
        """Something has changed: take the list over, once it has come."""
        if self._dropped or self._closed:
            return
        registry = self._registry
        told = registry.listed(self.interface), 1 + registry.repeats
        if not registry.delay_s and not self._under_way:
            self._tell(*told)
            return
        loop = asyncio.get_running_loop()
        self._last_s = max(self._last_s, loop.time() + registry.delay_s)
        # Timers of one time keep no order: whichever fires takes the next list.
        self._under_way.append(told)
        loop.call_at(self._last_s, self._arrived)

    def _arrived(self) -> None:
        told = self._under_way.popleft()
        if not (self._dropped or self._closed or self._registry.away):
            self._tell(*told)

    def _tell(self, registrations: list[Registration], times: int) -> None:
        before = self._current
        self._publish(registrations)
        if self._current is before or self._on_change is None:
            return
        for _ in range(times - 1):
            try:
                self._on_change(self.current)
            except Exception as error:
                log_fault(log, error, "a watcher of %s failed on a snapshot", self.interface)

    def _reason(self) -> str:
        return self._registry.away or super()._reason()

    async def close(self) -> None:
        """See Watch."""
        self._closed = True
        self._registry.left(self)
