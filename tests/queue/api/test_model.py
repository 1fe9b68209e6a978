"""Random operations against a plain dictionary: whatever is done, the store says the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dragoman.queue import QueueStore

NAMES = st.sampled_from(["a", "b", "a much longer name than fits", "\u00e9", "/", "\0"])
SIZES = st.one_of(st.integers(0, 300), st.sampled_from([4000, 59_999, 70_000]))


class Model:
    """One queue as a list, with what was trimmed as a number."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.first = 0
        self.groups: dict[str, int] = {}


class StoreMachine(RuleBasedStateMachine):
    """The store beside the model."""

    @initialize(durability=st.sampled_from(["none", "interval(1)", "always"]))
    def open(self, durability: str) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.durability = durability
        self.model: dict[str, Model] = {}
        self.count = 0
        self._open()

    def _open(self) -> None:
        self.store = QueueStore(
            self.path,
            durability=self.durability,
            segment_bytes=1 << 16,
            memory_bytes=1 << 20,
            compact_below=0.8,
            cache_bytes=1 << 14,
        )

    def _message(self, size: int) -> bytes:
        self.count += 1
        return (b"%d " % self.count).ljust(size, b".")[:size]

    @rule(name=NAMES, size=SIZES)
    def put(self, name: str, size: int) -> None:
        message = self._message(size)
        queue = self.model.setdefault(name, Model())
        assert self.store.put(name, message) == len(queue.messages)
        queue.messages.append(message)

    @rule(name=NAMES, sizes=st.lists(st.integers(0, 200), max_size=300))
    def put_many(self, name: str, sizes: list[int]) -> None:
        new = [self._message(size) for size in sizes]
        if new:
            queue = self.model.setdefault(name, Model())
            start = len(queue.messages)
            assert self.store.put_many(name, new) == list(range(start, start + len(new)))
            queue.messages += new

    @rule(name=NAMES, offset=st.integers(0, 400), count=st.integers(0, 100))
    def get(self, name: str, offset: int, count: int) -> None:
        queue = self.model.get(name, Model())
        offset = max(offset, queue.first)
        assert self.store.get(name, offset, count) == queue.messages[offset : offset + count]

    @rule(name=NAMES, before=st.integers(0, 500))
    def trim(self, name: str, before: int) -> None:
        self.store.trim(name, before)
        if name in self.model:
            queue = self.model[name]
            queue.first = max(queue.first, min(before, len(queue.messages)))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        assert self.store.delete(name) == (self.model.pop(name, None) is not None)

    @rule(name=NAMES, group=st.sampled_from(["g", "h"]), back=st.integers(0, 5))
    def commit(self, name: str, group: str, back: int) -> None:
        if name in self.model:
            queue = self.model[name]
            position = max(0, len(queue.messages) - back)
            self.store.commit(name, group, position)
            queue.groups[group] = position

    @rule()
    def sync(self) -> None:
        self.store.sync()

    @rule()
    def upkeep(self) -> None:
        self.store.upkeep()

    @rule()
    def blocks(self) -> None:
        self.store._detach_tails()
        self.store._flush_log()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def rewrite(self) -> None:
        self.store._upkeep.rewrite_meta()

    @rule(most=st.integers(1, 200))
    def retain(self, most: int) -> None:
        # Whole blocks go, so what remains is the store's to say, and at least that much.
        self.store._trim_lengths(most)
        for name, queue in self.model.items():
            first = self.store.first_offset(name)
            assert queue.first <= first <= max(queue.first, len(queue.messages) - most)
            queue.first = first

    @rule(name=NAMES, count=st.integers(0, 50))
    def consume(self, name: str, count: int) -> None:
        queue = self.model.get(name, Model())
        consumer = self.store.consumer(name, "consumer")
        start = max(queue.groups.get("consumer", 0), queue.first)
        assert consumer.read(count) == queue.messages[start : start + count]
        consumer.commit()
        if name in self.model:
            queue.groups["consumer"] = min(start + count, len(queue.messages))

    @rule()
    def verify(self) -> None:
        assert self.store.verify() == []

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self._open()
        assert self.store.damage == []

    @invariant()
    def all_is_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        assert set(self.store.queues()) == {name.encode() for name in self.model}
        for name, queue in self.model.items():
            assert self.store.length(name) == len(queue.messages)
            assert self.store.first_offset(name) == queue.first
            assert {g: self.store.committed(name, g) for g in queue.groups} == queue.groups

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for name, queue in self.model.items():
                got = self.store.get(name, queue.first, len(queue.messages))
                assert got == queue.messages[queue.first :]
            self.store.close()
            shutil.rmtree(self.path)


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase
