"""Faults while a store is being opened: a disk that fails, kill -9 and power loss at each call.

Each store has had a life that ended somewhere; then openings follow each other, each with a fault
of its own, on one machine whose page cache survives processes and not the power. In the end the
store opens, nothing is damaged, and all is there that was durable at any time: what a user had
been told, and what any opening that succeeded had shown.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.errors import CorruptionError, DragomanError, StorageError
from dragoman.queue import QueueStore
from tests.queue.faults import Machine
from tests.queue.recovery.known_stores import SMALL, Told, live, message

FAULTS = ("kill", "power", "error", "errors", "full")


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A directory in memory where there is one: what is durable is the machine's to say."""
    root = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=root if root.is_dir() else None) as path:
        yield Path(path)


def lived(root: Path, rng: random.Random) -> tuple[Machine, Told]:
    """A machine on which a store was used until its process ended, and what was durable then."""
    machine = Machine(root, rng)
    told, durable = Told(), Told()
    durability = rng.choice(["always", "always", "none", "interval(5)"])
    machine.dies_at = rng.choice([0, rng.randrange(30, 400)])
    with contextlib.suppress(DragomanError):
        store = QueueStore(root, durability=durability, files=machine, compact_below=0.8, **SMALL)
        try:
            live(store, rng, told, durable)
            if rng.random() < 0.5:
                with machine.lock:
                    machine.dead = True
        finally:
            store.close()
        durable = told
    durable.trim = told.trim
    return machine.revived(), durable


def seen(store: QueueStore, durable: Told) -> None:
    """All that is durable is there and right; what else is there is durable from now on."""
    assert store.damage == []
    for queue, length in durable.put.items():
        assert store.length(f"q{queue}") >= length, f"queue {queue}"
    for name in store.queues():
        queue = int(name[1:])
        first, end = store.first_offset(name), store.length(name)
        assert first <= durable.trim.get(queue, 0)
        assert store.get(name, first, end) == [message(queue, i) for i in range(first, end)]
        position = store.committed(name, "group")
        assert position >= durable.commit.get(queue, 0)
        durable.put[queue] = end
        durable.commit[queue] = position


def used(store: QueueStore, machine: Machine, durable: Told) -> None:
    """The store is used, perhaps until its process is killed."""
    told = durable.copy()
    with machine.lock:
        machine.dies_at = machine.rng.choice([0, machine.total + machine.rng.randrange(1, 150)])
    with contextlib.suppress(DragomanError):
        live(store, machine.rng, told, durable)
    durable.trim = told.trim


def opened(machine: Machine, durable: Told, close: bool, goes_on: bool = False) -> bool:
    """Whether the store opens, and if ``goes_on`` is used. Nothing is left behind in any case."""
    threads = threading.active_count()
    try:
        store = QueueStore(machine.root, durability="always", files=machine, **SMALL)
    except CorruptionError as error:
        raise AssertionError("what fails is not damage") from error
    except StorageError:
        assert threading.active_count() == threads
        assert not machine.open_files
        return False
    try:
        with machine.lock:
            # What would fail from now on fails later than opening.
            machine.dies_at = machine.fails_at = 0
            alive = not machine.dead
        if alive:
            seen(store, durable)
        if alive and goes_on:
            used(store, machine, durable)
        if not close:
            with machine.lock:
                machine.dead = True
    finally:
        with contextlib.suppress(StorageError):
            store.close()
    return alive


def fault(machine: Machine, kind: str, at: int) -> None:
    """What happens at call ``at`` of the next process."""
    machine.revived()
    if kind in ("kill", "power"):
        machine.dies_at = at
    else:
        machine.fails_at = at
        machine.fails_on = kind != "error"
        if kind == "full":
            machine.code = errno.ENOSPC
            machine.kinds = ("write",)


def after(machine: Machine, kind: str, target: Path) -> Machine:
    """The machine on which the next process finds what that fault has left."""
    machine.revived()
    if kind != "power":
        return machine
    machine.crash(target, machine.rng)
    shutil.rmtree(machine.root)
    return Machine(target, machine.rng)


def calls_of_opening(machine: Machine, target: Path) -> int:
    """How many calls an opening makes that nothing disturbs."""
    trial = machine.fork(target)
    store = QueueStore(trial.root, durability="always", files=trial, **SMALL)
    result = trial.total
    store.close()
    shutil.rmtree(target)
    return result


def every_step(memory_path: Path, seed: int, step: int) -> int:
    """One fault at each call of an opening, then one that nothing disturbs. How many openings."""
    rng = random.Random(seed)
    numbers = itertools.count()
    base, told = lived(memory_path / "base", rng)
    if rng.random() < 0.5:
        base = after(base, "power", memory_path / "lost")
    calls = calls_of_opening(base, memory_path / "trial")
    for kind in FAULTS:
        for at in range(1 + rng.randrange(step), calls + 3, step):
            durable = told.copy()
            machine = base.fork(memory_path / str(next(numbers)))
            fault(machine, kind, at)
            opened(machine, durable, True)
            machine = after(machine, kind, memory_path / str(next(numbers)))
            assert opened(machine, durable, at % 2 == 0)
            # What it showed is durable, whether or not it was closed.
            machine = after(machine, "power", memory_path / str(next(numbers)))
            assert opened(machine, durable, True)
            shutil.rmtree(machine.root)
    shutil.rmtree(base.root)
    return next(numbers)


def fault_after_fault(memory_path: Path, seed: int) -> None:
    """Openings of which each meets a fault somewhere, until one does not."""
    rng = random.Random(seed)
    machine, durable = lived(memory_path / "0", rng)
    for number in range(1, 9):
        kind = rng.choice(FAULTS)
        fault(machine, kind, rng.randrange(1, 80))
        opened(machine, durable, rng.random() < 0.5, goes_on=rng.random() < 0.5)
        machine = after(machine, kind, memory_path / str(number))
        if rng.random() < 0.4:
            assert opened(machine, durable, rng.random() < 0.5, goes_on=rng.random() < 0.7)
            machine = after(machine, rng.choice(["power", "kill"]), memory_path / f"{number}b")
    assert opened(machine, durable, True)
    assert opened(machine.revived(), durable, True)
    shutil.rmtree(machine.root)


def test_a_fault_at_any_step_of_opening_loses_nothing(memory_path: Path) -> None:
    openings = sum(every_step(memory_path, seed, 5) for seed in range(6))
    assert openings > 100


def test_fault_after_fault_loses_nothing(memory_path: Path) -> None:
    for seed in range(60):
        fault_after_fault(memory_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_fault_at_every_step_of_opening_many_stores_loses_nothing(memory_path: Path) -> None:
    openings = sum(every_step(memory_path, seed, 1) for seed in range(1000, 1150))
    print(f"{openings} openings")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_faults_after_faults_lose_nothing(memory_path: Path) -> None:
    for seed in range(1000, 5000):
        fault_after_fault(memory_path, seed)
