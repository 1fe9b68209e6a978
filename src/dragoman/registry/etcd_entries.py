"""The entries that a watch has read in etcd, and what is known of those that have vanished.

Filled by ``etcd_watch`` from lists and events. The invariant: of each key the youngest that was
read stands, in whichever order lists and events come; one that vanished without goodbye stays
until a complete list lacks it after its grace. Nothing here asks etcd, and nothing that happens at
every change or audit looks at all entries.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from collections.abc import Awaitable, Callable, Iterator

from dragoman.errors import ProtocolError
from dragoman.registry.gateway import KeyValue
from dragoman.registry.registration import Registration, decode_entry

log = logging.getLogger("dragoman.registry")

# Entries that are only looked at in one tick: a millisecond.
LOOKS_A_TICK = 1000
# Revisions of entries that went, which the heap of revisions may hold besides twice the others.
REVISIONS_SPARE = 250
# How often at most an outage of etcd gives an entry that has vanished its whole grace again.
REPRIEVES_MAX = 8


class _Entry:
    """A key that etcd holds, or held until ``gone_at_s`` without having said goodbye."""

    __slots__ = ("gone_at_s", "mod_revision", "registration", "reprieves")

    def __init__(self, mod_revision: int, registration: Registration | None) -> None:
        self.mod_revision = mod_revision
        # None: malformed, or leaving.
        self.registration = registration
        self.gone_at_s: float | None = None
        self.reprieves = 0


class EtcdEntries:
    """Keys with their registrations. ``touched`` is told of each that changes and what it was
    before, ``vanished`` that one has gone without goodbye.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        prefix: str,
        grace_s: float,
        touched: Callable[[bytes, Registration | None], None] | None,
        vanished: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._prefix = prefix
        self._grace_s = grace_s
        self._on_touched = touched
        self._on_vanished = vanished
        self._entries: dict[bytes, _Entry] = {}
        # Of these, those that are gone, in the order in which they went.
        self._gone: dict[bytes, _Entry] = {}
        # The youngest revisions among the others, as a heap from which what went is not taken, and
        # another one while it is made anew.
        self._youngest: list[tuple[int, bytes]] = []
        self._younger: list[tuple[int, bytes]] | None = None
        self._malformed: set[bytes] = set()
        # What was deleted while a list is read, and at which revision.
        self.deleted: dict[bytes, int] | None = None
        # Entries that are registrations.
        self.endpoints = 0

    @property
    def count(self) -> int:
        """How many keys etcd holds as far as we know."""
        return len(self._entries) - len(self._gone)

    @property
    def malformed(self) -> int:
        """Keys set aside because their name or value is not a registration."""
        return len(self._malformed)

    @property
    def gone(self) -> int:
        """Entries that vanished and are served for the grace period."""
        return len(self._gone)

    @property
    def grace_ends_s(self) -> float:
        """When the first of the vanished may be dropped."""
        first = next(iter(self._gone.values()), None)
        if first is None or first.gone_at_s is None:
            return math.inf
        return first.gone_at_s + self._grace_s

    def registrations(self) -> Iterator[Registration]:
        """All that is listed now."""
        for entry in self._entries.values():
            if entry.registration is not None:
                yield entry.registration

    def registration_of(self, key: bytes) -> Registration | None:
        """What is listed under ``key`` now."""
        entry = self._entries.get(key)
        return None if entry is None else entry.registration

    def keys(self) -> list[bytes]:
        """A copy of the keys, of vanished entries too."""
        return list(self._entries)

    def newest(self) -> int:
        """The youngest revision among the keys that etcd holds as far as we know."""
        youngest = self._youngest
        while youngest:
            revision, key = -youngest[0][0], youngest[0][1]
            entry = self._entries.get(key)
            if entry is not None and entry.gone_at_s is None and entry.mod_revision == revision:
                return revision
            heapq.heappop(youngest)
        return 0

    async def tidy_youngest(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Make the heap of revisions anew if most of it are of entries that have gone, or come
        again; some of it a tick.
        """
        if len(self._youngest) <= 2 * len(self._entries) + REVISIONS_SPARE:
            return
        younger = self._younger = []
        try:
            for number, (key, entry) in enumerate(list(self._entries.items()), 1):
                if entry.gone_at_s is None:
                    heapq.heappush(younger, (-entry.mod_revision, key))
                if number % LOOKS_A_TICK == 0:
                    await pause()
            self._youngest = younger
        finally:
            self._younger = None

    def take_page(self, kvs: list[KeyValue], streaming: bool, revision: int) -> bool:
        """Take over some keys of the list of ``revision``; whether any was new. ``streaming``: what
        events have brought meanwhile is younger and stands.
        """
        deleted = self.deleted or {}
        anew = False
        for kv in kvs:
            held = self._entries.get(kv.key)
            if streaming and (
                deleted.get(kv.key, 0) > revision
                or (held is not None and held.mod_revision > kv.mod_revision)
            ):
                continue
            if held is None or held.mod_revision != kv.mod_revision or held.gone_at_s is not None:
                self._take(kv)
                anew = True
        return anew

    def miss(self, key: bytes, streaming: bool, revision: int) -> None:
        """The complete list of ``revision`` has not got ``key``. Only so is a vanished entry
        dropped.
        """
        entry = self._entries.get(key)
        if entry is None or (streaming and entry.mod_revision > revision):
            return
        if entry.gone_at_s is None:
            self._lose(key)
        elif self._loop.time() >= entry.gone_at_s + self._grace_s:
            self._drop(key)

    def take_event(self, kv: KeyValue, deleted: bool) -> None:
        """Take over a change."""
        held = self._entries.get(kv.key)
        if held is not None and held.gone_at_s is None and held.mod_revision > kv.mod_revision:
            return  # it came before the stream broke
        if deleted:
            if self.deleted is not None:
                self.deleted[kv.key] = kv.mod_revision
            self._lose(kv.key)
        else:
            self._take(kv)

    def reprieve(self) -> None:
        """Give what vanished its whole grace again."""
        now_s = self._loop.time()
        for entry in self._gone.values():
            if entry.reprieves < REPRIEVES_MAX:
                entry.reprieves += 1
                entry.gone_at_s = now_s

    def _take(self, kv: KeyValue) -> None:
        registration = None
        try:
            entry = decode_entry(self._prefix, kv.key.decode("utf-8", "replace"), kv.value)
            registration = None if entry.leaving else entry.registration
            self._malformed.discard(kv.key)
        except ProtocolError as error:
            if kv.key not in self._malformed:
                log.warning("set aside: %s", error)
            self._malformed.add(kv.key)
        before = self._entries.get(kv.key)
        self._touched(kv.key, before)
        self._gone.pop(kv.key, None)
        self._entries[kv.key] = _Entry(kv.mod_revision, registration)
        self.endpoints += registration is not None
        heapq.heappush(self._youngest, (-kv.mod_revision, kv.key))
        if self._younger is not None:
            heapq.heappush(self._younger, (-kv.mod_revision, kv.key))

    def _lose(self, key: bytes) -> None:
        """A key is gone: at once if it said goodbye, else after the grace period."""
        self._malformed.discard(key)
        entry = self._entries.get(key)
        if entry is None or entry.gone_at_s is not None:
            return
        if entry.registration is None:
            self._drop(key)
        else:
            entry.gone_at_s = self._loop.time()
            self._gone[key] = entry
            self._on_vanished()

    def _drop(self, key: bytes) -> None:
        """Forget an entry."""
        self._gone.pop(key, None)
        self._touched(key, self._entries.pop(key))

    def _touched(self, key: bytes, before: _Entry | None) -> None:
        """``before`` is no longer what ``key`` holds."""
        registration = None if before is None else before.registration
        self.endpoints -= registration is not None
        if self._on_touched is not None:
            self._on_touched(key, registration)
