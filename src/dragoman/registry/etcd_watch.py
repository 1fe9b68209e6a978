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
comes. What has been read stands in ``etcd_entries``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec

from dragoman.errors import RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.base import OnChange, Watch
from dragoman.registry.changes import PAUSE_S, Changes, OnChanges
from dragoman.registry.etcd_entries import EtcdEntries
from dragoman.registry.gateway import (
    EtcdGateway,
    WatchReply,
    range_end,
)
from dragoman.registry.names import EVERY
from dragoman.registry.registration import Registration

log = logging.getLogger("dragoman.registry")

# Keys in one page of a list.
PAGE_KEYS = 250
# New entries that are taken over in one tick: a millisecond.
ENTRIES_A_TICK = 50


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
        # When etcd last answered.
        self._contact_s = 0.0
        self._revision = 0
        self._listed = False
        self._synced = False
        self._fragments: list[msgspec.Raw] = []
        self.closed = False
        self._epoch = 0
        self._scope: asyncio.Timeout | None = None
        self._audit_wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # Whether events are being taken over, some a tick.
        self._taking = False
        self._complete = False
        self._changes: Changes | None = None
        if on_changes is not None:
            self._changes = Changes(self._loop, self._of, on_changes, on_complete)
        self._entries = EtcdEntries(
            self._loop,
            prefix,
            settings.grace_s,
            None if self._changes is None else self._changes.mark,
            self._audit_wake.set,
        )
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
        return self._entries.malformed

    @property
    def held_entries(self) -> int:
        """Entries that vanished and are served for the grace period."""
        return self._entries.gone

    @property
    def count(self) -> int:
        """See Watch."""
        if self._changes is None:
            return super().count
        return self._entries.endpoints

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
        deleted = self._entries.deleted = {}
        listed: set[bytes] = set()
        key, revision = self._key, 0
        while True:
            reply = await self._gateway.range(key, self._end, limit=PAGE_KEYS, revision=revision)
            self._contact_s = self._loop.time()
            if self._epoch != epoch or self._entries.deleted is not deleted:
                return False
            revision = revision or reply.header.revision
            listed.update(kv.key for kv in reply.kvs)
            for first in range(0, len(reply.kvs), ENTRIES_A_TICK):
                part = reply.kvs[first : first + ENTRIES_A_TICK]
                if self._entries.take_page(part, streaming, revision):
                    await self._pause()
                    if self._epoch != epoch or self._entries.deleted is not deleted:
                        return False
            if not (reply.more and reply.kvs):
                break
            key = reply.kvs[-1].key + b"\0"
        self._counters.lists_total += 1
        for number, key in enumerate(self._entries.keys(), 1):
            if key not in listed:
                self._entries.miss(key, streaming, revision)
            if number % (4 * ENTRIES_A_TICK) == 0:
                await self._pause()
                if self._epoch != epoch or self._entries.deleted is not deleted:
                    return False
        self._entries.deleted = None
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
        if self._loop.time() - self._contact_s > self._settings.grace_s:
            self._entries.reprieve()

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
        self._audit_wake.set()

    # The auditor.

    async def _audit(self) -> None:
        settings = self._settings
        reconcile_at_s = self._loop.time() + settings.reconcile_s
        while True:
            await self._wait_audit()
            if not self._synced or self._taking:
                continue  # the follower is at it
            await self._entries.tidy_youngest(self._pause)
            epoch = self._epoch
            try:
                if not await self._agrees() and not self._taking:
                    await asyncio.sleep(settings.settle_s)
                    if self._epoch == epoch and not (self._taking or await self._agrees()):
                        self._counters.repairs_total += 1
                        self._break_stream()
                        continue
                due_s = min(reconcile_at_s, self._entries.grace_ends_s)
                if self._loop.time() >= due_s and await self._read_list():
                    reconcile_at_s = self._loop.time() + settings.reconcile_s
            except RegistryError:
                if self._epoch == epoch:
                    self._break_stream()

    async def _wait_audit(self) -> None:
        """Until the next audit is due, or the grace of a vanished entry ends if that is sooner."""
        pause_s = self._settings.audit_s * self._rng.uniform(0.8, 1.2)
        until_s = self._loop.time() + pause_s
        while (now_s := self._loop.time()) < (due_s := min(until_s, self._entries.grace_ends_s)):
            self._audit_wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(due_s - now_s):
                    await self._audit_wake.wait()
        if not self._synced:
            # Nothing to audit; the grace starts anew once etcd answers.
            await asyncio.sleep(self._settings.backoff_min_s)

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
        return reply.count == self._entries.count and newest == self._entries.newest()

    # The entries.

    async def _take_events(self, events: list[msgspec.Raw]) -> None:
        """Take over the events of one reply, some a tick. Should the stream break meanwhile they
        come again, from ``_revision`` on.
        """
        self._taking = True
        try:
            for first in range(0, len(events), ENTRIES_A_TICK):
                if first:
                    await self._pause()
                    self._contact_s = self._loop.time()
                some = self._gateway.events(events[first : first + ENTRIES_A_TICK])
                for event in some:
                    # Else a list has brought it already.
                    if event.kv.mod_revision > self._revision:
                        self._entries.take_event(event.kv, event.type == "DELETE")
        finally:
            self._taking = False
        self._revision = max(self._revision, some[-1].kv.mod_revision)
        self._publish_entries()

    def _of(self, key: bytes) -> Registration | None:
        """What is listed under ``key`` now."""
        return self._entries.registration_of(key)

    def _publish_entries(self) -> None:
        if self._changes is not None:
            if self._complete:
                self._first.set()
                self._changes.complete()
            return
        self._publish(list(self._entries.registrations()))
