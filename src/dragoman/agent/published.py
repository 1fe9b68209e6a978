"""The types of methods whose providers publish them, for JSON calls that name none.

``agent.consumer`` tells it which services are listed, ``agent.contract`` asks it on a call's path.
The invariants: a call never waits for the registry. Until it has answered, and where nothing is
published, callers get None, and their types are guessed from the values. What is not there yet is
asked for again, so that a provider may publish it at any time after it has registered.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from dragoman.dubbo.upstream.direct import PROTOCOL
from dragoman.errors import DragomanError
from dragoman.observe.faults import log_fault
from dragoman.registry.base import Registry
from dragoman.registry.changes import Change
from dragoman.registry.methods import Method, fields_of, types_of

log = logging.getLogger("dragoman.agent")

# What is known is asked for again when it is used and older than this.
KEEP_S: Final = 60.0
# Where nothing was published it may have been too early: it is asked for again when it is used and
# older than this, and unused after this time, twice it and so on, but at least so often.
MISSED_S: Final = 0.5
MISSED_MOST_S: Final = 30.0
# The pause between two questions that no call has caused: many services publish nothing, ever.
PACE_S: Final = 0.02
# Services that wait to be asked for; more come when they are used.
WAITING_MAX: Final = 10_000

Key = tuple[str, str, str]


class Signature(NamedTuple):
    """The types of a method as providers publish them."""

    types: list[str] | None
    fields: dict[str, dict[str, str]]

    def added_to(self, call: bytes, *, typed: bool) -> bytes:
        """A JSON call that has members, but no fields, with them, and with types unless ``typed``.
        Nothing else of it is read."""
        added: dict[str, Any] = {}
        if self.types is not None and not typed:
            added["types"] = self.types
        if self.fields:
            added["fields"] = self.fields
        if not added:
            return call
        end = call.rindex(b"}")
        return b"".join((call[:end], b",", msgspec.json.encode(added)[1:-1], call[end:]))


class PublishedTypes:
    """Signatures by service (interface, group, version), read from ``registry`` in the background,
    one at a time. Belongs to its loop; ``close`` it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: Registry) -> None:
        self._loop = loop
        self._registry = registry
        self._known: dict[Key, tuple[float, tuple[Method, ...]]] = {}
        self._waiting: dict[Key, None] = {}
        # How many providers without an agent each has.
        self._listed: Counter[Key] = Counter()
        # Of what was not there: when to ask again, and how long that was put off.
        self._later: list[tuple[float, Key]] = []
        self._later_keys: set[Key] = set()
        self._put_off_s: dict[Key, float] = {}
        self._wake = asyncio.Event()
        # Registries without metadata are never asked.
        self._task: asyncio.Task[None] | None = None
        if type(registry).metadata is not Registry.metadata:
            self._task = loop.create_task(self._read())

    def change(self, changes: Iterable[Change]) -> None:
        """The registry's list has changed: new entries without an agent are asked for."""
        if self._task is None:
            return
        counts: Counter[Key] = Counter()
        for before, now in changes:
            for each, one in ((before, -1), (now, 1)):
                if each is not None and each.protocol == PROTOCOL:
                    counts[each.interface, each.group, each.version] += one
        for key, count in counts.items():
            if not count:
                continue
            had = self._listed[key]
            self._listed[key] += count
            if not had and count > 0:
                self._ask(key)
            elif had and not self._listed[key]:
                del self._listed[key]
                self._known.pop(key, None)
                self._put_off_s.pop(key, None)

    def signature(
        self, interface: str, group: str, version: str, method: str, count: int
    ) -> Signature | None:
        """What is known of the methods of this name: the types of the one with ``count``
        parameters, if there is just one, and the fields that only their types explain."""
        key = (interface, group, version)
        known = self._known.get(key)
        if known is None:
            return None
        if self._loop.time() > known[0]:
            self._ask(key)
        if not known[1]:
            return None
        return Signature(types_of(known[1], method, count), fields_of(known[1], method))

    def types(
        self, interface: str, group: str, version: str, method: str, count: int
    ) -> list[str] | None:
        """The types alone."""
        known = self.signature(interface, group, version, method, count)
        return None if known is None else known.types

    def _ask(self, key: Key) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting[key] = None
            self._wake.set()

    async def _due(self) -> None:
        """Return when something waits to be asked for."""
        while not self._waiting:
            until_s = self._later[0][0] - self._loop.time() if self._later else None
            if until_s is None or until_s > 0:
                try:
                    async with asyncio.timeout(until_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
                self._wake.clear()
                continue
            _, key = heapq.heappop(self._later)
            self._later_keys.discard(key)
            if key in self._put_off_s:
                await asyncio.sleep(PACE_S)
                self._ask(key)

    def _again(self, key: Key, methods: tuple[Method, ...]) -> None:
        """Ask again later, if nothing was there; one question of each service is due at a time."""
        if methods:
            self._put_off_s.pop(key, None)
            return
        if key in self._later_keys:
            return
        self._later_keys.add(key)
        put_off_s = min(2 * self._put_off_s.get(key, MISSED_S / 2), MISSED_MOST_S)
        self._put_off_s[key] = put_off_s
        heapq.heappush(self._later, (self._loop.time() + put_off_s, key))

    async def _read(self) -> None:
        while True:
            await self._due()
            while self._waiting:
                key = next(iter(self._waiting))
                interface, group, version = key
                methods: tuple[Method, ...] | None = None
                try:
                    methods = await self._registry.metadata(interface, group=group, version=version)
                except DragomanError:
                    pass
                except Exception as error:
                    # One service must not be the end of asking for the others.
                    log_fault(log, error, "%s: its published types cannot be read", interface)
                del self._waiting[key]
                if key not in self._listed:
                    continue
                if methods is None:
                    # The registry is away: what was known stands.
                    methods = self._known.get(key, (0.0, ()))[1]
                keep_s = KEEP_S if methods else MISSED_S
                self._known[key] = (self._loop.time() + keep_s, methods)
                self._again(key, methods)

    async def close(self) -> None:
        """Ask for nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
