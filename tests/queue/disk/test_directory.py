"""A store keeps to the directory that it opened, whatever becomes of its path, and has it alone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.errors import LockedError, StorageError, UsageError
from dragoman.queue import QueueStore
from dragoman.queue.api.repair import repair, verify

SMALL: dict[str, int] = {"segment_bytes": 1 << 16, "memory_bytes": 4 << 20, "cache_bytes": 0}


def fill(store: QueueStore, count: int) -> None:
    """More than a segment and a file of the journal hold."""
    store.put_many("q", [b"%07d" % n * 100 for n in range(count)])


@pytest.mark.parametrize("durability", ["none", "interval(5)", "always"])
def test_a_directory_that_is_renamed_stays_the_stores(durability: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    store = QueueStore(old, durability=durability, **SMALL)
    fill(store, 500)
    old.rename(new)
    with QueueStore(old, durability=durability, **SMALL) as other:
        fill(other, 10)
        fill(store, 500)
        other.put("other", b"o")
        store.put("store", b"s")
        store.upkeep()
        assert store.get("q", 999, 2) == [b"%07d" % 499 * 100]
        assert other.length("q") == 10
        store.compact()
        store.close()
    for path, length, queues in ((new, 1000, [b"q", b"store"]), (old, 10, [b"q", b"other"])):
        assert verify(path) == []
        with QueueStore(path) as again:
            assert again.length("q") == length and list(again.queues()) == queues


def test_a_relative_path_is_the_directory_of_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with QueueStore("store", **SMALL) as store:
        monkeypatch.chdir(tmp_path / "there")
        with QueueStore("store", **SMALL) as other:
            fill(store, 2000)
            fill(other, 3)
            store.compact()
    assert verify(tmp_path / "here/store") == verify(tmp_path / "there/store") == []
    with QueueStore(tmp_path / "here/store") as store:
        assert store.length("q") == 2000


@pytest.mark.parametrize("durability", ["interval(5)", "always"])
def test_nothing_is_acknowledged_once_the_files_were_removed(
    durability: str, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    store = QueueStore(path, durability=durability, **SMALL)
    store.put("q", b"before")
    store.sync()
    shutil.rmtree(path)
    with QueueStore(path, **SMALL) as other:
        with pytest.raises(StorageError, match="removed or replaced") as caught:
            store.put("q", b"after")
            store.sync()
        assert caught.value.errno == errno.ESTALE
        with pytest.raises(StorageError, match="removed or replaced"):
            store.put("q", b"after")
        assert other.put("q", b"other") == 0
        with pytest.raises(StorageError, match="removed or replaced"):
            store.close()
        store.close()
    assert verify(path) == []


def test_a_lock_that_was_removed_lets_nobody_in_and_is_noticed(tmp_path: Path) -> None:
    store = QueueStore(tmp_path, **SMALL)
    (tmp_path / "LOCK").unlink()
    with pytest.raises(LockedError):
        QueueStore(tmp_path)
    with pytest.raises(StorageError, match="removed or replaced"):
        store.upkeep()
    with pytest.raises(StorageError, match="removed or replaced"):
        store.put("q", b"m")
    with pytest.raises(StorageError):
        store.close()
    QueueStore(tmp_path).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_only_a_lock_of_another_is_called_locked(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched, pytest.raises(StorageError) as caught:
        patched.setattr(fcntl, "flock", flock)
        QueueStore(tmp_path)
    assert not isinstance(caught.value, LockedError) and not caught.value.retry_safe
    assert caught.value.errno == number and str(tmp_path / "LOCK") in str(caught.value)
    with QueueStore(tmp_path), pytest.raises(LockedError):
        QueueStore(tmp_path)


def test_a_file_system_that_locks_files_only_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with QueueStore(tmp_path), pytest.raises(LockedError):
        QueueStore(tmp_path)


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_looking_where_nothing_is_makes_nothing(options: dict[str, bool], tmp_path: Path) -> None:
    for path in (tmp_path / "a/b", tmp_path):
        with pytest.raises(UsageError, match="there is no queue store here"):
            QueueStore(path, **options)
    assert list(tmp_path.iterdir()) == []


def test_opening_by_many_at_once_has_one_winner(tmp_path: Path) -> None:
    for _ in range(20):
        path = tmp_path / "store"
        begun = threading.Barrier(8)
        won: list[QueueStore] = []
        lost: list[LockedError] = []

        def open_it(
            path: Path = path, begun: threading.Barrier = begun, won: list[QueueStore] = won,
            lost: list[LockedError] = lost,
        ) -> None:  # fmt: skip
            begun.wait()
            try:
                won.append(QueueStore(path, **SMALL))
            except LockedError as error:
                lost.append(error)

        threads = [threading.Thread(target=open_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and len(lost) == 7
        won[0].close()
        shutil.rmtree(path)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def large_sectors(tmp_path: Path) -> Iterator[Path]:
    """An ext4 on a device with sectors of 4,096 bytes."""
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    try:
        device = run("losetup", "-b", "4096", "-f", "--show", str(image))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device with sectors of 4,096 bytes can be had here: {error}")
    try:
        run("mkfs.ext4", "-q", "-b", "4096", device)
        run("mount", device, str(mount))
        try:
            yield mount / "store"
        finally:
            run("umount", str(mount))
    finally:
        run("losetup", "-d", device)


def test_sectors_of_4096_bytes_are_read_as_they_must_be(large_sectors: Path) -> None:
    with QueueStore(large_sectors, **SMALL) as store:
        for n in range(300):
            store.put("small", b"%d" % n)
        fill(store, 1000)
    with QueueStore(large_sectors, **SMALL) as store:
        assert store.statistics().direct
        assert store.get("small", 0, 300) == [b"%d" % n for n in range(300)]
        assert store.get_many([("q", n, 1) for n in range(1000)]) == [
            [b"%07d" % n * 100] for n in range(1000)
        ]
        assert store.verify() == []
    with QueueStore(large_sectors, read_only=True) as store:
        assert store.get("q", 999) == [b"%07d" % 999 * 100]
    assert repair(large_sectors).lost == []
