"""Losses of power: what was synced is there, and nothing is ahead of it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from dragoman.errors import StorageError
from dragoman.queue import QueueStore
from tests.queue.faults import Machine, PowerLoss
from tests.queue.recovery.known_stores import SMALL, Told, check_store, live, message


def lose_power(tmp_path: Path, seed: int) -> tuple[int, int]:
    """One run until the power goes, somewhere; (compactions, rewritings) before that."""
    rng = random.Random(seed)
    root = tmp_path / f"store{seed}"
    after = tmp_path / f"after{seed}"
    told, durable, at_crash = Told(), Told(), Told()
    done = (0, 0)

    def crash(files: PowerLoss) -> None:
        nonlocal at_crash
        with files.lock:
            if not after.exists():
                at_crash = durable.copy()
                at_crash.trim = dict(told.trim)
                files.crash(after, rng)

    files = PowerLoss(root, rng.randrange(20, 300), crash)
    durability = rng.choice(["always", "none", "interval(5)"])
    store = QueueStore(root, durability=durability, files=files, compact_below=0.8, **SMALL)
    live(store, rng, told, durable, lambda: not after.exists())
    statistics = store.statistics()
    done = (statistics.compactions, statistics.meta_rewrites)
    crash(files)
    files.at = 0
    store.close()
    lengths = check_store(after, at_crash)
    for queue, length in lengths.items():
        assert length <= told.put[queue]
    # Recovery may itself be followed by another opening.
    again = Told(put=lengths, trim=at_crash.trim)
    assert check_store(after, again) == lengths
    shutil.rmtree(root)
    shutil.rmtree(after)
    return done


def lose_power_often(tmp_path: Path, seeds: range) -> None:
    results = [lose_power(tmp_path, seed) for seed in seeds]
    compactions = sum(compactions for compactions, _ in results)
    rewrites = sum(rewrites for _, rewrites in results)
    print(f"{len(seeds)} losses, {compactions} compactions, {rewrites} META rewritten")
    assert len(seeds) < 20 or (compactions and rewrites)


def test_what_was_synced_survives_the_loss_of_power(tmp_path: Path) -> None:
    lose_power_often(tmp_path, range(40))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_what_was_synced_survives_thousands_of_losses_of_power(tmp_path: Path) -> None:
    lose_power_often(tmp_path, range(1000, 6000))


def test_the_end_of_a_torn_write_proves_nothing_for_its_beginning(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        for part in range(8):
            store.put_many("q0", [message(0, part * 50 + i) for i in range(50)])
            store._detach_tails()
    # Nothing says that the segment had been synced, whose directory and trailer are there.
    for file in tmp_path.glob("*.jnl"):
        file.unlink()
    meta = (tmp_path / "META").read_bytes()
    (tmp_path / "META").write_bytes(meta[:-25])
    segment = tmp_path / "0000000001.seg"
    content = bytearray(segment.read_bytes())
    content[12288:12800] = bytes(512)
    segment.write_bytes(content)
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.verify() == []
        length = store.length("q0")
        assert 0 < length < 400
        assert store.get("q0", 0, 400) == [message(0, i) for i in range(length)]
    assert check_store(tmp_path, {0: length}) == {0: length}


def test_a_group_is_never_ahead_of_its_queue_after_a_loss_of_power(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "before", random.Random(1))
    store = QueueStore(tmp_path / "before", durability="none", files=machine, **SMALL)
    store.put_many("q0", [message(0, i) for i in range(10)])
    store.sync()
    store.put_many("q0", [b"lost"] * 10)
    store.commit("q0", "group", 20)
    store._sync_meta(True)
    with machine.lock:
        machine.dead = True
    with pytest.raises(StorageError):
        store.close()
    machine.crash(tmp_path / "after", random.Random(1))
    path = tmp_path / "after"
    with QueueStore(path, read_only=True, **SMALL) as store:
        assert (store.length("q0"), store.committed("q0", "group")) == (10, 10)
    with QueueStore(path, **SMALL) as store:
        assert store.committed("q0", "group") == 10
        store.put_many("q0", [message(0, i) for i in range(10, 30)])
    with QueueStore(path, **SMALL) as store:
        assert store.committed("q0", "group") == 10
        read = store.consumer("q0", "group").read(100)
        assert read == [message(0, i) for i in range(10, 30)]
