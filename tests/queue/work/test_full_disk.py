"""Groups that share work while the disk is full: no attempt is lost, no letter is multiplied."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from dragoman.clock import ManualClock
from dragoman.errors import StorageError
from dragoman.queue import QueueStore
from tests.queue.api.test_closing import DURABILITIES
from tests.queue.faults import FaultyFiles


def opened(path: Path, durability: str) -> tuple[QueueStore, FaultyFiles, ManualClock]:
    files = FaultyFiles()
    store = QueueStore(
        path, durability=durability, segment_bytes=1 << 16, memory_bytes=4 << 20, files=files
    )
    clock = ManualClock(1000.0)
    store._clock = clock
    store.put_many("q", [b"%d" % n for n in range(20)])
    return store, files, clock


@pytest.mark.parametrize("durability", DURABILITIES)
def test_dead_letters_are_not_put_again_and_again(durability: str, tmp_path: Path) -> None:
    store, files, clock = opened(tmp_path, durability)
    worker = store.workers("q", "g", lease_ms=36_000_000, attempts_max=1, dead_letter="dead")
    taken = worker.take(5)
    store.sync()
    files.sticky["write"] = errno.ENOSPC
    for some in (taken[:2], taken[2:]):
        try:
            worker.nack(some)
        except StorageError:
            assert durability == "always"
    for _ in range(10):
        clock.advance(2)
        with pytest.raises(StorageError):
            worker.take(1)
    assert store.length("dead") == 5 or (durability != "none" and store.length("dead") == 2)
    files.sticky.clear()
    for _ in range(1000):
        clock.advance(2)
        try:
            worker.take(1)
            store.sync()
        except StorageError:
            time.sleep(0.01)  # the writers have not tried again yet
            continue
        if store.committed("q", "g") == 5:
            break
    assert store.committed("q", "g") == 5
    # A put that was refused may be there.
    assert store.length("dead") == 5 or (durability == "always" and store.length("dead") <= 10)
    assert set(store.get("dead", 0, 99)) == {b"0", b"1", b"2", b"3", b"4"}
    store.close()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("by", [None, 2])
@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_could_not_be_noted_was_no_attempt(
    durability: str, by: int | None, again: bool, tmp_path: Path
) -> None:
    store, files, clock = opened(tmp_path, durability)
    worker = store.workers(
        "q", "g", lease_ms=1000, attempts_max=2, dead_letter="dead", ordered_by=by
    )
    if again:
        worker.nack(worker.take(20))
    store.sync()
    files.sticky["write"] = errno.ENOSPC
    for _ in range(5):
        with pytest.raises(StorageError):
            worker.take(20)
        clock.advance(2)
    files.sticky.clear()
    for _ in range(1000):
        try:
            taken = worker.take(20)
            break
        except StorageError:
            clock.advance(2)
            time.sleep(0.01)
    assert [(m.offset, m.attempts) for m in taken] == [(n, 1 + again) for n in range(20)]
    assert worker.ack(taken) == 20
    assert store.length("dead") == 0
    assert store.committed("q", "g") == 20
    store.close()
