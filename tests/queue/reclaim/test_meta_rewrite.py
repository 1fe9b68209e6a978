"""META rewritten: it stays about as long as what it says, and a crash leaves the old or the new."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import pytest

from dragoman.errors import StorageError
from dragoman.queue import QueueStore
from dragoman.queue.api import upkeep
from tests.queue.faults import FaultyFiles

SMALL = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "META_DEAD_BYTES", 2000)


def filled(queue_store: QueueStore, rounds: int = 60) -> dict[str, tuple[int, int, int]]:
    """Queues with trims and commits, some deleted; (first, length, committed) of the others."""
    for number in range(40):
        name = f"q{number}"
        queue_store.put_many(name, [b"%d" % i for i in range(100)])
        queue_store.put(f"gone{number}", b"")
    queue_store.put("a name too long for its place in memory", b"x")
    for round_ in range(rounds):
        for number in range(0, 40, 3):
            queue_store.commit(f"q{number}", "group", round_)
            queue_store.trim(f"q{number}", round_ // 2)
    for number in range(40):
        queue_store.delete(f"gone{number}")
    return {
        f"q{number}": (
            queue_store.first_offset(f"q{number}"),
            100,
            queue_store.committed(f"q{number}", "group"),
        )
        for number in range(40)
    }


def check(queue_store: QueueStore, expected: dict[str, tuple[int, int, int]]) -> None:
    names = {name.decode() for name in queue_store.queues()}
    assert names >= set(expected) and not any(name.startswith("gone") for name in names)
    for name, (first, length, committed) in expected.items():
        assert (queue_store.first_offset(name), queue_store.length(name)) == (first, length)
        assert queue_store.committed(name, "group") == committed
        got = queue_store.get(name, first, 100)
        assert got == [b"%d" % i for i in range(first, length)]


@pytest.mark.parametrize("durability", ["none", "interval(1)", "always"])
def test_a_meta_that_is_mostly_dead_is_rewritten(tmp_path: Path, durability: str) -> None:
    with QueueStore(tmp_path, durability=durability, **SMALL) as opened:
        opened._ended.set()  # its own thread rests
        expected = filled(opened)
        opened.sync()
        before = (tmp_path / "META").stat().st_size
        opened.upkeep()
        assert opened.statistics().meta_rewrites == 1
        assert (tmp_path / "META").stat().st_size < before / 5
        opened.upkeep()
        assert opened.statistics().meta_rewrites == 1
        # And it goes on in the new file.
        assert opened.put("later", b"1") == 0
        opened.commit("q1", "group", 77)
        expected["q1"] = (*expected["q1"][:2], 77)
        check(opened, expected)
    with QueueStore(tmp_path, **SMALL) as opened:
        assert opened.damage == []
        check(opened, expected)
        assert opened.get("later", 0) == [b"1"]
        # Numbers of deleted queues do not come back.
        assert opened.put("gone0", b"anew") == 0
        assert opened._id("gone0") > 81
        opened._upkeep.rewrite_meta()
    with QueueStore(tmp_path, **SMALL) as opened:
        assert opened.damage == [] and opened.get("gone0", 0, 9) == [b"anew"]
    assert not (tmp_path / "META.new").exists()


def test_a_removed_segment_is_not_missing_after_it(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as opened:
        opened.put_many("q", [bytes(1000)] * 1000)
        opened.sync()
        opened.trim("q", 900)
        opened.upkeep()
        assert not (tmp_path / "0000000001.seg").exists()
        opened._upkeep.rewrite_meta()
    with QueueStore(tmp_path, **SMALL) as opened:
        assert opened.damage == []
        opened.delete("q")
        opened.sync()
        opened.upkeep()
        opened._upkeep.rewrite_meta()
    with QueueStore(tmp_path, **SMALL) as opened:
        assert opened.damage == [] and opened.put("q", b"") == 0


def test_a_missing_segment_is_still_missing_after_it(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as opened:
        opened.put_many("q", [bytes(1000)] * 1000)
    (tmp_path / "0000000003.seg").unlink()
    for _ in range(2):
        with QueueStore(tmp_path, **SMALL) as opened:
            assert opened.damage[0].file == "0000000003.seg"
            opened._upkeep.rewrite_meta()


def test_puts_commits_and_trims_go_on_meanwhile(tmp_path: Path) -> None:
    committed: dict[str, int] = {}
    with QueueStore(tmp_path, durability="interval(1)", **SMALL) as opened:
        filled(opened)
        ended = threading.Event()
        failures: list[BaseException] = []

        def work(part: int) -> None:
            number = 0
            try:
                while not ended.is_set():
                    number += 1
                    name = f"new{part}-{number % 500}"
                    opened.put(name, b"%d" % number)
                    opened.commit(name, "group", opened.length(name))
                    committed[name] = opened.length(name)
                    if number % 7 == 0:
                        opened.delete(name)
                        del committed[name]
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(part,)) for part in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            opened._upkeep.rewrite_meta()
        ended.set()
        for thread in threads:
            thread.join()
        assert failures == [] and opened.statistics().meta_rewrites >= 30
    with QueueStore(tmp_path, **SMALL) as opened:
        assert opened.damage == []
        names = {name.decode() for name in opened.queues() if name.startswith(b"new")}
        assert names == set(committed)
        for name, position in committed.items():
            assert opened.length(name) == opened.committed(name, "group") == position


@pytest.mark.parametrize("kind", ["write", "sync", "open", "read", "sync_directory"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_meanwhile_costs_nothing(tmp_path: Path, kind: str, code: int) -> None:
    for number in (1, 2, 3):
        path = tmp_path / str(number)
        files = FaultyFiles()
        opened = QueueStore(path, durability="none", files=files, **SMALL)
        opened._ended.set()  # the threads rest: every call below is counted
        expected = filled(opened, rounds=20)
        opened.sync()
        files.fail(kind, number, code)
        try:
            opened._upkeep.rewrite_meta()
            failed = False
        except StorageError:
            failed = True
        files.rules.clear()
        check(opened, expected)
        poisoned = opened.statistics().poisoned
        assert poisoned == (failed and kind == "sync_directory")
        if poisoned:
            with pytest.raises(StorageError):
                opened.close()
        else:
            opened._upkeep.rewrite_meta()
            opened.close()
        with QueueStore(path, **SMALL) as opened:
            assert opened.damage == []
            check(opened, expected)
        shutil.rmtree(path)


def test_a_half_written_new_meta_is_removed(tmp_path: Path) -> None:
    with QueueStore(tmp_path, **SMALL) as opened:
        expected = filled(opened, rounds=3)
    (tmp_path / "META.new").write_bytes(b"half")
    with QueueStore(tmp_path, read_only=True) as opened:
        check(opened, expected)
    assert (tmp_path / "META.new").exists()
    with QueueStore(tmp_path, **SMALL) as opened:
        check(opened, expected)
    assert not (tmp_path / "META.new").exists()
