"""Random work beside a plain model of it, on a clock of its own, with crashes: whatever happens,
each message is with one worker at a time, none is lost, and the order of keys is kept."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dragoman.clock import ManualClock
from dragoman.queue import Message, QueueStore, Workers

from .numbered import SMALL

MAX = 4
LEASE_S = 1.0


@dataclass
class Known:
    """What the model knows of a message."""

    body: bytes
    given: int = 0  # as the workers were told, so a first attempt may be one too many
    until_s: float = 0.0  # when its lease ends; 0: nobody has it
    later_s: float = 0.0  # not before then
    done: bool = False
    forgotten: bool = False  # done, but a crash may have lost that
    holder: Message | None = None


@dataclass
class Model:
    """The whole of it."""

    path: Path
    seed: int
    durability: str
    keyed: bool
    known: list[Known] = field(default_factory=list)
    crashes: int = 0

    def run(self, steps: int) -> None:
        self.rng = random.Random(self.seed)
        self.clock = ManualClock(50.0)
        self.place = self.path / "0"
        self.open()
        choices = [self.put, self.take, self.take, self.ack, self.ack, self.nack, self.extend]
        choices += [self.wait, self.crash, self.reopen, self.upkeep]
        for _ in range(steps):
            self.rng.choice(choices)()
        self.drain()
        self.store.close()

    def open(self) -> None:
        self.store = QueueStore(self.place, durability=self.durability, **SMALL)
        self.store._clock = self.clock
        self.workers: list[Workers] = [
            self.store.workers(
                "q",
                "g",
                lease_ms=round(1000 * LEASE_S),
                attempts_max=MAX,
                dead_letter="dead",
                ordered_by=1 if self.keyed else None,
                window=40,
            )
            for _ in range(3)
        ]

    def put(self) -> None:
        bodies = [
            b"%c %d" % (self.rng.choice(b"abc"), len(self.known) + i)
            for i in range(self.rng.randrange(1, 20))
        ]
        self.store.put_many("q", bodies)
        self.known += map(Known, bodies)
        if self.durability != "always":
            self.store.sync()  # what is lost of puts is for other tests

    def take(self) -> None:
        count = self.rng.randrange(1, 12)
        now_s = self.clock.monotonic()
        for message in self.rng.choice(self.workers).take(count):
            known = self.known[message.offset]
            assert message.body == known.body
            assert not known.done or known.forgotten
            assert known.until_s <= now_s and known.later_s <= now_s
            assert known.given < message.attempts <= known.given + 1 + self.crashes
            assert message.attempts <= MAX
            if self.keyed:
                before = [known for known in self.known[: message.offset] if not known.done]
                if any(known.body[:1] == message.body[:1] for known in before):
                    self.buried()
                assert not any(
                    known.body[:1] == message.body[:1] for known in before if not known.done
                )
            known.given = message.attempts
            known.until_s = now_s + LEASE_S
            known.done = known.forgotten = False
            known.holder = message
        self.buried()

    def buried(self) -> None:
        """What is in the dead letters had all of its attempts."""
        for body in self.store.get("dead", 0, self.store.length("dead")):
            known = self.known[int(body[2:])]
            assert known.body == body and known.given >= MAX - self.crashes
            known.done, known.holder = True, None

    def held(self) -> list[Known]:
        held = [known for known in self.known if known.holder is not None and not known.done]
        return self.rng.sample(held, min(len(held), self.rng.randrange(6)))

    def messages(self, held: list[Known]) -> list[Message]:
        return [known.holder for known in held if known.holder is not None]

    def ack(self) -> None:
        held = self.held()
        worker = self.rng.choice(self.workers)
        if worker.ack(self.messages(held)) < len(held):
            # Of a lease that had ended: it counts, unless the group was let go of meanwhile.
            held = [known for known in held if worker.ack(self.messages([known]))]
        for known in held:
            known.done, known.until_s = True, 0.0

    def nack(self) -> None:
        held, delay_s = self.held(), self.rng.choice([0, 0, 0.5, 3])
        now_s = self.clock.monotonic()
        worker = self.rng.choice(self.workers)
        for known in held:
            # Refused where the group was let go of after the lease had ended.
            if worker.nack(self.messages([known]), delay_ms=1000 * delay_s):
                known.until_s, known.holder = 0.0, None
                if known.given < MAX and delay_s:
                    known.later_s = now_s + delay_s

    def extend(self) -> None:
        held = self.held()
        for known in held:
            if self.workers[0].extend(self.messages([known])):
                known.until_s = self.clock.monotonic() + LEASE_S

    def wait(self) -> None:
        self.clock.advance(self.rng.choice([0.1, 0.5, 1.1, 4]))

    def upkeep(self) -> None:
        self.rng.choice([self.store.upkeep, self.store.sync, self.store._upkeep.rewrite_meta])()
        if self.rng.random() < 0.3:
            worked = self.store._work
            for group in worked.known():
                group.retire(save=True)

    def _back(self, lost: bool) -> None:
        for known in self.known:
            known.until_s = known.later_s = 0.0
            known.holder = None
            known.forgotten = known.forgotten or (lost and known.done)
        self.open()

    def reopen(self) -> None:
        self.store.close()
        self._back(lost=False)

    def crash(self) -> None:
        """What kill -9 leaves: the files as they are now."""
        self.crashes += 1
        following = self.path / str(self.crashes)
        shutil.copytree(self.place, following)
        self.store.close()
        shutil.rmtree(self.place)
        self.place = following
        self._back(lost=self.durability != "always")

    def drain(self) -> None:
        """In the end everything is done, by a worker or in the dead letters."""
        for _ in range(500):
            self.take()
            for known in self.known:
                if known.holder is not None and not known.done and known.until_s:
                    assert self.workers[0].ack(known.holder) == 1
                    known.done, known.until_s = True, 0.0
            if self.store.committed("q", "g") == len(self.known):
                break
            self.clock.advance(1)
        self.buried()
        assert self.store.committed("q", "g") == len(self.known)
        assert [known for known in self.known if not known.done] == []


SEEDS = range(4)


@pytest.mark.parametrize("keyed", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("durability", ["none", "interval(5)", "always"])
@pytest.mark.parametrize("seed", SEEDS)
def test_work_is_as_the_model_says(seed: int, durability: str, keyed: bool, tmp_path: Path) -> None:
    Model(tmp_path, seed, durability, keyed).run(120)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("keyed", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("durability", ["none", "interval(5)", "always"])
def test_much_work_is_as_the_model_says(durability: str, keyed: bool, tmp_path: Path) -> None:
    for seed in range(100, 150):
        place = tmp_path / str(seed)
        place.mkdir()
        Model(place, seed, durability, keyed).run(200)
        shutil.rmtree(place)
