"""What all workers of one queue and group share: ``WorkGroup``, which keeps the ``Leases``.

Invariants, for every durability: a message is done only when a worker said so, when it is in the
dead letters durably, or when it is trimmed; attempts are noted before a message is given again, so
they outlive the process; ``floor`` is the group's committed position. The locks, outermost first: a
group's ``lock``, then ``Positions.lock``. Who has ``QueueStore._working``, or keeps the store in
shape, never waits for a group's lock: its holder may wait for him.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dragoman.errors import CorruptionError, DragomanError
from dragoman.queue.work.damaged import key_at, letter, stopped
from dragoman.queue.work.leases import NACK, Leases, Message
from dragoman.queue.work.records import WorkRecord
from dragoman.queue.work.settings import TAKE_BYTES, TAKE_MAX, WorkSettings, keys_of

if TYPE_CHECKING:
    from dragoman.queue.api.store import QueueStore

log = logging.getLogger(__name__)
# So many messages ahead are noted as given, so that not every ``take`` need write.
STRIDE = 1024
# When dead letters that could not be put are put again.
AGAIN_S = 1.0


def _fitting(bodies: list[bytes], bytes_max: int) -> list[bytes]:
    """As many as have so many bytes, one at least: the store reads some more."""
    if sum(map(len, bodies)) <= bytes_max:
        return bodies
    size = 0
    for number, body in enumerate(bodies):
        size += len(body)
        if size > bytes_max:
            return bodies[: max(1, number)]
    return bodies


class Retired(Exception):
    """The group's state is another object's now."""


class WorkGroup:
    """What all workers of ``group`` share of the queue with number ``id`` while it lives."""

    def __init__(
        self,
        store: QueueStore,
        id: int,
        queue: bytes,
        group: bytes,
        settings: WorkSettings,
        grace_ms: int,
    ) -> None:
        self.store = store
        self._positions = store._positions
        self.id = id
        self.queue = queue
        self.group = group
        self.settings = settings
        self.lock = threading.Lock()
        self.life = os.urandom(8)
        self.retired = False
        self.dirty = False
        self._attempts_max = settings.attempts_max or 0
        # A first attempt more than there was does no harm, unless few are allowed.
        self._generous = self._attempts_max not in (1, 2)
        self._bury_s = 0.0
        # Letters that were put and are not known to be durable: not put again.
        self._posted: set[int] = set()
        self._trivial = True
        self._begin(grace_ms)

    def _begin(self, grace_ms: int) -> None:
        store, settings = self.store, self.settings
        committed = self._positions.of(self.id, self.group)
        first = store.first_offset(self.queue)
        by = settings.ordered_by
        floor = max(committed, first)
        self.leases = Leases(floor, settings.window, self._attempts_max, by is not None)
        record = self._positions.record(self.id, self.group)
        if record is None:
            return
        self._trivial = False
        if record.floor > committed:
            return  # somebody has gone back since
        end = max(floor, min(max(record.high, record.mark), store.length(self.queue)))
        due_s = store._clock.monotonic() + grace_ms / 1000 if grace_ms else 0.0
        self.leases.restore(record.stream[floor - record.floor :], end, due_s)
        if by is not None:
            offsets = self.leases.unsettled()
            for at in range(0, len(offsets), STRIDE):
                some = offsets[at : at + STRIDE]
                self.leases.set_keys(
                    some,
                    [
                        key_at(store, self.queue, o, lambda bodies: keys_of(bodies, by))
                        for o in some
                    ],
                )

    def _check(self) -> None:
        # With the lock: this is the state of the queue that has this name now.
        if self.retired or self.store._id(self.queue) != self.id:
            self.retired = True
            raise Retired

    # Taking.

    def take(self, count: int, lease_s: float, bytes_max: int = TAKE_BYTES) -> list[Message]:
        """Up to ``count`` messages that nobody has, for ``lease_s``; raises Retired."""
        with self.lock:
            self._check()
            store, leases = self.store, self.leases
            now_s = store._clock.monotonic()
            leases.gone_before(store.first_offset(self.queue))
            leases.expire(now_s)
            self._bury(now_s)
            due_s = now_s + lease_s
            given, alone = self._again(count, due_s, bytes_max)
            if not alone and len(given) < count:
                size = sum(len(message.body) for message in given)
                try:
                    self._new(given, count, due_s, bytes_max - size)
                except DragomanError:
                    if not given:
                        raise  # else who takes next meets it
            if leases.unsaved:
                try:
                    self._save(self._generous)
                    store._sync_meta(store._level == 2)
                except BaseException:
                    # Nobody gets them, so it was no attempt.
                    leases.take_back(given, alone)
                    raise
            elif leases.floor != self._positions.of(self.id, self.group):
                self._note()
            # Or what was read is of a queue that has the name meanwhile.
            self._check()
            return given

    def _again(self, count: int, due_s: float, bytes_max: int) -> tuple[list[Message], bool]:
        leases = self.leases
        offsets = leases.again(count)
        if not offsets:
            return [], False
        alone = leases.alone(offsets)
        try:
            read, bodies = self._read(offsets, bytes_max)
        except CorruptionError as error:
            leases.back(offsets)
            return self._around_damage(offsets, due_s, error), alone
        except BaseException:
            leases.back(offsets)
            raise
        leases.back(offsets[len(read) :])
        return leases.give(read, bodies, due_s, self.life), alone

    def _around_damage(
        self, offsets: list[int], due_s: float, error: CorruptionError
    ) -> list[Message]:
        # One by one; what cannot be read is for the dead letters, or is said while it is first.
        leases = self.leases
        given: list[Message] = []
        for offset in offsets:
            try:
                bodies = self.store.get(self.queue, offset, 1)
            except CorruptionError as damaged:
                if self.settings.dead_letter is not None:
                    leases.condemn(offset)
                    continue
                if not given:
                    raise stopped(self.queue, self.group, offset, damaged) from error
                break
            given += leases.give([offset], bodies, due_s, self.life)
            if sum(len(message.body) for message in given) > TAKE_BYTES:
                break
        return given

    def _read(self, offsets: list[int], bytes_max: int) -> tuple[list[int], list[bytes]]:
        # As many from the first on as bytes allow; one that was trimmed meanwhile ends it.
        ranges: list[tuple[bytes, int, int]] = []
        for offset in offsets:
            if ranges and offset == ranges[-1][1] + ranges[-1][2]:
                ranges[-1] = (self.queue, ranges[-1][1], ranges[-1][2] + 1)
            else:
                ranges.append((self.queue, offset, 1))
        bodies: list[bytes] = []
        for (_, _, wanted), got in zip(
            ranges, self.store.get_many(ranges, max(1, bytes_max)), strict=True
        ):
            bodies += got
            if len(got) < wanted:
                break
        bodies = _fitting(bodies, bytes_max)
        return offsets[: len(bodies)], bodies

    def _new(self, given: list[Message], count: int, due_s: float, bytes_max: int) -> None:
        leases, by = self.leases, self.settings.ordered_by
        # At most so many are read at once, after damage.
        readable = TAKE_MAX
        length = self.store.length(self.queue)
        while len(given) < count and bytes_max > 0:
            most = min(leases.room(count - len(given)), length - leases.next)
            if most <= 0:
                break
            most = min(most, readable)
            try:
                (bodies,) = self.store.get_many([(self.queue, leases.next, most)], bytes_max)
            except CorruptionError as error:
                readable = most // 2
                if readable:
                    continue
                if self.settings.dead_letter is None:
                    if given:
                        break
                    raise stopped(self.queue, self.group, leases.next, error) from error
                bodies = []
            damaged = readable == 0
            readable = most if damaged else 2 * most
            if not bodies and not damaged:
                break
            bodies = [b""] if damaged else _fitting(bodies, bytes_max)
            keys = None if by is None else [object()] if damaged else keys_of(bodies, by)
            end = leases.next + len(bodies)
            raised = end > leases.mark
            if raised:
                leases.mark = end + (STRIDE if self._generous else 0)
            news = leases.give_new(bodies, keys, due_s, self.life)
            if damaged:
                leases.condemn(end - 1)
            else:
                given += news
            bytes_max -= sum(map(len, bodies))
            if raised:
                leases.unsaved = True

    # Settling.

    def settle(self, kind: int, messages: list[Message], due_s: float) -> int:
        """See ``Leases.settle``; ``due_s`` counts from now, 0 of a NACK: at once."""
        return self._settle(lambda due: self.leases.settle(kind, messages, due, self.life), due_s)

    def settle_numbers(
        self, kind: int, offsets: list[int], serials: list[int], life: bytes, due_s: float
    ) -> int:
        """``settle`` by numbers, as they travel."""
        if life != self.life:
            return 0
        return self._settle(
            lambda due: self.leases.settle_numbers(kind, offsets, serials, due), due_s
        )

    def settle_at_once(
        self, kind: int, offsets: list[int], serials: list[int], life: bytes, due_s: float
    ) -> int | None:
        """``settle_numbers``, unless it might wait for somebody or for the disk: None then."""
        if self.store._level == 2 or kind == NACK or not self.lock.acquire(blocking=False):
            return None
        try:
            if self.leases.dead:
                return None
            self._check()
            if life != self.life:
                return 0
            now_s = self.store._clock.monotonic()
            count = self.leases.settle_numbers(kind, offsets, serials, now_s + due_s)
            if count:
                self._note()
            return count
        finally:
            self.lock.release()

    def _settle(self, settle: Callable[[float], int], due_s: float) -> int:
        store = self.store
        with self.lock:
            self._check()
            now_s = store._clock.monotonic()
            floor = self.leases.floor
            count = settle(now_s + due_s if due_s else 0.0)
            if self.leases.dead:
                self._bury(now_s)
            if count or self.leases.floor != floor:
                self._note()
                if store._level == 2:
                    self._save(self._generous)
        if store._level == 2 and count:
            store._sync_meta(True)
        return count

    def _bury(self, now_s: float) -> None:
        # First there durably, then done here: never lost, and twice there after a crash between.
        leases, store, letters = self.leases, self.store, self.settings.dead_letter
        if not leases.dead or now_s < self._bury_s or letters is None:
            return
        dead = leases.take_dead()
        try:
            while dead:
                try:
                    read, bodies = self._read(dead, TAKE_BYTES)
                except CorruptionError:
                    read, bodies = dead[:1], [letter(store, self.queue, dead[0])]
                news = zip(read, bodies, strict=True)
                store.put_many(letters, [body for at, body in news if at not in self._posted])
                self._posted.update(read)
                if store._level != 2:
                    store._sync_all()
                self._posted.clear()
                leases.buried(read)
                self._note()
                dead = dead[len(read) :]
                log.warning(
                    "%s: queue %.100r, group %.100r: %d messages, from offset %d on, had %d"
                    " attempts and are in queue %.100r now",
                    store.path,
                    self.queue,
                    self.group,
                    len(read),
                    read[0],
                    self._attempts_max,
                    letters,
                )
        except DragomanError as error:
            self._bury_s = now_s + AGAIN_S
            if not store.open:
                raise
            log.error(
                "%s: queue %.100r, group %.100r: dead letters cannot be put yet: %s",
                store.path,
                self.queue,
                self.group,
                error,
            )
        finally:
            leases.back_dead(dead)

    # Keeping.

    def _note(self) -> None:
        # What is done counts from now on; it is saved with the next ``_save``.
        self.dirty = True
        if not self.retired:
            positions = self._positions.groups.get(self.id)
            if positions is None:
                positions = self._positions.groups.setdefault(self.id, {})
            positions[self.group] = self.leases.floor

    def _save(self, generous: bool) -> None:
        leases = self.leases
        trivial = leases.next == leases.floor and leases.mark <= leases.floor
        body = b""
        if not trivial:
            body = WorkRecord(leases.floor, leases.mark, leases.stream(generous)).encode()
        elif not leases.unsaved and self._trivial and not self.dirty:
            return
        record = None if self._trivial and trivial else body
        self._positions.save(self.id, self.group, leases.floor, record)
        self._trivial = trivial
        self.dirty = False

    def save(self, *, wait: bool = True, exact: bool = False) -> None:
        """Note in META what has changed. ``exact``: and what is out; nothing follows."""
        if not self.lock.acquire(blocking=wait):
            return
        try:
            if not self.retired and (self.dirty or exact):
                if exact:
                    self.leases.mark = self.leases.next
                self._save(self._generous and not exact)
        finally:
            self.lock.release()

    def retire(self, *, save: bool) -> bool:
        """Nothing is given here any more; False if somebody is at it, or has messages. Not
        ``save``: whatever is out."""
        if not self.lock.acquire(blocking=not save):
            return False
        try:
            if save and not self.leases.idle(self.store._clock.monotonic()):
                return False
            if save and not self.retired:
                self.leases.mark = self.leases.next
                self._save(generous=False)
            self.retired = True
            return True
        finally:
            self.lock.release()
