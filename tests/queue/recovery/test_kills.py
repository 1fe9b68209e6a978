"""Processes that put until kill -9: what was acknowledged is there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.queue.recovery.known_stores import Told, check_store

WRITER = """
import sys, random
sys.path.insert(0, ".")
from tests.queue.recovery.known_stores import SMALL, message
from dragoman.queue import QueueStore
from dragoman.queue.api import background, upkeep
upkeep.META_DEAD_BYTES = 3000
background.COMPACTION_S = background.UPKEEP_S = 0.01
store = QueueStore(sys.argv[1], durability=sys.argv[2], compact_below=0.7, **SMALL)
rng = random.Random(int(sys.argv[3]))
while True:
    queue = rng.randrange(30)
    name = "q%d" % queue
    offset = store.length(name)
    if rng.random() < 0.2:
        count = rng.randrange(1, 60)
        store.put_many(name, [message(queue, offset + i) for i in range(count)])
        offset += count - 1
    else:
        store.put(name, message(queue, offset))
    if rng.random() < 0.002 and sys.argv[2] == "none":
        store.sync()
        print("sync", flush=True)
    print("put", queue, offset + 1, flush=True)
    if rng.random() < 0.1 and queue % 5:
        before = max(0, offset - rng.randrange(150))
        print("trim", queue, before, flush=True)
        store.trim(name, before)
    if rng.random() < 0.003:
        store._detach_tails()
    if rng.random() < 0.1:
        store.commit(name, "group", offset)
        print("commit", queue, offset, flush=True)
    if rng.random() < 0.002:
        now = store.statistics()
        print("did", now.compactions, now.meta_rewrites, flush=True)
"""


def killed_cycle(path: Path, durability: str, seed: int, after_s: float) -> Told:
    """Let a process put until it is killed; what it had been told."""
    command = [sys.executable, "-c", WRITER, str(path), durability, str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    lines = [first, *process.stdout.read().splitlines(keepends=True)]
    process.stdout.close()
    process.wait()
    told = Told()
    durable = Told()
    did = (0, 0)
    for line in lines:
        if not line.endswith("\n"):
            continue
        kind, *numbers = line.split()
        if kind == "sync":
            durable = told.copy()
        elif kind == "did":
            did = (int(numbers[0]), int(numbers[1]))
        else:
            queue, value = map(int, numbers)
            if kind == "trim":
                value = max(value, told.trim.get(queue, 0))
            getattr(told, kind)[queue] = value
    result = durable if durability == "none" else told
    result.trim = told.trim
    result.compactions, result.rewrites = did
    return result


def cycles(tmp_path: Path, count: int) -> None:
    rng = random.Random(7)
    compactions = rewrites = 0
    for durability in ("always", "none"):
        path = tmp_path / durability
        lengths: dict[int, int] = {}
        trims: dict[int, int] = {}
        for number in range(count):
            told = killed_cycle(path, durability, number, rng.uniform(0, 0.3))
            for queue, before in told.trim.items():
                trims[queue] = max(before, trims.get(queue, 0))
            told.trim = trims
            compactions += told.compactions
            rewrites += told.rewrites
            found = check_store(path, told, durability)
            assert all(found[queue] >= length for queue, length in lengths.items())
            lengths = found
    print(f"{2 * count} kills, at least {compactions} compactions, {rewrites} META rewritten")
    assert count < 50 or (compactions and rewrites)


def test_what_was_acknowledged_survives_kill(tmp_path: Path) -> None:
    cycles(tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_was_acknowledged_survives_hundreds_of_kills(tmp_path: Path) -> None:
    cycles(tmp_path, 250)
