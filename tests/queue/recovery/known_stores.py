"""Stores whose messages are known, what their writers had been told, and whether it is there."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.queue import QueueStore

SMALL = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}


@functools.lru_cache(maxsize=300_000)
def message(queue: int, offset: int) -> bytes:
    """What belongs there: its length varies, its bytes tell where it belongs."""
    head = b"%d:%d:" % (queue, offset)
    return head + random.Random(queue * 1_000_003 + offset).randbytes(40 + (queue + offset) % 30)


@dataclass
class Told:
    """What a writer had been told: by queue the length, the last trim asked for, the commit."""

    put: dict[int, int] = field(default_factory=dict)
    trim: dict[int, int] = field(default_factory=dict)
    commit: dict[int, int] = field(default_factory=dict)
    compactions: int = 0
    rewrites: int = 0

    def copy(self) -> Told:
        return Told(dict(self.put), dict(self.trim), dict(self.commit))


def check_store(
    path: Path, told: Told | dict[int, int], durability: str = "always"
) -> dict[int, int]:
    """All that was told is there and right; returns the lengths found."""
    if isinstance(told, dict):
        told = Told(put=told)
    with QueueStore(path, durability=durability, **SMALL) as store:
        assert store.damage == []
        lengths = {}
        for name in store.queues():
            queue = int(name[1:])
            lengths[queue] = store.length(name)
            first = store.first_offset(name)
            assert first <= told.trim.get(queue, 0)
            got = store.get(name, first, lengths[queue])
            assert got == [message(queue, i) for i in range(first, lengths[queue])]
            assert store.committed(name, "group") >= told.commit.get(queue, 0)
        for queue, length in told.put.items():
            assert lengths.get(queue, 0) >= length, f"queue {queue}"
    return lengths


def live(
    store: QueueStore,
    rng: random.Random,
    told: Told,
    durable: Told,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Up to a hundred things that a user does, or the store by itself, while ``alive``."""
    always = store.durability == "always"
    for _ in range(rng.randrange(1, 120)):
        queue = rng.randrange(8)
        name = f"q{queue}"
        count = rng.randrange(1, 40)
        offset = store.length(name)
        store.put_many(name, [message(queue, offset + i) for i in range(count)])
        told.put[queue] = offset + count
        if always:
            durable.put[queue] = told.put[queue]
        chance = rng.random()
        if chance < 0.3 and queue % 4:
            before = max(0, offset - rng.randrange(100))
            told.trim[queue] = max(before, told.trim.get(queue, 0))
            store.trim(name, before)
        elif chance < 0.4:
            store.commit(name, "group", offset)
            told.commit[queue] = offset
            if always:
                durable.commit[queue] = offset
        elif chance < 0.45:
            state = told.copy()
            store.sync()
            durable.put, durable.commit = state.put, state.commit
        elif chance < 0.53:
            store._detach_tails()
            store._flush_log()
            if chance > 0.5:
                store.compact()
        elif chance < 0.55:
            store._upkeep.rewrite_meta()
        elif chance < 0.57:
            store.upkeep()
        if not alive():
            break


def filled(path: Path) -> None:
    """A closed store with several segments and a journal."""
    with QueueStore(path, durability="none", **SMALL) as store:
        for queue in range(6):
            store.put_many(f"q{queue}", [message(queue, i) for i in range(3000)])
        store.sync()
