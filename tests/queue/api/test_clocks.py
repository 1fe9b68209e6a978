"""A wall clock that is wrong, and a disk that takes nothing: bounded, and said."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path

import pytest

from dragoman.errors import StorageError
from dragoman.queue import QueueStore
from tests.queue.faults import SmallDisk
from tests.queue.reclaim.test_retention import fill
from tests.queue.recovery.known_stores import SMALL


def test_a_clock_that_jumps_ahead_drops_nothing_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with QueueStore(tmp_path, durability="none", retention_s=3600, **SMALL) as store:
        fill(store, 5)
        store.sync()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 86_400)
        for _ in range(5):
            store.upkeep()
        assert store.first_offset("old") == 0
        assert caplog.text.count("the clock jumped ahead") == 1


def test_messages_that_are_stamped_in_the_future_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with QueueStore(tmp_path, durability="none", retention_s=3600, **SMALL) as store:
        fill(store, 5)
        store.sync()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() - 86_400)
        for _ in range(5):
            store.upkeep()
        assert 86_000 < store.statistics().stamped_ahead_s <= 86_400
        assert caplog.text.count("stamped in the future") == 1
        monkeypatch.undo()
        store.upkeep()
        assert store.statistics().stamped_ahead_s == 0


def test_a_disk_that_takes_nothing_costs_no_more_memory_than_is_allowed(tmp_path: Path) -> None:
    memory_bytes = 8 << 20
    files = SmallDisk(100)
    with QueueStore(
        tmp_path,
        durability="none",
        files=files,
        memory_bytes=memory_bytes,
        cache_bytes=0,
        segment_bytes=1 << 20,
    ) as store:
        taken = 0
        with pytest.raises(StorageError) as caught:
            while taken < 40 * memory_bytes:
                store.put("q", b"x" * 300_000)
                taken += 300_000
        assert caught.value.errno == errno.ENOSPC
        assert taken < 2 * memory_bytes
        files.blocks = 1 << 30
        until_s = time.monotonic() + 60
        while True:
            try:
                store.sync()
                break
            except StorageError:
                assert time.monotonic() < until_s
                time.sleep(0.05)
