"""Groups that share work: leases, attempts, dead letters, order by key, and the position."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import StorageError
from dragoman.queue import QueueStore, Workers
from tests.queue.api.test_closing import DURABILITIES
from tests.queue.work.numbered import SMALL, filled, offsets


def test_each_message_is_with_one_worker_at_a_time(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    one, two = store.workers("q", "g"), store.workers(b"q", b"g")
    taken = one.take(3)
    assert [(m.offset, m.attempts, m.body) for m in taken] == [
        (0, 1, b"0"),
        (1, 1, b"1"),
        (2, 1, b"2"),
    ]
    assert offsets(two.take(3)) == [3, 4, 5]
    assert offsets(one.take(100)) == [6, 7, 8, 9]
    assert two.take(100) == one.take() == []
    other = store.workers("q", "other group")
    assert offsets(other.take(2)) == [0, 1]
    store.close()


def test_the_position_follows_what_is_done_without_a_gap(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(6)
    assert worker.ack([taken[1], taken[4]]) == 2
    assert store.groups("q").get(b"g", 0) == store.committed("q", "g") == 0
    assert worker.ack(taken[0]) == 1
    assert store.groups("q") == {b"g": 2}
    assert worker.ack(taken) == 6
    assert store.committed("q", "g") == 6
    assert worker.ack(taken) == 6  # done is done
    store.close()


def test_a_message_is_given_again_after_its_lease(tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 3)
    worker, slow = store.workers("q", "g", lease_ms=1000), store.workers("q", "g", lease_ms=5000)
    late = worker.take(1)
    slow.take(2)
    clock.advance(0.999)
    assert worker.take(9) == []
    clock.advance(0.002)
    again = worker.take(9)
    assert [(m.offset, m.attempts) for m in again] == [(0, 2)]
    # Who was late has it no more.
    assert (worker.ack(late), worker.nack(late), worker.extend(late)) == (0, 0, 0)
    assert worker.ack(again) == 1
    clock.advance(5)
    assert [(m.offset, m.attempts) for m in worker.take(9)] == [(1, 2), (2, 2)]
    store.close()


def test_who_is_late_counts_while_nobody_else_was_given_it(tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 3)
    worker = store.workers("q", "g", lease_ms=1000)
    taken = worker.take(3)
    clock.advance(2)
    assert worker.take(1)[0].offset == 0
    assert worker.ack(taken) == 2
    assert store.committed("q", "g") == 0
    clock.advance(2)
    assert [(m.offset, m.attempts) for m in worker.take(9)] == [(0, 3)]
    store.close()


def test_nack_gives_it_again_at_once_or_after_its_delay(tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 3)
    worker = store.workers("q", "g")
    taken = worker.take(3)
    assert worker.nack(taken[2]) == 1
    assert worker.nack(taken[:1], delay_ms=500) == 1
    assert [(m.offset, m.attempts) for m in worker.take(9)] == [(2, 2)]
    clock.advance(0.4)
    assert worker.take(9) == []
    clock.advance(0.2)
    assert [(m.offset, m.attempts) for m in worker.take(9)] == [(0, 2)]
    assert worker.nack(taken[:1]) == 0
    store.close()


def test_extend_keeps_it(tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 2)
    worker = store.workers("q", "g", lease_ms=1000)
    taken = worker.take(2)
    for _ in range(5):
        clock.advance(0.8)
        assert worker.extend(taken[0]) == 1
    assert offsets(worker.take(9)) == [1]
    assert worker.extend(taken[0], lease_ms=60_000) == 1
    clock.advance(59)
    assert offsets(worker.take(9)) == [1]
    assert worker.ack(taken[0]) == 1
    store.close()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_after_its_last_attempt_a_message_is_in_the_dead_letters(
    durability: str, tmp_path: Path
) -> None:
    store, clock = filled(tmp_path, 4, durability=durability)
    worker = store.workers("q", "g", lease_ms=1000, attempts_max=3, dead_letter="dead")
    for attempt in (1, 2):
        taken = worker.take(9)
        assert [m.attempts for m in taken] == [attempt] * 4
        worker.nack(taken[:1])
        clock.advance(2)
    # What has ended by itself may have killed its worker: the last time it is given alone.
    assert [offsets(worker.take(9)) for _ in range(4)] == [[0], [1], [2], [3]]
    assert store.length("dead") == 0
    clock.advance(2)
    assert worker.take(9) == []
    assert store.get("dead", 0, 9) == [b"0", b"1", b"2", b"3"]
    assert store.committed("q", "g") == 4
    store.close()
    with QueueStore(tmp_path) as again:
        assert again.get("dead", 0, 9) == [b"0", b"1", b"2", b"3"]
        assert again.workers("q", "g").take(9) == []


def test_what_was_given_back_may_be_given_the_last_time_with_others(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 4)
    worker = store.workers("q", "g", attempts_max=2, dead_letter="dead")
    worker.nack(worker.take(9))
    taken = worker.take(9)
    assert offsets(taken) == [0, 1, 2, 3]
    worker.nack(taken[1:])
    worker.ack(taken[:1])
    assert store.get("dead", 0, 9) == [b"1", b"2", b"3"]
    assert store.committed("q", "g") == 4
    store.close()


def test_dead_letters_that_cannot_be_put_are_put_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = filled(tmp_path, 3)
    worker = store.workers("q", "g", attempts_max=1, dead_letter="dead")
    taken = worker.take(1)

    def refuse(*_: Any) -> list[int]:
        raise StorageError("no space", errno=28)

    with monkeypatch.context() as patched:
        patched.setattr(QueueStore, "put_many", refuse)
        assert worker.nack(taken) == 1
        assert store.committed("q", "g") == 0
        # The others go on.
        assert worker.ack(worker.take(9)) == 2
    assert store.committed("q", "g") == 0
    assert worker.take(9) == []
    clock.advance(2)
    assert worker.take(9) == []
    assert (store.get("dead", 0, 9), store.committed("q", "g")) == ([b"0"], 3)
    store.close()


BY: list[Any] = [1, b"-", "-", lambda body: body[:1]]


@pytest.mark.parametrize("by", BY, ids=["bytes", "end", "text", "function"])
def test_of_one_key_a_message_waits_for_the_one_before(by: Any, tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 1)
    store.put_many("k", [b"a-0", b"b-1", b"a-2", b"a-3", b"c-4", b"b-5"])
    worker = store.workers("k", "g", lease_ms=1000, ordered_by=by)
    taken = worker.take(9)
    assert [m.body for m in taken] == [b"a-0", b"b-1", b"c-4"]
    assert worker.take(9) == []
    worker.ack(taken[1])
    assert [m.body for m in worker.take(9)] == [b"b-5"]
    worker.nack(taken[0], delay_ms=100)
    assert worker.take(9) == []
    clock.advance(0.2)
    (again,) = worker.take(9)
    assert (again.body, again.attempts) == (b"a-0", 2)
    worker.ack(again)
    (following,) = worker.take(9)
    assert (following.body, following.attempts) == (b"a-2", 1)
    clock.advance(2)
    assert [m.body for m in worker.take(9)] == [b"a-2", b"c-4", b"b-5"]
    store.close()


def test_a_window_bounds_what_is_looked_at(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 100)
    worker = store.workers("q", "g", window=10)
    taken = worker.take(50)
    assert len(taken) == 10
    worker.ack(taken[1:])
    assert worker.take(50) == []
    worker.ack(taken[0])
    assert offsets(worker.take(5)) == [10, 11, 12, 13, 14]
    store.put_many("k", [b"same"] * 50)
    keyed = store.workers("k", "g", window=10, ordered_by=4)
    for number in range(50):
        (message,) = keyed.take(9)
        assert message.offset == number
        keyed.ack(message)
    assert keyed.take() == []
    store.close()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_is_done_out_of_order_is_kept_over_closing(durability: str, tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 10, durability=durability)
    worker = store.workers("q", "g", attempts_max=5, dead_letter="dead")
    taken = worker.take(6)
    worker.ack(taken[2:5])
    worker.nack(taken[:1])
    worker.take(1)
    store.close()
    for _ in range(2):
        store, _ = filled(tmp_path, durability=durability)
        assert list(store.groups("q")) in ([b"g"], [])
        store._upkeep.rewrite_meta()
        store.close()
    store, _ = filled(tmp_path, durability=durability)
    worker = store.workers("q", "g", attempts_max=5, dead_letter="dead")
    assert [(m.offset, m.attempts) for m in worker.take(99)] == [
        (0, 3),
        (1, 2),
        (5, 2),
        (6, 1),
        (7, 1),
        (8, 1),
        (9, 1),
    ]
    store.close()


def test_a_position_set_by_hand_ends_what_is_out(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(5)
    worker.ack(taken[1:3])
    store.commit("q", "g", 2)
    assert worker.ack(taken) == 0
    assert offsets(worker.take(99)) == list(range(2, 10))
    store.commit("q", "g", 0)
    store.close()
    with QueueStore(tmp_path) as again:
        assert offsets(again.workers("q", "g").take(99)) == list(range(10))


def test_a_queue_deleted_under_its_workers_begins_anew(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(5)
    worker.ack(taken[:3])
    store.delete("q")
    assert worker.take(5) == [] and worker.ack(taken) == 0
    store.put_many("q", [b"new 0", b"new 1"])
    assert worker.ack(taken) == 0
    assert [m.body for m in worker.take(5)] == [b"new 0", b"new 1"]
    assert len(store._work.known()) == 1
    store.close()


def test_what_is_trimmed_under_its_workers_is_passed_over(tmp_path: Path) -> None:
    store, clock = filled(tmp_path, 10)
    worker = store.workers("q", "g", lease_ms=1000)
    taken = worker.take(3)
    store.trim("q", 2)
    clock.advance(2)
    assert offsets(worker.take(2)) == [2, 3]
    store.trim("q", 8)
    assert offsets(worker.take(9)) == [8, 9]
    assert worker.ack(taken) == 3
    keyed = store.workers("q", "keyed", ordered_by=lambda _: 0)
    assert offsets(keyed.take(9)) == [8]
    store.trim("q", 10)
    store.put("q", b"last")
    assert offsets(keyed.take(9)) == [10]
    store.close()


def test_workers_of_a_queue_that_is_not_there_wait_for_it(tmp_path: Path) -> None:
    store = QueueStore(tmp_path, **SMALL)
    worker = store.workers("none", "g")
    assert worker.take(wait_ms=5) == []
    threading.Timer(0.05, lambda: store.put("none", b"first")).start()
    assert [m.body for m in worker.take(9, wait_ms=60_000)] == [b"first"]
    store.close()


def test_workers_are_what_they_say(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    assert isinstance(worker, Workers) and "queue b'q', group b'g'" in repr(worker)
    assert repr(worker.take()[0]) == "<Message offset=0 attempts=1 1 bytes>"
    store.close()
