"""verify and repair: what is damaged is named, what can be had is had, offsets stay."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from dragoman.errors import CorruptionError, DragomanError, LockedError, UsageError
from dragoman.queue import QueueStore
from dragoman.queue.api.repair import repair, verify
from dragoman.queue.disk.crc import crc32c
from tests.queue.recovery.known_stores import message

SMALL = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}
LENGTH = 400


def filled(path: Path) -> None:
    """A closed store: blocks in segments, tails in a journal, a committed position."""
    with QueueStore(path, durability="none", **SMALL) as store:
        for start in range(0, LENGTH, 100):
            for queue in range(6):
                store.put_many(f"q{queue}", [message(queue, start + i) for i in range(100)])
            if start < LENGTH - 100:
                store._detach_tails()
                store._flush_log()
        store.commit("q1", "group", 33)
        store.trim("q2", 10)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "store"
    filled(path)
    return path


def usable(path: Path) -> int:
    """After a repair: clean, messages right or refused, offsets as before; how many refused."""
    assert verify(path) == []
    refused = 0
    with QueueStore(path, durability="none", **SMALL) as store:
        assert store.damage == []
        for queue in range(6):
            name: str | bytes = f"q{queue}"
            if name not in store:
                continue
            for at in range(store.first_offset(name), store.length(name)):
                try:
                    assert store.get(name, at) == [message(queue, at)]
                except CorruptionError:
                    refused += 1
            store.put(name, b"after")
    assert verify(path) == []
    return refused


def test_a_store_that_is_well_is_left_well(full: Path, tmp_path: Path) -> None:
    path = shutil.copytree(full, tmp_path / "store")
    seen: list[tuple[int, int]] = []
    assert verify(path, lambda done, whole: seen.append((done, whole))) == []
    assert seen and seen[-1][0] == seen[-1][1] > 0
    report = repair(path)
    assert report.lost == [] and report.aside is None
    assert usable(path) == 0
    with QueueStore(path, **SMALL) as store:
        assert [store.length(f"q{q}") for q in range(6)] == [LENGTH + 1] * 6
        assert store.committed("q1", "group") == 33 and store.first_offset("q2") == 10


@pytest.mark.parametrize("keep", [True, False])
def test_a_damaged_block_is_given_up_and_offsets_stay(
    full: Path, tmp_path: Path, keep: bool
) -> None:
    path = shutil.copytree(full, tmp_path / "store")
    wanted = message(3, 150)[:20]
    file = next(f for f in sorted(path.glob("*.seg")) if wanted in f.read_bytes())
    content = bytearray(file.read_bytes())
    content[content.index(wanted)] ^= 1
    file.write_bytes(content)
    assert [(d.file, d.queue, d.first, d.messages) for d in verify(path)] == [
        (file.name, b"q3", 100, 100)
    ]
    report = repair(path, keep=keep)
    assert [(d.queue, d.first, d.messages) for d in report.lost] == [(b"q3", 100, 100)]
    assert (report.aside is not None) == keep
    if report.aside is not None:
        assert (report.aside / file.name).read_bytes() == content
    assert usable(path) == 100
    with QueueStore(path, **SMALL) as store:
        with pytest.raises(CorruptionError, match="was lost"):
            store.get("q3", 100)
        assert store.get("q3", 200) == [message(3, 200)]


def test_the_last_block_of_a_queue_may_be_lost_without_its_offsets_coming_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    with QueueStore(path, durability="none", **SMALL) as store:
        store.put_many("q0", [message(0, i) for i in range(100)])
        store._detach_tails()
    file = path / "0000000001.seg"
    content = bytearray(file.read_bytes())
    content[content.index(message(0, 5)[:20])] ^= 1
    file.write_bytes(content)
    assert [(d.first, d.messages) for d in repair(path).lost] == [(0, 100)]
    with QueueStore(path, **SMALL) as store:
        assert store.put("q0", b"next") == 100
    assert verify(path) == []


@pytest.mark.parametrize("name", ["STORE", "META", "0000000001.seg", "jnl"])
def test_a_missing_file_is_made_again_or_given_up(full: Path, tmp_path: Path, name: str) -> None:
    path = shutil.copytree(full, tmp_path / "store")
    if name == "jnl":
        name = next(path.glob("*.jnl")).name
    (path / name).unlink()
    report = repair(path)
    assert report.done and (report.lost or name == "STORE")
    refused = usable(path)
    with QueueStore(path, **SMALL) as store:
        if name == "STORE":
            assert refused == 0 and store.committed("q1", "group") == 33
        if name == "META":
            assert any(queue.startswith(b"recovered/") for queue in store.queues())
            got = store.get("recovered/4", 0, 300)
            assert got == [message(3, i) for i in range(300)]
            assert any("names" in line for line in report.done)
        if name.endswith(".seg"):
            assert refused > 0


def test_what_is_no_store_of_this_version_is_refused_and_left(full: Path, tmp_path: Path) -> None:
    path = shutil.copytree(full, tmp_path / "store")
    content = bytearray((path / "STORE").read_bytes())
    content[8] = 2
    content[60:] = struct.pack("<I", crc32c(bytes(content[:60])))
    (path / "STORE").write_bytes(content)
    with pytest.raises(UsageError, match="version 2"):
        repair(path)
    assert (path / "STORE").read_bytes() == content
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "STORE").write_bytes(b"something else")
    with pytest.raises(CorruptionError):
        repair(foreign)
    with pytest.raises(UsageError, match="no queue store"):
        repair(tmp_path / "nowhere")
    with QueueStore(full, **SMALL), pytest.raises(LockedError):
        repair(full)


@pytest.mark.parametrize("seed", range(30))
def test_after_flipped_bits_and_cuts_anywhere_a_repair_leaves_a_clean_store(
    full: Path, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    path = shutil.copytree(full, tmp_path / "store")
    names = sorted(name for name in os.listdir(path) if name != "LOCK")
    name = names[seed % len(names)]
    content = bytearray((path / name).read_bytes())
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.7:
            bit = rng.randrange(len(content) * 8)
            content[bit // 8] ^= 1 << bit % 8
        else:
            content = content[: rng.randrange(len(content))]
        if not content:
            break
    (path / name).write_bytes(content)
    try:
        damaged = verify(path) != []
    except DragomanError:
        damaged = True
    report = repair(path)
    assert not report.lost or damaged
    usable(path)
