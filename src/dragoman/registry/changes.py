"""What has changed, told interface by interface, some of them a turn of the loop.

A registry may list a hundred thousand endpoints, and change them all at once: whoever follows it is
told as much of that in a turn as leaves the loop free for calls. Used by the watches behind
``Registry.watch_services``. The invariant: each interface that was marked is told, with what is
listed of it at that time; ``on_complete`` follows when nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragoman.registry.base import OnService, Registration

logger = logging.getLogger("dragoman.registry")

# Interfaces, or endpoints if they have many, that are told of in one go: about a millisecond.
INTERFACES_A_TURN = 20
ENDPOINTS_A_TURN = 200
# And between two of these, once all was known: a fifth of the loop's time at most.
PAUSE_S = 0.004


class Changes:
    """Interfaces that have changed; ``of`` says what is listed of one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        of: Callable[[str], list[Registration]],
        on_service: OnService,
        on_complete: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._of = of
        self._on_service = on_service
        self._on_complete = on_complete
        self._marked: dict[str, None] = {}
        self._handle: asyncio.Handle | None = None
        self._whole = False
        self._told_all = False

    def mark(self, interface: str) -> None:
        """It is to be told."""
        self._marked[interface] = None
        if self._handle is None:
            self._handle = self._loop.call_soon(self._tell)

    def complete(self) -> None:
        """All that is listed has been marked by now."""
        self._whole = True
        if not self._marked and not self._told_all:
            self._end()

    def close(self) -> None:
        """Tell no more."""
        self._marked.clear()
        if self._handle is not None:
            self._handle.cancel()

    def _tell(self) -> None:
        self._handle = None
        left = ENDPOINTS_A_TURN
        for _ in range(INTERFACES_A_TURN):
            if not self._marked or left <= 0:
                break
            interface = next(iter(self._marked))
            del self._marked[interface]
            listed = sorted(self._of(interface))
            left -= len(listed)
            try:
                self._on_service(interface, listed)
            except Exception:
                logger.exception("a watcher failed on the list of %s", interface)
        if self._marked:
            if self._told_all:
                self._handle = self._loop.call_later(PAUSE_S, self._tell)
            else:
                self._handle = self._loop.call_soon(self._tell)
        elif self._whole:
            self._end()

    def _end(self) -> None:
        self._told_all = True
        if self._on_complete is not None:
            self._on_complete()


class Snapshots:
    """The same for registries that give whole lists: ``take`` one after the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_service: OnService,
        on_complete: Callable[[], None] | None,
    ) -> None:
        self._lists: dict[str, list[Registration]] = {}
        self._changes = Changes(loop, self._of, on_service, on_complete)

    def _of(self, interface: str) -> list[Registration]:
        return self._lists.get(interface, [])

    def take(self, registrations: list[Registration]) -> None:
        """The registry's current list."""
        lists: dict[str, Any] = {}
        for each in registrations:
            lists.setdefault(each.interface, []).append(each)
        before, self._lists = self._lists, lists
        for interface, listed in lists.items():
            if before.get(interface) != listed:
                self._changes.mark(interface)
        for interface in before.keys() - lists.keys():
            self._changes.mark(interface)
        self._changes.complete()
