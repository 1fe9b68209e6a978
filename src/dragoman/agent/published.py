"""The types of methods whose providers publish them, for JSON calls that name none.

``agent.consumer`` tells it which services are listed, ``agent.contract`` asks it on a call's path.
The invariant: a call never waits for the registry. Until it has answered, and where nothing is
published, callers get None, and their types are guessed from the values.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from dragoman.dubbo.native import PROTOCOL
from dragoman.errors import DragomanError
from dragoman.registry.base import Method, Registration, Registry, types_of

logger = logging.getLogger("dragoman.agent")

# What is known is asked for again when it is used and older than this.
KEEP_S: Final = 60.0
# The same where nothing was published: it may have been too early.
MISSED_S: Final = 10.0
# Services that wait to be asked for; more come when they are used.
WAITING_MAX: Final = 10_000

Key = tuple[str, str, str]


class PublishedTypes:
    """Signatures by service (interface, group, version), read from ``registry`` in the background,
    one at a time. Belongs to its loop; ``close`` it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: Registry) -> None:
        self._loop = loop
        self._registry = registry
        self._known: dict[Key, tuple[float, tuple[Method, ...]]] = {}
        self._waiting: dict[Key, None] = {}
        self._listed: set[Key] = set()
        self._wake = asyncio.Event()
        # Registries without metadata are never asked.
        self._task: asyncio.Task[None] | None = None
        if type(registry).metadata is not Registry.metadata:
            self._task = loop.create_task(self._read())

    def update(self, registrations: Iterable[Registration]) -> None:
        """The registry's current list: what is new and has no agent is asked for."""
        if self._task is None:
            return
        listed = {
            (each.interface, each.group, each.version)
            for each in registrations
            if each.protocol == PROTOCOL
        }
        for key in listed - self._listed:
            self._ask(key)
        for key in self._listed - listed:
            self._known.pop(key, None)
        self._listed = listed

    def types(
        self, interface: str, group: str, version: str, method: str, count: int
    ) -> list[str] | None:
        """The types of the one method of this name with ``count`` parameters, if that is known."""
        key = (interface, group, version)
        known = self._known.get(key)
        if known is None:
            return None
        if self._loop.time() > known[0]:
            self._ask(key)
        return types_of(known[1], method, count)

    def _ask(self, key: Key) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting[key] = None
            self._wake.set()

    async def _read(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                interface, group, version = key
                methods: tuple[Method, ...] | None = None
                try:
                    methods = await self._registry.metadata(interface, group=group, version=version)
                except DragomanError:
                    pass
                except Exception:
                    # One service must not be the end of asking for the others.
                    logger.exception("%s: its published types cannot be read", interface)
                del self._waiting[key]
                if key not in self._listed:
                    continue
                if methods is None:
                    # The registry is away: what was known stands.
                    methods = self._known.get(key, (0.0, ()))[1]
                keep_s = KEEP_S if methods else MISSED_S
                self._known[key] = (self._loop.time() + keep_s, methods)

    async def close(self) -> None:
        """Ask for nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
