"""Groups that share work, and messages of theirs that are damaged on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman.clock import ManualClock
from dragoman.errors import CorruptionError
from dragoman.queue import Message, QueueStore
from dragoman.queue.api.repair import repair

SMALL: dict[str, Any] = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20, "cache_bytes": 0}
LETTERS: dict[str, Any] = {"attempts_max": 3, "dead_letter": "dead"}


def spoiled(path: Path, blocks: int = 3, bad: bytes = b"1-") -> None:
    """A store with a queue of so many blocks of four messages; those of one are not as written."""
    with QueueStore(path, durability="none", **SMALL) as store:
        for block in range(blocks):
            store.put_many("q", [b"%d-%d" % (block, n) * 5 for n in range(4)])
            store._detach_tails()
        store._flush_log()
    spoil(path, bad)


def spoil(path: Path, bad: bytes) -> None:
    hurt = 0
    for file in path.glob("*.seg"):
        data = bytearray(file.read_bytes())
        at = data.find(bad)
        while at >= 0:
            data[at] ^= 1
            hurt += 1
            at = data.find(bad, at + 1)
        file.write_bytes(data)
    assert hurt


def offsets(messages: list[Message]) -> list[int]:
    return [message.offset for message in messages]


@pytest.mark.parametrize("by", [None, 1, lambda body: body[:1]], ids=["", "bytes", "function"])
def test_what_is_before_damage_is_given_and_then_said_where_it_is(by: Any, tmp_path: Path) -> None:
    spoiled(tmp_path)
    with QueueStore(tmp_path, **SMALL) as store:
        worker = store.workers("q", "g", ordered_by=by)
        done: list[int] = []
        while not done or done[-1] < 3:
            taken = worker.take(100)
            done += offsets(taken)
            worker.ack(taken)
        assert done == [0, 1, 2, 3]
        for _ in range(2):
            with pytest.raises(CorruptionError, match=r"offsets 4 to 7.*trim\('q', 5\)"):
                worker.take(100)
        # The way on that it says, message by message.
        for offset in range(4, 8):
            with pytest.raises(CorruptionError, match=rf"trim\('q', {offset + 1}\)"):
                worker.take(100)
            store.trim("q", offset + 1)
        assert offsets(worker.take(100)) == ([8, 9, 10, 11] if by is None else [8])


@pytest.mark.parametrize("mended", [False, True])
@pytest.mark.parametrize("by", [None, 1], ids=["", "by key"])
def test_with_dead_letters_damage_goes_there_and_the_others_go_on(
    by: Any, mended: bool, tmp_path: Path
) -> None:
    path = tmp_path / "store"
    spoiled(path)
    if mended:
        assert repair(path).lost
    with QueueStore(path, **SMALL) as store:
        worker = store.workers("q", "g", ordered_by=by, **LETTERS)
        done: list[int] = []
        for _ in range(30):
            taken = worker.take(100)
            done += offsets(taken)
            worker.ack(taken)
        assert sorted(done) == [0, 1, 2, 3, 8, 9, 10, 11]
        assert store.committed("q", "g") == 12
        letters = store.get("dead", 0, 100)
        assert len(letters) == 4
        assert letters[1].startswith(b"dragoman: the message at offset 5 of queue 'q' is lost: ")
    with QueueStore(path, **SMALL) as store:
        assert store.workers("q", "g", ordered_by=by, **LETTERS).take(9) == []
        assert store.length("dead") == 4


@pytest.mark.parametrize("letters", [True, False])
@pytest.mark.parametrize("by", [None, 1], ids=["", "by key"])
def test_what_is_damaged_after_it_was_given(by: Any, letters: bool, tmp_path: Path) -> None:
    spoiled(tmp_path, bad=b"2-")
    options = {"ordered_by": by, **(LETTERS if letters else {})}
    with QueueStore(tmp_path, **SMALL) as store:
        assert store.workers("q", "g", **options).take(100)
    spoil(tmp_path, b"0-")
    with QueueStore(tmp_path, **SMALL) as store:
        store._clock = ManualClock(1000.0)
        worker = store.workers("q", "g", **options)
        done: list[int] = []
        for _ in range(40):
            try:
                taken = worker.take(100)
            except CorruptionError as error:
                assert not letters
                assert "trim('q', " in str(error)
                store.trim("q", store.first_offset("q") + 1)
                continue
            done += offsets(taken)
            worker.ack(taken)
        assert sorted(done) == [4, 5, 6, 7]
        assert store.committed("q", "g") == 12
        assert store.length("dead") == (8 if letters else 0)
