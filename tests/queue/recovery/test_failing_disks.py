"""Disks that fail, are full or may not be written: an error, and nothing acknowledged is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dragoman.errors import DragomanError, StorageError
from dragoman.queue import QueueStore
from tests.queue.faults import FaultyFiles
from tests.queue.recovery.known_stores import SMALL, check_store, filled, message


def test_after_a_failed_sync_nothing_is_acknowledged(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = QueueStore(tmp_path, durability="always", files=files, **SMALL)
    store.put("q", b"good")
    files.fail("sync", 1)
    for _ in range(3):
        with pytest.raises(StorageError, match="sync has failed"):
            store.put("q", b"bad")
    with pytest.raises(StorageError):
        store.sync()
    assert store.statistics().poisoned
    assert store.get("q", 0, 1) == [b"good"]
    with pytest.raises(StorageError):
        store.close()
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.get("q", 0, 1) == [b"good"]


@pytest.mark.parametrize("durability", ["always", "none"])
def test_a_full_disk_is_an_error_and_puts_go_on_when_there_is_space(
    tmp_path: Path, durability: str
) -> None:
    files = FaultyFiles()
    with QueueStore(tmp_path, durability=durability, files=files, **SMALL) as store:
        store.put("q", b"before")
        files.sticky["write"] = errno.ENOSPC
        with pytest.raises(StorageError, match="No space left") as caught:
            if durability == "always":
                store.put("q", b"during")
            else:
                store.sync()
        assert caught.value.errno == errno.ENOSPC
        del files.sticky["write"]
        deadline = time.monotonic() + 5
        while True:
            try:
                store.put("q", b"after")
                store.sync()
                break
            except StorageError:
                assert time.monotonic() < deadline
    with QueueStore(tmp_path, **SMALL) as store:
        messages = store.get("q", 0, 100)
        assert messages[0] == b"before" and messages[-1] == b"after"


def test_short_writes_are_completed(tmp_path: Path) -> None:
    files = FaultyFiles()
    files.short_writes = True
    with QueueStore(tmp_path, durability="always", files=files, **SMALL) as store:
        for queue in range(3):
            store.put_many(f"q{queue}", [message(queue, i) for i in range(2000)])
    check_store(tmp_path, {0: 2000, 1: 2000, 2: 2000})


def test_a_failed_read_is_an_error_and_the_next_is_not(tmp_path: Path) -> None:
    files = FaultyFiles()
    filled(tmp_path)
    with QueueStore(tmp_path, files=files, **SMALL) as store:
        files.fail("read", 1)
        with pytest.raises(StorageError, match="Input/output error"):
            store.get("q0", 0)
        assert store.get("q0", 0) == [message(0, 0)]


@pytest.mark.parametrize("kind", ["write", "sync", "open", "sync_directory"])
def test_every_nth_call_may_fail_and_nothing_acknowledged_is_lost(
    tmp_path: Path, kind: str
) -> None:
    for number in range(1, 14):
        path = tmp_path / f"{kind}{number}"
        files = FaultyFiles()
        files.fail(kind, number)
        told: dict[int, int] = {}
        try:
            with QueueStore(path, durability="always", files=files, **SMALL) as store:
                for round_ in range(6):
                    for queue in range(3):
                        start = store.length(f"q{queue}")
                        new = [message(queue, start + i) for i in range(150)]
                        store.put_many(f"q{queue}", new)
                        told[queue] = start + 150
                    assert round_ >= 0
        except DragomanError:
            pass
        check_store(path, told)


def test_a_directory_that_cannot_be_written_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store"
    filled(path)
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    code = (
        "import os, sys\n"
        "from dragoman.errors import StorageError\n"
        "from dragoman.queue import QueueStore\n"
        "os.setuid(65534)\n"
        "try: QueueStore(sys.argv[1])\n"
        "except StorageError as error: print(error); sys.exit(7)"
    )
    for directory in [tmp_path, *tmp_path.parents]:
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    os.chmod(path, 0o555)
    if os.getuid() == 0:
        result = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
        assert result.returncode == 7
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before


@pytest.mark.parametrize("code", [errno.EPERM, errno.EIO])
def test_a_torn_end_that_may_not_be_cut_is_an_error_that_says_why(
    tmp_path: Path, code: int
) -> None:
    """EPERM is what an immutable file gives; its number is -1, which may mean an exception too."""
    with QueueStore(tmp_path / "lived", durability="always", **SMALL) as store:
        for number in range(20):
            store.put_many(f"q{number}", [b"x" * 1000] * 100)
        # As a kill would leave it: the last segment has no end.
        shutil.copytree(tmp_path / "lived", tmp_path / "left")
    files = FaultyFiles()
    files.sticky["truncate"] = code
    with pytest.raises(StorageError, match="the last segment") as caught:
        QueueStore(tmp_path / "left", files=files, **SMALL)
    assert caught.value.errno == code
    with QueueStore(tmp_path / "left", **SMALL) as store:
        assert all(store.length(f"q{number}") == 100 for number in range(20))
