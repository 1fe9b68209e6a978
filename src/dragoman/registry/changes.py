"""What has changed, told entry by entry, some of them a tick of the loop.

A registry may list a hundred thousand endpoints, of as many interfaces or of one, and change them
all at once: whoever follows it is told as much of that in a tick as leaves the loop free for calls.
Used by the watches behind ``Registry.watch_services``. The invariant: of each entry that was marked
is told what was told of it before and what it says at that time; ``on_complete`` follows when
nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from dragoman.observe.faults import log_fault
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

# An entry as it was told last, and as it is now; None where there is none.
Change = tuple[Registration | None, Registration | None]
OnChanges = Callable[[list[Change]], None]

# Entries that are told of in one go: about a millisecond.
ENTRIES_A_TICK = 20
# And between two of these, once all was known: a fifth of the loop's time at most.
PAUSE_S = 0.004
# Entries that are looked at in one go.
LOOKS_A_TICK = 500


class Changes:
    """Entries that have changed; ``of`` says what one of them says now."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        of: Callable[[Any], Registration | None],
        on_changes: OnChanges,
        on_complete: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._of = of
        self._on_changes = on_changes
        self._on_complete = on_complete
        self._marked: OrderedDict[Hashable, Registration | None] = OrderedDict()
        self._handle: asyncio.Handle | None = None
        self._whole = False
        self._closed = False
        self.told_all = False

    def mark(self, key: Hashable, before: Registration | None) -> None:
        """The entry no longer is what it was ``before``."""
        if self._closed:
            return
        self._marked.setdefault(key, before)
        if self._handle is None:
            self._handle = self._loop.call_soon(self._tell)

    def complete(self) -> None:
        """All that is listed has been marked by now."""
        self._whole = True
        if not self._closed and not self._marked and not self.told_all:
            self._end()

    def close(self) -> None:
        """Tell no more."""
        self._closed = True
        self._marked.clear()
        if self._handle is not None:
            self._handle.cancel()

    def _tell(self) -> None:
        self._handle = None
        changes: list[Change] = []
        for number in range(ENTRIES_A_TICK):
            if not self._marked:
                break
            # Half of them are the latest: one that matters does not wait for thousands.
            key, before = self._marked.popitem(last=number % 2 == 1)
            now = self._of(key)
            if now is not before:
                changes.append((before, now))
        if changes:
            try:
                self._on_changes(changes)
            except Exception as error:
                log_fault(log, error, "a watcher failed on changes of %d entries", len(changes))
        if self._marked:
            if self.told_all:
                self._handle = self._loop.call_later(PAUSE_S, self._tell)
            else:
                self._handle = self._loop.call_soon(self._tell)
        elif self._whole:
            self._end()

    def _end(self) -> None:
        self.told_all = True
        if self._on_complete is not None:
            self._on_complete()


Place = tuple[str, str, str, str]
Lists = dict[str, dict[Place, Registration]]


class Snapshots:
    """The same for registries that give whole lists, of all interfaces (``take``) or of one
    (``steps_of``)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_changes: OnChanges,
        on_complete: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._lists: Lists = {}
        self._changes = Changes(loop, self._of, on_changes, on_complete)
        self._steps: Iterator[None] | None = None
        self._next: Iterable[Registration] | None = None

    def __len__(self) -> int:
        """How many endpoints are listed."""
        return sum(map(len, self._lists.values()))

    def _of(self, key: tuple[str, Place]) -> Registration | None:
        interface, place = key
        return self._lists.get(interface, {}).get(place)

    def take(self, registrations: Iterable[Registration]) -> None:
        """The registry's current list: what differs is told in the next ticks. Of lists that come
        while one is looked at only the last matters."""
        self._next = registrations
        if self._steps is None:
            self._look()

    def _look(self) -> None:
        """Look at some more of the lists."""
        while self._steps is not None or self._next is not None:
            if self._steps is None:
                taken, self._next = self._next or (), None
                self._steps = self._steps_of_all(taken)
            for _ in self._steps:
                self._loop.call_later(self.pause_s, self._look)
                return
            self._steps = None
            self._changes.complete()

    def _steps_of_all(self, registrations: Iterable[Registration]) -> Iterator[None]:
        lists: dict[str, list[Registration]] = {}
        for number, each in enumerate(registrations, 1):
            lists.setdefault(each.interface, []).append(each)
            if number % LOOKS_A_TICK == 0:
                yield
        gone = [interface for interface in self._lists if interface not in lists]
        count = 0
        for interface in (*lists, *gone):
            listed = lists.get(interface, [])
            yield from self.steps_of(interface, listed)
            count += 1 + len(listed)
            if count >= LOOKS_A_TICK:
                count = 0
                yield

    def steps_of(self, interface: str, registrations: list[Registration]) -> Iterator[None]:
        """Take over what is listed of one interface now; ends a tick's work wherever it yields."""
        listed: dict[Place, Registration] = {}
        before = self._lists.get(interface, {})
        for number, each in enumerate(registrations, 1):
            place = each.address, each.protocol, each.group, each.version
            was = before.get(place)
            # What was told stays what it was: the same object.
            listed[place] = was if was is not None and was == each else each
            if number % LOOKS_A_TICK == 0:
                yield
        self._lists.pop(interface, None)
        if listed:
            self._lists[interface] = listed
        for number, (place, now) in enumerate(listed.items(), 1):
            was = before.get(place)
            if was is not now:
                self._changes.mark((interface, place), was)
            if number % LOOKS_A_TICK == 0:
                yield
        for number, (place, was) in enumerate(before.items(), 1):
            if place not in listed:
                self._changes.mark((interface, place), was)
            if number % LOOKS_A_TICK == 0:
                yield

    @property
    def pause_s(self) -> float:
        """Between two steps."""
        return PAUSE_S if self._changes.told_all else 0.0

    def complete(self) -> None:
        """All interfaces have been taken over."""
        self._changes.complete()

    def close(self) -> None:
        """Tell no more."""
        self._next = self._steps = None
        self._changes.close()
