"""Groups that share work: each message to one worker at a time, at least once, none lost."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman.clock import ManualClock
from dragoman.errors import StorageError, UsageError
from dragoman.queue import AsyncQueueStore, Message, QueueStore, Workers
from tests.queue.api.test_closing import CLOSED, DURABILITIES
from tests.queue.api.test_forking import FOREIGN, ended, in_child

SMALL: dict[str, Any] = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20}


def filled(path: Path, count: int = 10, **options: Any) -> tuple[QueueStore, ManualClock]:
    store = QueueStore(path, **{**SMALL, **options})
    clock = ManualClock(1000.0)
    store._clock = clock
    if store.length("q") == 0:
        store.put_many("q", [b"%d" % i for i in range(count)])
    return store, clock


def offsets(messages: list[Message]) -> list[int]:
    return [message.offset for message in messages]


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
        store._renew_meta()
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


WRONG: list[tuple[Callable[[QueueStore], Any], str]] = [
    (lambda s: s.workers("q", "g", lease_ms=0), "lease_ms is a whole number"),
    (lambda s: s.workers("q", "g", lease_ms=1.5), "lease_ms is"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g", attempts_max=3), "go together"),
    (lambda s: s.workers("q", "g", dead_letter="d"), "go together"),
    (lambda s: s.workers("q", "g", attempts_max=0, dead_letter="d"), "attempts_max is 1 to"),
    (lambda s: s.workers("q", "g", attempts_max=3, dead_letter="q"), "another queue"),
    (lambda s: s.workers("q", "g", ordered_by=0), "ordered_by is"),
    (lambda s: s.workers("q", "g", ordered_by=[]), "ordered_by is"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g", window=0), "window is"),
    (lambda s: s.workers("", "g"), "1 to 65536"),
    (lambda s: s.workers("q", ""), "1 to 1024"),
    (lambda s: s.workers("q", b"\0dragoman.workers\0x"), "the store's own"),
    (lambda s: s.commit("q", b"\0dragoman.workers\0x", 1), "the store's own"),
    (lambda s: s.workers("q", "g").take(0), "1 to 100000 messages"),
    (lambda s: s.workers("q", "g").take("1"), "1 to 100000 messages"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g").take(wait_ms=-1), "wait_ms is"),
    (lambda s: s.workers("q", "g").ack([5]), "no messages that take"),  # type: ignore[list-item]
    (lambda s: s.workers("q", "g").ack(None), "no messages that take"),  # type: ignore[arg-type]
    (lambda s: s.workers("q", "g").nack([], delay_ms=-1), "a delay is"),
    (lambda s: s.workers("q", "g").extend([], lease_ms=0), "a lease is"),
]


@pytest.mark.parametrize(("call", "reason"), WRONG, ids=range(len(WRONG)))
def test_misuse_of_workers_is_refused_with_a_reason(
    call: Callable[[QueueStore], Any], reason: str, tmp_path: Path
) -> None:
    store, _ = filled(tmp_path)
    with pytest.raises(UsageError, match=reason):
        call(store)
    store.close()


def test_workers_of_one_group_agree_on_its_settings(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    one = store.workers("q", "g", ordered_by=1)
    two = store.workers("q", "g", ordered_by=2)
    taken = one.take(1)
    with pytest.raises(UsageError, match="other attempts_max, dead_letter, ordered_by or window"):
        two.take(1)
    one.ack(taken)
    assert offsets(two.take(1)) == [1]
    store.close()


def test_a_key_that_cannot_be_told_is_the_callers_error(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g", ordered_by=lambda body: [body])  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(UsageError, match="ordered_by: TypeError: unhashable"):
            worker.take(1)
    assert offsets(store.workers("q", "g").take(1)) == [0]
    store.close()


def test_workers_of_a_closed_or_read_only_store_say_so(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(2)
    store.close()
    for call in (worker.take, lambda: worker.ack(taken), lambda: worker.nack(taken)):
        with pytest.raises(UsageError, match=CLOSED):
            call()
    reader = QueueStore(tmp_path, read_only=True)
    with reader, pytest.raises(UsageError, match="read-only"):
        reader.workers("q", "g").take()


def test_closing_ends_a_worker_that_waits(tmp_path: Path) -> None:
    store = QueueStore(tmp_path, **SMALL)
    store.put("q", b"m")
    worker = store.workers("q", "g")
    worker.take()
    caught: list[BaseException] = []
    began = threading.Event()

    def wait() -> None:
        began.set()
        try:
            worker.take(wait_ms=60_000)
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert began.wait(30)
    store.close()
    thread.join(30)
    assert [str(error) for error in caught] == [CLOSED]


def test_workers_of_a_forked_child_are_refused(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    taken = worker.take(2)
    group = store._work.known()[0]

    def child() -> None:
        for call in (
            worker.take,
            lambda: worker.ack(taken),
            lambda: store.workers("q", "g").take(),
        ):
            with pytest.raises(UsageError, match=FOREIGN):
                call()
        store.close()

    # Somebody is at it when the process is forked.
    with group.lock:
        assert ended(in_child(child)) == 0
    assert worker.ack(taken) == 2
    store.close()


@pytest.mark.parametrize("durability", DURABILITIES)
def test_threads_that_share_work_get_each_message_once(durability: str, tmp_path: Path) -> None:
    count = 4000
    store = QueueStore(tmp_path, durability=durability, **SMALL)
    store.put_many("q", [b"%d" % i for i in range(count)])
    done: list[bytes] = []
    lock = threading.Lock()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            worker = store.workers("q", "g", attempts_max=3, dead_letter="dead")
            while messages := worker.take(50):
                with lock:
                    done.extend(m.body for m in messages)
                assert worker.ack(messages) == len(messages)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sorted(done, key=int) == [b"%d" % i for i in range(count)]
    assert store.committed("q", "g") == count
    store.close()


def poisoned(path: Path, durability: str) -> None:
    """In a child: work until the poison kills it."""
    with QueueStore(path, durability=durability, **SMALL) as store:
        worker = store.workers("q", "g", attempts_max=4, dead_letter="dead")
        while messages := worker.take(10):
            for message in messages:
                if message.body == b"poison":
                    os.kill(os.getpid(), signal.SIGKILL)
                store.put("done", message.body)
                worker.ack(message)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_message_that_kills_its_process_ends_in_the_dead_letters(
    durability: str, tmp_path: Path
) -> None:
    bodies = [b"%d" % i for i in range(30)]
    bodies[13] = b"poison"
    with QueueStore(tmp_path, durability=durability, **SMALL) as store:
        store.put_many("q", bodies)
    deaths = 0
    while code := ended(in_child(lambda: poisoned(tmp_path, durability))):
        assert code == -signal.SIGKILL
        deaths += 1
        assert deaths <= 4
    with QueueStore(tmp_path, durability=durability, **SMALL) as store:
        assert store.get("dead", 0, 9) == [b"poison"]
        # A first attempt may have been counted that was not made.
        assert deaths in (3, 4)
        if durability == "always":
            assert set(store.get("done", 0, 999)) == set(bodies) - {b"poison"}
        assert store.workers("q", "g").take(9) == []
        assert store.committed("q", "g") == 30


def test_many_groups_make_room_for_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman.queue.work.workers.GROUPS_MAX", 5)
    store, _ = filled(tmp_path)
    expected: Counter[str] = Counter()
    for turn in range(30):
        group = f"g{turn % 10}"
        worker = store.workers("q", group)
        (message,) = worker.take()
        assert (message.offset, message.attempts) == (expected[group] // 2, 1 + expected[group] % 2)
        if expected[group] % 2:
            worker.ack(message)
        else:
            worker.nack(message)
        expected[group] += 1
    assert len(store._work.known()) == 5
    assert len(store.groups("q")) == 10
    for number in range(5):
        store.workers("q", f"h{number}").take()
    with pytest.raises(Exception, match="5 groups have messages out already"):
        store.workers("q", "one more").take()
    store.close()


def test_workers_are_what_they_say(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    worker = store.workers("q", "g")
    assert isinstance(worker, Workers) and "queue b'q', group b'g'" in repr(worker)
    assert repr(worker.take()[0]) == "<Message offset=0 attempts=1 1 bytes>"
    store.close()


def test_tasks_share_work_without_blocking_their_loop(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncQueueStore(QueueStore(tmp_path, **SMALL)) as store:
            await store.put_many("q", [b"%d" % i for i in range(500)])
            done: list[bytes] = []

            async def work() -> None:
                workers = await store.workers("q", "g", attempts_max=3, dead_letter="dead")
                while messages := await workers.take(20):
                    assert await workers.extend(messages) == len(messages)
                    if messages[0].attempts == 1:
                        assert await workers.nack(messages[:1]) == 1
                        messages = messages[1:]
                    done.extend(m.body for m in messages)
                    assert await workers.ack(messages) == len(messages)

            await asyncio.gather(*(work() for _ in range(4)))
            assert sorted(done, key=int) == [b"%d" % i for i in range(500)]
            workers = await store.workers("q", "g", attempts_max=3, dead_letter="dead")
            waiting = asyncio.create_task(workers.take(5, wait_ms=60_000))
            await asyncio.sleep(0.01)
            await store.put("q", b"late")
            assert [m.body for m in await waiting] == [b"late"]
            waiting = asyncio.create_task(workers.take(5, wait_ms=60_000))
            await asyncio.sleep(0)
        with pytest.raises(UsageError, match=CLOSED):
            await waiting
        with pytest.raises(UsageError, match=CLOSED):
            await workers.ack([])
        with pytest.raises(UsageError, match=CLOSED):
            await store.workers("q", "g")

    asyncio.run(main())
