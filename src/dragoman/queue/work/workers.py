"""Groups that share work: each message of a queue to one of the group's workers at a time.

``QueueStore.workers`` makes ``Workers``, what users call; all of one queue and group, in all
threads, meet in one ``WorkGroup``, which has the ``Leases`` and keeps them (``kept``, below).

Invariants, for every durability: a message is done only when a worker said so, when it is in the
dead letters durably, or when it is trimmed; attempts are noted before a message is given again, so
they outlive the process; ``floor`` is the group's committed position. The locks, outermost first: a
group's ``lock``, then ``QueueStore._committing``. Who has ``QueueStore._working``, or keeps the
store in shape, never waits for a group's lock: its holder may wait for him.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragoman.errors import CorruptionError, DragomanError, OverloadError, UsageError
from dragoman.queue.api.arguments import group_bytes, queue_bytes
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.work.damaged import key_at, letter, stopped
from dragoman.queue.work.leases import ACK, EXTEND, NACK, Leases, Message
from dragoman.queue.work.records import Kept

if TYPE_CHECKING:
    from dragoman.queue.api.store import QueueStore

log = logging.getLogger(__name__)
Name = str | bytes

LEASE_MS = 30_000
LEASE_MS_MAX = 24 * 3600 * 1000
ATTEMPTS_MAX = 200
WINDOW, WINDOW_MAX = 65_536, 1 << 20
TAKE_MAX = 100_000
# What one ``take`` gives at most, but for one message that is larger.
TAKE_BYTES = 16 << 20
# Groups that are worked on at once; idle ones make room.
GROUPS_MAX = 4096
# So many messages ahead are noted as given, so that not every ``take`` need write.
STRIDE = 1024
# How often ``take`` looks again, at first and at the least; and dead letters that could not be put.
LOOK_S = 0.0005, 0.02
AGAIN_S = 1.0


@dataclass(frozen=True)
class WorkSettings:
    """How a group works on a queue. ``ordered_by``: see ``QueueStore.workers``."""

    lease_ms: int = LEASE_MS
    attempts_max: int | None = None
    dead_letter: bytes | None = None
    ordered_by: KeyOf | None = None
    window: int = WINDOW

    @property
    def shared(self) -> tuple[Any, ...]:
        """What all workers of a group have to agree on."""
        key = self.ordered_by
        return self.attempts_max, self.dead_letter, getattr(key, "__code__", key), self.window


def settings_of(
    queue: bytes,
    *,
    lease_ms: Any,
    attempts_max: Any,
    dead_letter: Any,
    ordered_by: Any,
    window: Any,
) -> WorkSettings:
    """The settings, checked; raises UsageError. The same for every store."""
    if type(lease_ms) is not int or not 1 <= lease_ms <= LEASE_MS_MAX:
        raise UsageError(f"lease_ms is a whole number from 1 to {LEASE_MS_MAX}, not {lease_ms!r}")
    if type(window) is not int or not 1 <= window <= WINDOW_MAX:
        raise UsageError(f"window is a whole number from 1 to {WINDOW_MAX}, not {window!r}")
    if attempts_max is not None and (
        type(attempts_max) is not int or not 1 <= attempts_max <= ATTEMPTS_MAX
    ):
        raise UsageError(f"attempts_max is 1 to {ATTEMPTS_MAX}, or None, not {attempts_max!r}")
    if (attempts_max is None) != (dead_letter is None):
        raise UsageError(
            "attempts_max and dead_letter go together: after so many attempts a message is put to"
            " that queue"
        )
    letters = None if dead_letter is None else queue_bytes(dead_letter)
    if letters == queue:
        raise UsageError("the dead letters of a queue are another queue")
    if isinstance(ordered_by, str):
        ordered_by = ordered_by.encode("utf-8", "surrogatepass")
    if not (
        ordered_by is None
        or (type(ordered_by) is int and 1 <= ordered_by <= 65536)
        or (isinstance(ordered_by, bytes) and 1 <= len(ordered_by) <= 1024)
        or callable(ordered_by)
    ):
        raise UsageError(
            "ordered_by is how many bytes of a message are its key (1 to 65536), what its key ends"
            f" with, or a function that tells it, not {ordered_by!r:.100}"
        )
    return WorkSettings(lease_ms, attempts_max, letters, ordered_by, window)


def keys_of(bodies: list[bytes], by: KeyOf) -> list[Hashable]:
    """The keys of messages; raises UsageError when the function does not tell one."""
    if isinstance(by, int):
        return [body[:by] for body in bodies]
    if isinstance(by, bytes):
        return [body.partition(by)[0] for body in bodies]
    keys: list[Hashable] = []
    for body in bodies:
        try:
            key = by(body)
            hash(key)
        except Exception as error:
            raise UsageError(f"ordered_by: {type(error).__name__}: {error}") from error
        keys.append(key)
    return keys


def count_of(count: Any) -> int:
    """How many messages to take; raises UsageError."""
    if type(count) is not int or not 1 <= count <= TAKE_MAX:
        raise UsageError(f"take gives 1 to {TAKE_MAX} messages at once, not {count!r:.100}")
    return count


def delay_of(delay_ms: Any) -> float:
    """Seconds of a delay; raises UsageError."""
    if not isinstance(delay_ms, int | float) or not 0 <= delay_ms <= LEASE_MS_MAX:
        raise UsageError(f"a delay is 0 to {LEASE_MS_MAX} ms, not {delay_ms!r:.100}")
    return delay_ms / 1000


def lease_of(lease_ms: Any, default: int) -> float:
    """Seconds of a lease; raises UsageError."""
    if lease_ms is None:
        return default / 1000
    if not isinstance(lease_ms, int | float) or not 1 <= lease_ms <= LEASE_MS_MAX:
        raise UsageError(f"a lease is 1 to {LEASE_MS_MAX} ms, not {lease_ms!r:.100}")
    return lease_ms / 1000


def messages_of(messages: Any) -> list[Message]:
    """What is settled: a message, or a list of them; raises UsageError."""
    if isinstance(messages, Message):
        return [messages]
    try:
        listed = messages if type(messages) is list else list(messages)
    except TypeError:
        listed = [messages]
    if not set(map(type, listed)) <= {Message}:
        raise UsageError("these are no messages that take gave")
    return listed


def timeout_of(wait_ms: Any) -> float:
    """Seconds to wait; raises UsageError."""
    if not isinstance(wait_ms, int | float) or not wait_ms >= 0:
        raise UsageError(f"wait_ms is 0 or more milliseconds, not {wait_ms!r:.100}")
    return wait_ms / 1000


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
        committed = store._groups.get(self.id, {}).get(self.group, 0)
        first = store.first_offset(self.queue)
        by = settings.ordered_by
        floor = max(committed, first)
        self.leases = Leases(floor, settings.window, self._attempts_max, by is not None)
        kept = store._kept_work(self.id, self.group)
        if kept is None:
            return
        self._trivial = False
        if kept.floor > committed:
            return  # somebody has gone back since
        end = max(floor, min(max(kept.high, kept.mark), store.length(self.queue)))
        due_s = store._clock.monotonic() + grace_ms / 1000 if grace_ms else 0.0
        self.leases.restore(kept.stream[floor - kept.floor :], end, due_s)
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
            if leases.unkept:
                try:
                    self._save(self._generous)
                    store._sync_meta(store._level == 2)
                except BaseException:
                    # Nobody gets them, so it was no attempt.
                    leases.take_back(given, alone)
                    raise
            elif leases.floor != store._groups.get(self.id, {}).get(self.group, 0):
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
                leases.unkept = True

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
        # What is done counts from now on; it is kept with the next ``_save``.
        self.dirty = True
        positions = self.store._groups.get(self.id)
        if positions is not None and not self.retired:
            positions[self.group] = self.leases.floor
        elif not self.retired:
            self.store._groups.setdefault(self.id, {})[self.group] = self.leases.floor

    def _save(self, generous: bool) -> None:
        leases, store = self.leases, self.store
        trivial = leases.next == leases.floor and leases.mark <= leases.floor
        body = b""
        if not trivial:
            body = Kept(leases.floor, leases.mark, leases.stream(generous)).encode()
        elif not leases.unkept and self._trivial and not self.dirty:
            return
        store._keep_work(self.id, self.group, leases.floor, body, self._trivial and trivial)
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


class Work:
    """The groups of a store that are worked on."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._groups: OrderedDict[tuple[int, bytes], WorkGroup] = OrderedDict()

    def group(
        self, queue: bytes, group: bytes, settings: WorkSettings, grace_ms: int = 0
    ) -> WorkGroup | None:
        """The group's state as of now, None while there is no such queue. Raises UsageError when
        others work on it with other settings, OverloadError when there are too many groups."""
        store = self._store
        id = store._id(queue)
        if id == 0:
            return None
        key = (id, group)
        with store._working:
            known = self._groups.get(key)
            if known is not None and not known.retired:
                if known.settings.shared == settings.shared:
                    self._groups.move_to_end(key)
                    return known
                if not known.retire(save=True):
                    raise UsageError(
                        f"workers of group {group!r:.100} of queue {queue!r:.100} have other"
                        " attempts_max, dead_letter, ordered_by or window, and messages out"
                    )
            if len(self._groups) >= GROUPS_MAX:
                self._make_room()
            made = self._groups[key] = WorkGroup(store, id, queue, group, settings, grace_ms)
            self._groups.move_to_end(key)
            return made

    def settle_numbers(
        self,
        queue: bytes,
        group: bytes,
        kind: int,
        offsets: list[int],
        serials: list[int],
        life: bytes,
        due_s: float,
        *,
        at_once: bool = False,
    ) -> int | None:
        """``WorkGroup.settle_numbers`` of the group that there is, if any. ``at_once``: None if it
        might have to wait for somebody or for the disk."""
        store = self._store
        with store._using(True):
            known = self._groups.get((store._id(queue), group))
            if known is None:
                return 0
            try:
                if at_once:
                    return known.settle_at_once(kind, offsets, serials, life, due_s)
                return known.settle_numbers(kind, offsets, serials, life, due_s)
            except Retired:
                return 0

    def idle(self, queue: bytes, group: bytes, settings: WorkSettings) -> bool:
        """Whether the group certainly has nothing to give right now."""
        store = self._store
        id = store._id(queue)
        known = self._groups.get((id, group))
        if id == 0 or known is None or known.retired:
            return id == 0
        leases = known.leases
        return (
            known.settings.shared == settings.shared
            and leases.waiting == 0
            and leases.next >= store.length(queue)
            and leases.alarm_s > store._clock.monotonic()
        )

    def _make_room(self) -> None:
        for key, each in list(self._groups.items()):
            if each.retired or each.retire(save=True):
                del self._groups[key]
                return
        raise OverloadError(f"{len(self._groups)} groups have messages out already")

    def known(self) -> list[WorkGroup]:
        """All of now."""
        return list(self._groups.values())

    def reset(self, id: int, group: bytes) -> None:
        """The group's position is set by hand: what is out is nobody's."""
        with self._store._working:
            known = self._groups.pop((id, group), None)
        if known is not None:
            known.retire(save=False)

    def forget(self, id: int) -> None:
        """The queue with this number is gone."""
        for key, each in list(self._groups.items()):
            if key[0] == id:
                # Not with its lock, which may be held for long: it looks before it keeps anything.
                each.retired = True
                self._groups.pop(key, None)


class Workers:
    """Takes messages of one queue for one group, each of which no other worker of the group has.

    ``store.workers`` makes them; any number, in any threads, share the work. At least once: a
    message is given again when its lease has ended before ``ack``, when it is ``nack``ed, and
    after the process or the machine has died.
    """

    def __init__(
        self,
        store: QueueStore,
        queue: bytes,
        group: bytes,
        settings: WorkSettings,
        grace_ms: int = 0,
    ) -> None:
        # ``grace_ms``: for so long what was out when the store was closed is taken to be out still.
        self._store = store
        self._grace_ms = grace_ms
        self.queue = queue
        self.group = group
        self.settings = settings

    def _with(self, call: Callable[[WorkGroup], Any], otherwise: Any) -> Any:
        with self._store._using(True):
            while True:
                group = self._store._work.group(
                    self.queue, self.group, self.settings, self._grace_ms
                )
                if group is None:
                    return otherwise
                try:
                    return call(group)
                except Retired:
                    continue

    def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """Up to ``count`` messages, the oldest that nobody has; none when there is none within
        ``wait_ms``. Each is this worker's for ``lease_ms``, or until it is settled."""
        count_of(count)
        lease_s = self.settings.lease_ms / 1000
        until_s = time.monotonic() + timeout_of(wait_ms)
        pause_s, pause_max_s = LOOK_S
        while True:
            messages: list[Message] = self._with(lambda group: group.take(count, lease_s), [])
            left_s = until_s - time.monotonic()
            if messages or left_s <= 0:
                return messages
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, pause_max_s)

    def ack(self, messages: Message | Sequence[Message]) -> int:
        """They are done, as durably as a ``commit``. Returns how many of them are: not those whose
        lease had ended and that somebody else was given since."""
        listed = messages_of(messages)
        count: int = self._with(lambda group: group.settle(ACK, listed, 0.0), 0)
        return count

    def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """They are not done, and given again after ``delay_ms``, or put to the dead letters if that
        was their last attempt. Returns how many of them this worker still had."""
        listed, delay_s = messages_of(messages), delay_of(delay_ms)
        count: int = self._with(lambda group: group.settle(NACK, listed, delay_s), 0)
        return count

    def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """They stay this worker's for another ``lease_ms`` from now on. Returns how many of them it
        still had."""
        listed, lease_s = messages_of(messages), lease_of(lease_ms, self.settings.lease_ms)
        count: int = self._with(lambda group: group.settle(EXTEND, listed, lease_s), 0)
        return count

    def idle(self) -> bool:
        """Whether there certainly was nothing to take right now; never waits."""
        return self._store._work.idle(self.queue, self.group, self.settings)

    def __repr__(self) -> str:
        return f"<Workers of queue {self.queue!r:.100}, group {self.group!r:.100}>"


def workers_of(store: QueueStore, queue: Name, group: Name, **options: Any) -> Workers:
    """What ``QueueStore.workers`` does."""
    name = queue_bytes(queue)
    return Workers(store, name, group_bytes(group), settings_of(name, **options))
