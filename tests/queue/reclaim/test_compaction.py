"""Compaction: space of mostly dead segments comes back, and nothing else changes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from dragoman.errors import StorageError, UsageError
from dragoman.queue import QueueStore
from tests.queue.faults import FaultyFiles
from tests.queue.recovery.known_stores import message

SMALL = {"segment_bytes": 1 << 17, "memory_bytes": 1 << 20, "cache_bytes": 1 << 16}
QUEUES = 40


def bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*.seg"))


def thin_out(store: QueueStore, rng: random.Random, rounds: int = 30) -> dict[int, tuple[int, int]]:
    """Put to many queues and trim most; (first, length) by queue."""
    for _ in range(rounds):
        for queue in range(QUEUES):
            name = f"q{queue}"
            start = store.length(name)
            count = rng.randrange(20, 60)
            store.put_many(name, [message(queue, start + i) for i in range(count)])
    store.sync()
    store._flush_log()
    for queue in range(QUEUES):
        name = f"q{queue}"
        if queue % 4:
            store.trim(name, store.length(name) - rng.randrange(100))
    return {
        queue: (store.first_offset(f"q{queue}"), store.length(f"q{queue}"))
        for queue in range(QUEUES)
    }


def check(store: QueueStore, expected: dict[int, tuple[int, int]]) -> None:
    """Every message is where it was."""
    for queue, (first, length) in expected.items():
        name = f"q{queue}"
        assert (store.first_offset(name), store.length(name)) == (first, length)
        got = store.get(name, first, length - first)
        assert got == [message(queue, i) for i in range(first, length)]


@pytest.mark.parametrize("durability", ["none", "always"])
def test_space_of_mostly_dead_segments_comes_back_and_offsets_stay(
    tmp_path: Path, durability: str
) -> None:
    with QueueStore(tmp_path, durability=durability, compact_below=0.5, **SMALL) as store:
        expected = thin_out(store, random.Random(1))
        before = bytes_on_disk(tmp_path)
        assert store.compact() > 0
        check(store, expected)
        now = store.statistics()
        assert bytes_on_disk(tmp_path) < before
        # Within the stated factor of what is alive, and two segments.
        assert bytes_on_disk(tmp_path) <= now.live_bytes / 0.5 + 2 * (1 << 17)
        assert now.compactions > 0 and now.log_bytes == bytes_on_disk(tmp_path)
        assert store.compact() == 0
        expected = thin_out(store, random.Random(2), rounds=3)
        check(store, expected)
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == []
        check(store, expected)
        assert store.verify() == []
    assert not list(tmp_path.glob("*.new"))


def test_it_happens_in_the_background(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        expected = thin_out(store, random.Random(3))
        done = threading.Event()
        for _ in range(200):
            if store.statistics().compactions:
                break
            done.wait(0.05)
        assert store.statistics().compactions
        check(store, expected)


def test_small_blocks_of_a_queue_become_longer_ones(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        # Many queues share the memory, so blocks are short.
        store.put_many([(f"idle{number}", b"") for number in range(8000)])
        store._flush_log()
        for _ in range(3):
            thin_out(store, random.Random(1))
        reads = store.statistics().blocks_read
        store.get("q0", 0, store.length("q0"))
        before = store.statistics().blocks_read - reads
        assert store.compact() > 0
        reads = store.statistics().blocks_read
        got = store.get("q0", 0, store.length("q0"))
        assert got == [message(0, i) for i in range(len(got))]
        assert store.statistics().blocks_read - reads < 0.8 * before


def test_readers_and_writers_notice_nothing(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        expected = thin_out(store, random.Random(4))
        failures: list[BaseException] = []
        ended = threading.Event()
        # So many rounds may be written: on a slow disk a writer makes more to compact than can be.
        rounds = threading.Semaphore(20)

        def read(seed: int) -> None:
            rng = random.Random(seed)
            try:
                while not ended.is_set():
                    queue = rng.randrange(0, QUEUES, 4)
                    first, length = expected[queue]
                    at = rng.randrange(first, length)
                    count = rng.randrange(1, 200)
                    want = [message(queue, i) for i in range(at, min(at + count, length))]
                    got = store.get(f"q{queue}", at, count)
                    assert got[: len(want)] == want
            except BaseException as error:
                failures.append(error)

        def write() -> None:
            try:
                while not ended.is_set():
                    if not rounds.acquire(timeout=0.01):
                        continue
                    for queue in range(QUEUES):
                        start = store.length(f"q{queue}")
                        store.put_many(f"q{queue}", [message(queue, start + i) for i in range(30)])
                        if queue % 4:
                            store.trim(f"q{queue}", start)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=(i,)) for i in range(2)]
        threads.append(threading.Thread(target=write))
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                store.compact()
                store.upkeep()
                rounds.release(10)
                ended.wait(0.02)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert failures == []
        lengths = {q: store.length(f"q{q}") for q in range(QUEUES)}
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.verify() == []
        check(store, {q: (store.first_offset(f"q{q}"), lengths[q]) for q in range(QUEUES)})


def test_it_ends_although_there_is_always_more_to_compact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with QueueStore(tmp_path, durability="none", **SMALL) as store:
        thin_out(store, random.Random(6))
        remove_dead = store._remove_dead
        runs = 0

        def remove_dead_and_make_more() -> int:
            nonlocal runs
            runs += 1
            assert runs < 50, "it compacts what was put meanwhile"
            thin_out(store, random.Random(runs), rounds=10)
            return remove_dead()

        store._ended.set()  # none in the background
        monkeypatch.setattr(store, "_remove_dead", remove_dead_and_make_more)
        assert store.compact() > 0
        assert runs > 0
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("kind", "code"),
    [(kind, errno.EIO) for kind in ("write", "sync", "open", "read", "sync_directory")]
    + [("write", errno.ENOSPC), ("open", errno.EMFILE)],
)
def test_a_disk_that_fails_while_compacting_costs_nothing(
    tmp_path: Path, kind: str, code: int
) -> None:
    for number in (1, 2, 3, 5, 8):
        path = tmp_path / str(number)
        files = FaultyFiles()
        store = QueueStore(path, durability="none", files=files, compact_below=0.5, **SMALL)
        store._ended.set()  # the threads rest: every call below is counted
        expected = thin_out(store, random.Random(1), rounds=12)
        store._flush_log()
        files.fail(kind, number, code)
        failed = False
        try:
            store.compact()
        except StorageError:
            failed = True
        files.rules.clear()
        check(store, expected)
        poisoned = store.statistics().poisoned
        if failed and not poisoned:
            store.compact()
            check(store, expected)
        if poisoned:
            with pytest.raises(StorageError):
                store.close()
        else:
            store.close()
        with QueueStore(path, **SMALL) as store:
            assert store.damage == []
            check(store, expected)
        assert not list(path.glob("*.new"))
        shutil.rmtree(path)


def test_a_crash_with_both_copies_there_gives_each_message_once(tmp_path: Path) -> None:
    path, after = tmp_path / "store", tmp_path / "after"
    with QueueStore(path, durability="none", compact_below=0.9, **SMALL) as store:
        store._ended.set()
        expected = thin_out(store, random.Random(5))
        old = tmp_path / "old"
        store.sync()
        shutil.copytree(path, old)
        store.compact()
        # The state before the others were removed: new segments beside the old ones.
        shutil.copytree(path, after)
        for file in old.glob("*.seg"):
            if not (after / file.name).exists():
                shutil.copy(file, after / file.name)
        shutil.copy(old / "META", after / "META")
    with QueueStore(after, **SMALL) as store:
        assert store.damage == []
        check(store, expected)
        while store.compact():
            pass
        check(store, expected)
    with QueueStore(after, **SMALL) as store:
        assert store.damage == [] and store.verify() == []
        check(store, expected)


def test_a_damaged_segment_is_left_alone(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", compact_below=0.9, **SMALL) as store:
        store._ended.set()
        expected = thin_out(store, random.Random(6))
    wanted = message(0, 3)[:20]
    file = next(f for f in sorted(tmp_path.glob("*.seg")) if wanted in f.read_bytes())
    content = bytearray(file.read_bytes())
    content[content.index(wanted)] ^= 1
    file.write_bytes(content)
    with QueueStore(tmp_path, compact_below=0.9, **SMALL) as store:
        while store.compact():
            pass
        assert file.read_bytes() == content
        for queue in range(1, QUEUES):
            check(store, {queue: expected[queue]})
        assert [(d.queue, d.file) for d in store.verify()] == [(b"q0", file.name)]


def test_memory_and_speed_are_bounded_by_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="compact_below"):
        QueueStore(tmp_path, compact_below=1.5)
    with QueueStore(
        tmp_path, durability="none", compaction_memory_bytes=65536, compact_below=0.9, **SMALL
    ) as store:
        expected = thin_out(store, random.Random(7))
        store.put("q0", os.urandom(300_000))  # larger than all that it may hold
        store.put_many("q0", [b"x" * 100] * 1000)
        first, length = expected.pop(0)
        assert store.compact() >= 0
        check(store, expected)
        assert len(store.get("q0", length)[0]) == 300_000
        assert store.get("q0", first, 5) == [message(0, first + i) for i in range(5)]


def test_a_store_without_compaction_leaves_its_segments(tmp_path: Path) -> None:
    with QueueStore(tmp_path, durability="none", compact_below=None, **SMALL) as store:
        thin_out(store, random.Random(8), rounds=10)
        assert store.compact() == 0 and store.statistics().compactions == 0
