"""Groups that share work: each message of a queue to one of the group's workers at a time.

``QueueStore.workers`` makes ``Workers``, what users call; all of one queue and group, in all
threads, meet in one ``WorkGroup`` (``group``), which has the ``Leases``. ``Work`` is all groups of
a store that are worked on. The invariants are the group's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dragoman.errors import OverloadError, UsageError
from dragoman.queue.api.arguments import group_bytes, queue_bytes
from dragoman.queue.work.group import Retired, WorkGroup
from dragoman.queue.work.leases import ACK, EXTEND, NACK, Message
from dragoman.queue.work.settings import (
    WorkSettings,
    count_of,
    delay_of,
    lease_of,
    messages_of,
    settings_of,
    timeout_of,
)

if TYPE_CHECKING:
    from dragoman.queue.api.store import QueueStore

Name = str | bytes

# Groups that are worked on at once; idle ones make room.
GROUPS_MAX = 4096
# How often ``take`` looks again, at first and at the least.
LOOK_S = 0.0005, 0.02


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
