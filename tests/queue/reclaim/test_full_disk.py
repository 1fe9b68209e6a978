"""A disk that is full: puts say so, reads go on, and what goes gives its space back."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from pathlib import Path

import pytest

from dragoman.errors import StorageError
from dragoman.queue import QueueStore
from dragoman.queue.api.upkeep import Upkeep
from tests.load_factor import load_factor
from tests.queue.faults import FaultyFiles, Machine, SmallDisk
from tests.queue.recovery.known_stores import SMALL, message
from tests.waiting import until_sync


def put_until_full(store: QueueStore, name: str, queue: int, files: SmallDisk) -> int:
    """Messages until one is refused; the queue's length then."""
    while True:
        length = store.length(name)
        try:
            store.put_many(name, [message(queue, length + i) for i in range(200)])
            store._detach_tails()
            store.sync()
            store._flush_log()
        except StorageError as error:
            assert error.errno == errno.ENOSPC
            return length
        assert length < 100_000


@pytest.mark.parametrize("durability", ["always", "none"])
@pytest.mark.parametrize("way", ["trim", "delete", "retention"])
def test_what_goes_gives_space_back_although_the_disk_is_full(
    tmp_path: Path, durability: str, way: str
) -> None:
    files = SmallDisk(1500)
    with QueueStore(
        tmp_path, durability=durability, files=files, journal_bytes=1 << 20, **SMALL
    ) as store:
        length = put_until_full(store, "q1", 1, files)
        assert store.get("q1", 0, 10) == [message(1, i) for i in range(10)]
        assert store.get("q1", length - 10, 10) == [message(1, length - 10 + i) for i in range(10)]
        segments = store.statistics().segments
        for before in range(1, 300):
            # META needs more than what is left of its last block.
            store.trim("q1", before)
        if way == "trim":
            store.trim("q1", length // 2)
        elif way == "delete":
            store.delete("q1")
        else:
            store._upkeep.retention.messages = length // 2
        deadline = time.monotonic() + 60
        while True:
            try:
                store.upkeep()
                assert store.statistics().segments < segments
                store.put("q2", b"there is room again")
                store.sync()
                break
            except StorageError as error:
                # Until the writers have tried again.
                assert error.errno == errno.ENOSPC and time.monotonic() < deadline
                time.sleep(0.01)
        kept = 0 if way == "delete" else store.length("q1")
    with QueueStore(tmp_path, durability=durability, **SMALL) as store:
        assert store.damage == []
        assert store.get("q2", store.length("q2") - 1) == [b"there is room again"]
        assert store.length("q1") == kept
        if kept:
            assert kept >= length
            first = store.first_offset("q1")
            assert first >= length // 2 - 2000
            assert store.get("q1", first, kept) == [message(1, i) for i in range(first, kept)]


@pytest.mark.parametrize("durability", ["interval(5)", "always", "none"])
def test_upkeep_by_itself_gives_space_back_and_does_not_complain_all_the_time(
    tmp_path: Path,
    durability: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The journal is at its bound, too: nothing leaves it while the log cannot be written.
    monkeypatch.setattr("dragoman.queue.api.background.UPKEEP_S", 0.05)
    files = SmallDisk(1500)
    with QueueStore(
        tmp_path,
        durability=durability,
        files=files,
        segment_bytes=1 << 16,
        memory_bytes=1 << 20,
        journal_bytes=1 << 20,
    ) as store:
        length = 0
        with pytest.raises(StorageError) as refused:
            while length < 100_000:
                store.put_many("q1", [message(1, length + i) for i in range(200)])
                length = store.length("q1")
                if durability == "none":
                    store._detach_tails()
                    store.sync()
        assert refused.value.errno == errno.ENOSPC
        time.sleep(0.5)
        store.trim("q1", length // 2)
        deadline = time.monotonic() + 60
        while True:
            try:
                store.put("q2", b"there is room again")
                store.sync()
                break
            except StorageError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) < 20, said
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.damage == [] and store.length("q2") > 0


@pytest.mark.parametrize("durability", ["interval(5)", "always"])
def test_nothing_is_promised_while_the_journal_cannot_be_written(
    tmp_path: Path, durability: str
) -> None:
    files = FaultyFiles()
    with QueueStore(tmp_path, durability=durability, files=files, **SMALL) as store:
        store.put("q", b"before")
        store.sync()
        files.sticky["write"] = errno.ENOSPC
        with pytest.raises(StorageError):
            store.put("q", b"not acknowledged, or not yet synced")
            store.sync()
        assert store.length("q") == 2
        for _ in range(3):
            with pytest.raises(StorageError):
                store.put("q", b"refused")
            with pytest.raises(StorageError):
                store.put_many([("q", b"refused"), ("q", b"as well")])
        assert store.length("q") == 2
        files.sticky.clear()
        deadline = time.monotonic() + 60
        while store.length("q") == 2:
            try:
                store.put("q", b"after")
            except StorageError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    with QueueStore(tmp_path, **SMALL) as store:
        assert [m[:5] for m in store.get("q", 0, 9)] == [b"befor", b"not a", b"after"]


@pytest.mark.slow
def test_opening_says_that_the_disk_is_full_instead_of_waiting_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLog(FaultyFiles):
        def open(self, name: str, flags: int) -> int:
            if name.endswith(".seg") and flags & os.O_CREAT:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().open(name, flags)

    # More in the journal than memory holds for the log's writer, of a log that was never synced,
    # which upkeep would do after a second.
    monkeypatch.setattr(Upkeep, "run_due", lambda _: None)
    before = Machine(tmp_path, random.Random(1))
    store = QueueStore(tmp_path, durability="interval(60000)", files=before, memory_bytes=1 << 20)
    for _ in range(160):
        store.put("q", bytes(1 << 20))
    store.sync()
    before.dead = True
    with pytest.raises(StorageError):
        store.close()
    for file in tmp_path.glob("*.seg"):
        file.unlink()
    with pytest.raises(StorageError) as failed:
        QueueStore(tmp_path, files=NoLog(), memory_bytes=1 << 20)
    assert failed.value.errno == errno.ENOSPC
    monkeypatch.undo()
    with QueueStore(tmp_path, memory_bytes=1 << 20) as store:
        assert store.damage == [] and store.length("q") == 160


def test_a_sync_comes_to_its_end_beside_puts_without_a_pause(tmp_path: Path) -> None:
    # Whenever the log is written there is one block more to write.
    class Busy(FaultyFiles):
        store: QueueStore | None = None
        more = 0

        def write(self, fd: int, data: bytes, offset: int) -> int:
            if self.store is not None and threading.current_thread() is log and self.more < 500:
                self.more += 1
                self.store.put("q", bytes(100_000))
            return super().write(fd, data, offset)

    files = Busy()
    with QueueStore(tmp_path, durability="none", files=files, **SMALL) as store:
        log = next(thread for thread in store._threads if thread.name == "dragoman-queue-log")
        files.store = store
        store.put("q", bytes(100_000))
        store.sync()
        assert 0 < files.more < 400
        files.store = None


def test_a_sync_ends_although_meta_cannot_be_written(tmp_path: Path) -> None:
    # All messages are in the journal, and only the disk's word for it is missing.
    files = FaultyFiles()
    store = QueueStore(tmp_path, durability="interval(60000)", files=files)
    for _ in range(3):
        store.put("q", bytes(1 << 20))
    until_sync(lambda: store.statistics().journal_written > 3 << 20)
    store.commit("q", "group", 1)
    files.sticky["write"] = errno.ENOSPC
    told: list[StorageError] = []

    def sync() -> None:
        try:
            store.sync()
        except StorageError as error:
            told.append(error)

    waiting = threading.Thread(target=sync, daemon=True)
    waiting.start()
    waiting.join(15 * load_factor())
    assert not waiting.is_alive()
    assert [error.errno for error in told] == [errno.ENOSPC]
    # It is tried again now and then, not all the time, and nothing gathers meanwhile.
    before = files.calls["write"]
    time.sleep(1.0)
    assert files.calls["write"] - before < 100
    files.sticky.clear()
    until_sync(lambda: not store.statistics().poisoned and synced(store))
    store.close()
    assert (tmp_path / "META").stat().st_size < 1000
    with QueueStore(tmp_path) as store:
        assert store.damage == [] and store.length("q") == 3
        assert store.committed("q", "group") == 1


def synced(store: QueueStore) -> bool:
    try:
        store.sync()
    except StorageError:
        return False
    return True
