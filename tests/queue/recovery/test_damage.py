"""Flipped bits, files that are missing or cut: what is damaged is named, and the rest is served."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from dragoman.errors import CorruptionError, StorageError, UsageError
from dragoman.queue import QueueStore
from tests.queue.faults import Machine
from tests.queue.recovery.known_stores import SMALL, filled, message


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "store"
    filled(path)
    return path


def read_all(store: QueueStore) -> list[str]:
    """Every message is right or refused; what the refusals said."""
    refused = []
    for queue in range(6):
        name = f"q{queue}"
        at, end = 0, store.length(name)
        while at < end:
            try:
                got = store.get(name, at, 20)
                assert got == [message(queue, at + i) for i in range(len(got))]
            except CorruptionError as error:
                assert name in str(error)
                refused.append(str(error))
            at += 20
    return refused


def test_a_flipped_bit_anywhere_is_never_returned(full: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    names = [name for name in sorted(os.listdir(full)) if name != "LOCK"]
    for number in range(36):
        path = tmp_path / str(number)
        shutil.copytree(full, path)
        name = names[number % len(names)]
        content = bytearray((path / name).read_bytes())
        bit = rng.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(content)
        try:
            with QueueStore(path, read_only=True) as store:
                refused = read_all(store)
                if name.endswith(".seg") and refused:
                    assert any(".seg" in text for text in refused)
        except (CorruptionError, UsageError) as error:
            assert name in str(error) or "version" in str(error)
        shutil.rmtree(path)


def test_damage_in_one_block_is_named_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    wanted = message(2, 40)[:20]
    file = next(file for file in sorted(path.glob("*.seg")) if wanted in file.read_bytes())
    content = bytearray(file.read_bytes())
    at = content.index(wanted)
    content[at] ^= 1
    file.write_bytes(content)
    with QueueStore(path, **SMALL) as store:
        with pytest.raises(CorruptionError, match=rf"queue 'q2'.*{file.name} at \d+") as caught:
            store.get("q2", 40)
        assert "offsets" in str(caught.value)
        assert len(read_all(store)) > 0
        assert store.get("q3", 0, 5) == [message(3, i) for i in range(5)]
        assert [d.queue for d in store.verify()] == [b"q2"]
        assert store.put("q2", b"more") == 3000


@pytest.mark.parametrize("name", ["STORE", "META"])
def test_a_missing_file_that_all_depends_on_is_named(full: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    (path / name).unlink()
    with pytest.raises(CorruptionError, match=f"{name} is missing"):
        QueueStore(path)


def test_a_missing_segment_is_reported_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    (path / "0000000002.seg").unlink()
    with QueueStore(path, **SMALL) as store:
        assert any(damage.file == "0000000002.seg" for damage in store.damage)
        assert read_all(store)
        assert store.get("q5", 2990, 10) == [message(5, i) for i in range(2990, 3000)]


def test_a_truncated_segment_is_reported_and_the_rest_is_served(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "store"
    shutil.copytree(full, path)
    os.truncate(path / "0000000001.seg", 20_000)
    with QueueStore(path, **SMALL) as store:
        assert any(damage.file == "0000000001.seg" for damage in store.damage)
        assert read_all(store)


def test_a_newer_version_is_refused(full: Path, tmp_path: Path) -> None:
    import struct

    from dragoman.queue.disk.crc import crc32c

    path = tmp_path / "store"
    shutil.copytree(full, path)
    content = bytearray((path / "STORE").read_bytes())
    content[8] = 2
    content[60:] = struct.pack("<I", crc32c(content[:60]))
    (path / "STORE").write_bytes(content)
    with pytest.raises(UsageError, match="version 2"):
        QueueStore(path)


def test_a_damaged_frame_is_damage_when_any_later_one_knows_that_it_was_synced(
    tmp_path: Path,
) -> None:
    # Several frames without a sync between them, then a sync, then a frame that knows of it.
    machine = Machine(tmp_path, random.Random(1))
    store = QueueStore(tmp_path, durability="interval(60000)", files=machine)
    frames = []
    for part in range(3):
        store.put_many("q0", [message(0, part * 30_000 + i) for i in range(30_000)])
        deadline = time.monotonic() + 60
        while store.statistics().journal_written == sum(frames):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        frames.append(store.statistics().journal_written - sum(frames))
    store.sync()
    store.put("q0", message(0, 90_000))
    store.sync()
    with machine.lock:
        machine.dead = True
    with pytest.raises(StorageError):
        store.close()
    journal = tmp_path / "0000000001.jnl"
    content = bytearray(journal.read_bytes())
    content[4096 + frames[0] + 200] ^= 1
    journal.write_bytes(content)
    with QueueStore(tmp_path, read_only=True) as store:
        assert any("frame" in damage.reason for damage in store.damage)
        assert store.length("q0") == 90_001
        assert store.get("q0", 90_000) == [message(0, 90_000)]
