"""One interface followed in etcd: list, watch from there, list again when in doubt.

Made by ``etcd.EtcdRegistry.watch``. Two tasks a watch:

- the *follower* lists once, then watches from the list's revision + 1; a stream that ends is
  resumed after the last revision seen, and the list is read again when that is impossible
  (compaction) or would be wrong (the store's revision has gone back: other data);
- the *auditor* asks every few seconds, past the stream, for the count of keys and the youngest of
  them, which differ from ours if the stream has missed anything, and reads the full list every 30
  s. A stream that hangs or has lost events is thus found out and replaced. The read is
  linearizable, so a member cut off from its leader fails it and is left for another.

Invariants: no error changes the snapshot; events are applied once, whole and in order
(``_revision`` is the store's revision that the entries reflect); an entry that vanishes without
having said goodbye is served for ``grace_s`` more, counted only while etcd answers, since after an
outage every lease may have run out while every provider lives. An endpoint that is really gone
costs no more than a refused connection meanwhile. It goes with the first complete list after its
grace, however late that comes.

A registry may hold any number of keys: lists come in pages of one revision, each taken over as it
comes, and nothing that happens at every change or audit looks at all entries.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec

from dragoman.errors import ProtocolError, RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.base import OnChange, Watch
from dragoman.registry.changes import PAUSE_S, Changes, OnChanges
from dragoman.registry.gateway import (
    EtcdGateway,
    KeyValue,
    WatchReply,
    range_end,
)
from dragoman.registry.names import EVERY
from dragoman.registry.registration import Registration, decode_entry

log = logging.getLogger("dragoman.registry")

# Keys in one page of a list.
PAGE_KEYS = 250
# New entries that are taken over in one turn, and entries that are only looked at: a millisecond.
ENTRIES_A_TURN = 50
LOOKS_A_TURN = 1000
# How often at most an outage of etcd gives an entry that has vanished its whole grace again.
REPRIEVES_MAX = 8


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a watch, in seconds. Tests shorten them."""

    audit_s: float = 5.0
    """Between two small audits."""
    reconcile_s: float = 30.0
    """Between two full lists."""
    settle_s: float = 1.0
    """How long the stream may lag behind an audit before it counts as hung."""
    grace_s: float = 3.0
    """How long an entry that vanished without goodbye is still served."""
    backoff_min_s: float = 0.1
    backoff_max_s: float = 0.7
    """Longest pause between tries: etcd's return is noticed within it."""


class _Entry:
    """A key that etcd holds, or held until ``gone_at_s`` without having said goodbye."""

    __slots__ = ("gone_at_s", "mod_revision", "registration", "reprieves")

    def __init__(self, mod_revision: int, registration: Registration | None) -> None:
        self.mod_revision = mod_revision
        # None: malformed, or leaving.
        self.registration = registration
        self.gone_at_s: float | None = None
        self.reprieves = 0


class _Doubt(RegistryError):
    """What we hold may differ from what etcd holds: list again."""


class WatchCounters:
    """Counters of all watches of one registry."""

    def __init__(self) -> None:
        self.lists_total = 0
        self.watch_starts_total = 0
        self.compactions_total = 0
        self.repairs_total = 0


class EtcdWatch(Watch):
    """See Watch and this module's description. ``gateway`` is shared with others and not closed."""

    def __init__(
        self,
        gateway: EtcdGateway,
        prefix: str,
        interface: str,
        on_change: OnChange | None,
        *,
        settings: WatchSettings,
        counters: WatchCounters,
        rng: random.Random,
        on_changes: OnChanges | None = None,
        on_complete: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(interface, on_change)
        self._gateway = gateway
        self._prefix = prefix
        self._key = (f"{prefix}/" if interface == EVERY else f"{prefix}/{interface}/").encode()
        self._end = range_end(self._key)
        self._settings = settings
        self._counters = counters
        self._rng = rng
        self._entries: dict[bytes, _Entry] = {}
        # Of these, those that are gone, in the order in which they went.
        self._gone: dict[bytes, _Entry] = {}
        # The youngest revisions among the others, as a heap from which what went is not taken, and
        # another one while it is made anew.
        self._youngest: list[tuple[int, bytes]] = []
        self._younger: list[tuple[int, bytes]] | None = None
        # What was deleted while a list is read, and at which revision.
        self._deleted: dict[bytes, int] | None = None
        # When etcd last answered.
        self._contact_s = 0.0
        self._malformed: set[bytes] = set()
        self._revision = 0
        self._listed = False
        self._synced = False
        self._fragments: list[msgspec.Raw] = []
        self.closed = False
        self._epoch = 0
        self._scope: asyncio.Timeout | None = None
        self._audit_wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Entries that are registrations.
        self._endpoints = 0
        # Whether events are being taken over, some a turn.
        self._taking = False
        self._complete = False
        self._changes: Changes | None = None
        if on_changes is not None:
            self._changes = Changes(self._loop, self._of, on_changes, on_complete)
        self._tasks = [
            self._loop.create_task(self._for_ever(self._follow), name=f"follow {interface}"),
            self._loop.create_task(self._for_ever(self._audit), name=f"audit {interface}"),
        ]

    @property
    def synced(self) -> bool:
        """Whether a stream is open now and nothing is known to be missing."""
        return self._synced

    @property
    def malformed_entries(self) -> int:
        """Keys set aside because their name or value is not a registration."""
        return len(self._malformed)

    @property
    def held_entries(self) -> int:
        """Entries that vanished and are served for the grace period."""
        return len(self._gone)

    @property
    def count(self) -> int:
        """See Watch."""
        if self._changes is None:
            return super().count
        return self._endpoints

    @property
    def has_snapshot(self) -> bool:
        """See Watch."""
        return self._complete

    async def close(self) -> None:
        """See Watch."""
        self.closed = True
        if self._changes is not None:
            self._changes.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reason(self) -> str:
        return self._gateway.last_error

    async def _for_ever(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run ``task``; should a bug end it, log that and start it anew."""
        while True:
            try:
                await task()
            except Exception as error:
                log_fault(log, error, "%s: a watch task failed; starting it again", self.interface)
            self._listed = False
            self._break_stream()
            await asyncio.sleep(self._settings.backoff_max_s)

    # The follower.

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                if not self._listed:
                    await self._read_list()
                    self._listed = True
                    failures = 0
                await self._stream()
                failures = 0
            except _Doubt as doubt:
                self._listed = False
                log.info("%s: listing again: %s", self.interface, doubt)
            except RegistryError as error:
                failures += 1
                if failures == 1:
                    state = "the last list serves on" if self.has_snapshot else "no list yet"
                    log.warning("%s: %s: %s", self.interface, state, error)
            self._synced = False
            await asyncio.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        """Doubling up to ``backoff_max_s``, jittered so that a fleet does not come at once."""
        settings = self._settings
        longest: float = min(
            settings.backoff_max_s, settings.backoff_min_s * 2 ** min(failures, 10)
        )
        return longest * self._rng.uniform(0.5, 1.0)

    async def _read_list(self) -> bool:
        """Read the list, page by page, and take it over; False if it has been overtaken by another
        reading. What the stream brings meanwhile is younger and stands.
        """
        streaming = self._synced
        epoch = self._epoch
        self._mark_outage()
        deleted = self._deleted = {}
        listed: set[bytes] = set()
        key, revision = self._key, 0
        while True:
            reply = await self._gateway.range(key, self._end, limit=PAGE_KEYS, revision=revision)
            self._contact_s = self._loop.time()
            if self._epoch != epoch or self._deleted is not deleted:
                return False
            revision = revision or reply.header.revision
            listed.update(kv.key for kv in reply.kvs)
            for first in range(0, len(reply.kvs), ENTRIES_A_TURN):
                part = reply.kvs[first : first + ENTRIES_A_TURN]
                if self._take_page(part, streaming, revision):
                    await self._pause()
                    if self._epoch != epoch or self._deleted is not deleted:
                        return False
            if not (reply.more and reply.kvs):
                break
            key = reply.kvs[-1].key + b"\0"
        self._counters.lists_total += 1
        for number, missing in enumerate(list(self._entries), 1):
            entry = self._entries.get(missing)
            if (
                missing not in listed
                and entry is not None
                and not (streaming and entry.mod_revision > revision)
            ):
                self._miss(missing, entry)
            if number % (4 * ENTRIES_A_TURN) == 0:
                await self._pause()
                if self._epoch != epoch or self._deleted is not deleted:
                    return False
        self._deleted = None
        self._revision = max(self._revision, revision) if streaming else revision
        self._complete = True
        self._publish_entries()
        return True

    async def _pause(self) -> None:
        """Leave the loop to others for a moment."""
        known = self._changes is not None and self._changes.told_all
        await asyncio.sleep(PAUSE_S if known else 0)

    def _mark_outage(self) -> None:
        """After an outage what vanished before or during it gets its whole grace again."""
        now_s = self._loop.time()
        if now_s - self._contact_s <= self._settings.grace_s:
            return
        for entry in self._gone.values():
            if entry.reprieves < REPRIEVES_MAX:
                entry.reprieves += 1
                entry.gone_at_s = now_s

    def _take_page(self, kvs: list[KeyValue], streaming: bool, revision: int) -> bool:
        """Take over some keys of a list; whether any was new."""
        deleted = self._deleted or {}
        anew = False
        for kv in kvs:
            held = self._entries.get(kv.key)
            if streaming and (
                deleted.get(kv.key, 0) > revision
                or (held is not None and held.mod_revision > kv.mod_revision)
            ):
                continue
            if held is None or held.mod_revision != kv.mod_revision or held.gone_at_s is not None:
                self._take_entry(kv)
                anew = True
        return anew

    def _miss(self, key: bytes, entry: _Entry) -> None:
        """A complete list has not got ``key``. Only so is a vanished entry dropped."""
        if entry.gone_at_s is None:
            self._lose(key)
        elif self._loop.time() >= entry.gone_at_s + self._settings.grace_s:
            self._drop(key)

    async def _stream(self) -> None:
        """Watch until the stream ends. Raises _Doubt when the list must be read again."""
        self._fragments.clear()
        self._epoch += 1
        replies = self._gateway.watch(self._key, self._end, self._revision + 1)
        try:
            # No deadline: the auditor sets one when the stream is no longer to be trusted.
            async with asyncio.timeout(None) as self._scope, aclosing(replies):
                async for reply in replies:
                    await self._take_reply(reply)
        except TimeoutError:
            raise _Doubt("the watch hangs or has missed a change") from None
        finally:
            self._scope = None

    async def _take_reply(self, reply: WatchReply) -> None:
        if reply.created:
            self._start(reply)
        if reply.canceled:
            if reply.compact_revision:
                self._counters.compactions_total += 1
                raise _Doubt(f"revision {self._revision + 1} is compacted")
            # Perhaps a token that is no longer valid: the list will tell.
            raise _Doubt(f"etcd ended the watch: {reply.cancel_reason or 'no reason given'}")
        self._contact_s = self._loop.time()
        self._fragments += reply.events
        if reply.fragment:
            return
        if self._fragments:
            events, self._fragments = self._fragments, []
            await self._take_events(events)
        elif not reply.created:
            # Progress: everything up to this revision has been sent.
            self._revision = max(self._revision, reply.header.revision)

    def _start(self, reply: WatchReply) -> None:
        self._counters.watch_starts_total += 1
        if reply.header.revision < self._revision:
            raise _Doubt(
                f"etcd's revision went back from {self._revision} to {reply.header.revision}"
            )
        self._synced = True
        self._mark_outage()
        self._contact_s = self._loop.time()
        self._wake_auditor()

    # The auditor.

    async def _audit(self) -> None:
        settings = self._settings
        reconcile_at_s = self._loop.time() + settings.reconcile_s
        while True:
            await self._wait_audit()
            if not self._synced or self._taking:
                continue  # the follower is at it
            await self._tidy_youngest()
            epoch = self._epoch
            try:
                if not await self._agrees() and not self._taking:
                    await asyncio.sleep(settings.settle_s)
                    if self._epoch == epoch and not (self._taking or await self._agrees()):
                        self._counters.repairs_total += 1
                        self._break_stream()
                        continue
                due_s = min(reconcile_at_s, self._grace_ends_s())
                if self._loop.time() >= due_s and await self._read_list():
                    reconcile_at_s = self._loop.time() + settings.reconcile_s
            except RegistryError:
                if self._epoch == epoch:
                    self._break_stream()

    async def _wait_audit(self) -> None:
        """Until the next audit is due, or the grace of a vanished entry ends if that is sooner."""
        pause_s = self._settings.audit_s * self._rng.uniform(0.8, 1.2)
        until_s = self._loop.time() + pause_s
        while (now_s := self._loop.time()) < (due_s := min(until_s, self._grace_ends_s())):
            self._audit_wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(due_s - now_s):
                    await self._audit_wake.wait()
        if not self._synced:
            # Nothing to audit; the grace starts anew once etcd answers.
            await asyncio.sleep(self._settings.backoff_min_s)

    def _grace_ends_s(self) -> float:
        first = next(iter(self._gone.values()), None)
        if first is None or first.gone_at_s is None:
            return math.inf
        return first.gone_at_s + self._settings.grace_s

    def _wake_auditor(self) -> None:
        self._audit_wake.set()

    def _break_stream(self) -> None:
        """Have the follower leave its stream, list again and watch from there."""
        self._gateway.distrust()
        self._synced = False
        if self._scope is not None:
            scope, self._scope = self._scope, None
            scope.reschedule(self._loop.time())

    async def _agrees(self) -> bool:
        """Whether etcd's keys are the ones we hold.

        Equal counts and equal youngest revisions mean equal sets: a missed put has a younger
        revision, and a missed deletion lowers the count unless a missed put made up for it.
        """
        reply = await self._gateway.range(self._key, self._end, keys_only=True, newest_only=True)
        self._contact_s = self._loop.time()
        newest = max((kv.mod_revision for kv in reply.kvs), default=0)
        count = len(self._entries) - len(self._gone)
        return reply.count == count and newest == self._newest()

    def _newest(self) -> int:
        """The youngest revision among the keys that etcd holds as far as we know."""
        youngest = self._youngest
        while youngest:
            revision, key = -youngest[0][0], youngest[0][1]
            entry = self._entries.get(key)
            if entry is not None and entry.gone_at_s is None and entry.mod_revision == revision:
                return revision
            heapq.heappop(youngest)
        return 0

    # The entries.

    async def _take_events(self, events: list[msgspec.Raw]) -> None:
        """Take over the events of one reply, some a turn. Should the stream break meanwhile they
        come again, from ``_revision`` on.
        """
        self._taking = True
        try:
            for first in range(0, len(events), ENTRIES_A_TURN):
                if first:
                    await self._pause()
                    self._contact_s = self._loop.time()
                some = self._gateway.events(events[first : first + ENTRIES_A_TURN])
                for event in some:
                    self._take_event(event.kv, event.type == "DELETE")
        finally:
            self._taking = False
        self._revision = max(self._revision, some[-1].kv.mod_revision)
        self._publish_entries()

    def _take_event(self, kv: KeyValue, deleted: bool) -> None:
        held = self._entries.get(kv.key)
        if kv.mod_revision <= self._revision:
            return  # a list has brought it already
        if held is not None and held.gone_at_s is None and held.mod_revision > kv.mod_revision:
            return  # it came before the stream broke
        if deleted:
            if self._deleted is not None:
                self._deleted[kv.key] = kv.mod_revision
            self._lose(kv.key)
        else:
            self._take_entry(kv)

    def _take_entry(self, kv: KeyValue) -> None:
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
        self._endpoints += registration is not None
        heapq.heappush(self._youngest, (-kv.mod_revision, kv.key))
        if self._younger is not None:
            heapq.heappush(self._younger, (-kv.mod_revision, kv.key))

    async def _tidy_youngest(self) -> None:
        """Make the heap of revisions anew if most of it are of entries that have gone, or come
        again; some of it a turn.
        """
        if len(self._youngest) <= 2 * len(self._entries) + PAGE_KEYS:
            return
        younger = self._younger = []
        try:
            for number, (key, entry) in enumerate(list(self._entries.items()), 1):
                if entry.gone_at_s is None:
                    heapq.heappush(younger, (-entry.mod_revision, key))
                if number % LOOKS_A_TURN == 0:
                    await self._pause()
            self._youngest = younger
        finally:
            self._younger = None

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
            self._wake_auditor()

    def _drop(self, key: bytes) -> None:
        """Forget an entry."""
        self._gone.pop(key, None)
        self._touched(key, self._entries.pop(key))

    def _touched(self, key: bytes, before: _Entry | None) -> None:
        """``before`` is no longer what ``key`` holds."""
        registration = None if before is None else before.registration
        self._endpoints -= registration is not None
        if self._changes is not None:
            self._changes.mark(key, registration)

    def _of(self, key: bytes) -> Registration | None:
        """What is listed under ``key`` now."""
        entry = self._entries.get(key)
        return None if entry is None else entry.registration

    def _publish_entries(self) -> None:
        if self._changes is not None:
            if self._complete:
                self._first.set()
                self._changes.complete()
            return
        entries = self._entries.values()
        self._publish([e.registration for e in entries if e.registration is not None])
