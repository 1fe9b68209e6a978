"""Positions that groups have committed, and records of groups that share work, as META has them.

``QueueStore`` has one, and workers save with it what is to outlive the process
(``dragoman.queue.work.records``). A record is a commit of a group with a long name that begins
with WORK; it stands among the queue's groups. The invariants: what ``groups`` says is in META, or
on its way there; a group has one record at the most.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from dragoman.queue.api.arguments import WORK
from dragoman.queue.engine.engine import Engine
from dragoman.queue.work.records import WorkRecord, record_name, record_of, record_parts


class Positions:
    """See this module's description. Queues are meant by id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Under it META and ``groups`` are changed together.
        self.lock = threading.Lock()
        # By queue: positions by group. Beside groups' names those of records, which ``_records``
        # finds by queue and group.
        self.groups: dict[int, dict[bytes, int]] = {}
        self._records: dict[tuple[int, bytes], bytes] = {}

    def find(
        self,
        groups: dict[int, dict[bytes, int]],
        beyond: Iterable[tuple[int, bytes, int]],
        *,
        read_only: bool,
    ) -> None:
        """Take over what opening found. ``beyond``: queues and groups of positions beyond the
        queue's end, and where that is. Records are taken if they speak of messages that are there.
        """
        self.groups = groups
        lost = {(id, name): length for id, name, length in beyond}
        for id, positions in groups.items():
            for name in [name for name in positions if name.startswith(WORK)]:
                position = positions.pop(name)
                parts = record_parts(name)
                if parts is None:
                    continue
                length = lost.get((id, name))
                record = record_of(parts[1], position if length is None else None)
                if length is not None:
                    # Before anything is put in the place of what was lost.
                    record = None if record is None else record.cut(length)
                    if not read_only:
                        self._replace(id, parts[0], b"" if record is None else record.encode())
                elif record is not None:
                    positions[name] = record.high
                    self._records[id, parts[0]] = name

    def of(self, id: int, group: bytes) -> int:
        """The group's position, 0 when nothing was committed."""
        return self.groups.get(id, {}).get(group, 0)

    def commit(self, id: int, group: bytes, position: int) -> None:
        """The group goes on at ``position``; a record of it speaks of nothing any more."""
        with self.lock:
            if (id, group) in self._records:
                self._replace(id, group, b"")
            self._engine._commit(id, group, position)
            self.groups.setdefault(id, {})[group] = position

    def record(self, id: int, group: bytes) -> WorkRecord | None:
        """The group's record."""
        name = self._records.get((id, group))
        parts = None if name is None else record_parts(name)
        return None if parts is None else record_of(parts[1])

    def save(self, id: int, group: bytes, floor: int, record: bytes | None) -> None:
        """A group's position, and its record unless that is None (empty: there is none now)."""
        with self.lock:
            if self._engine._name(id) is None:
                return  # deleted meanwhile
            self._engine._commit(id, group, floor)
            self.groups.setdefault(id, {})[group] = floor
            if record is not None:
                self._replace(id, group, record)

    def forget(self, id: int) -> None:
        """The queue has been deleted."""
        for name in self.groups.pop(id, {}):
            if name.startswith(WORK) and (parts := record_parts(name)) is not None:
                self._records.pop((id, parts[0]), None)

    def _replace(self, id: int, group: bytes, body: bytes) -> None:
        # In place of the group's record before; with ``lock``.
        old = self._records.pop((id, group), None)
        name = record_name(group, body)
        record = record_of(body)
        high = 0 if record is None else record.high
        self._engine._commit(id, name, high)
        positions = self.groups.setdefault(id, {})
        if old is not None:
            positions.pop(old, None)
        if body:
            positions[name] = high
            self._records[id, group] = name
