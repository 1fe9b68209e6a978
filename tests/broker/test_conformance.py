"""What every store of queues does, whatever it is: ``queue.api.interface``, held against each."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest

from dragoman.errors import PositionLostError, UsageError
from dragoman.queue import MessageStore
from tests.broker.worlds import World
from tests.load_factor import load_factor

LARGEST = bytes(range(256)) * 65536


def test_offsets_count_from_zero_in_each_queue(store: MessageStore) -> None:
    assert [store.put("a", b"1"), store.put("b", b"2"), store.put("a", b"3")] == [0, 0, 1]
    assert store.get("a", 0, 10) == [b"1", b"3"]
    assert store.get("b", 0) == [b"2"]
    assert (store.length("a"), store.first_offset("a"), store.length("c")) == (2, 0, 0)
    assert sorted(store.queues()) == [b"a", b"b"]
    assert "a" in store and b"a" in store and "c" not in store


def test_put_many_takes_pairs_one_queue_or_two_lists(store: MessageStore) -> None:
    assert store.put_many([("a", b"1"), ("b", b"2"), ("a", b"3")]) == [0, 0, 1]
    assert store.put_many("a", iter([b"4", b"5"])) == [2, 3]
    assert store.put_many(["b", "c"], [b"6", b"7"]) == [1, 0]
    assert store.put_many([]) == store.put_many("a", []) == []
    assert store.get("a", 0, 9) == [b"1", b"3", b"4", b"5"]
    assert store.get("b", 0, 9) == [b"2", b"6"]


def test_put_many_puts_nothing_when_one_of_them_is_wrong(store: MessageStore) -> None:
    wrong: list[Any] = [("q", "text"), ("", b""), (5, b""), "q", ("q", b"", b""), None]
    for each in wrong:
        with pytest.raises(UsageError):
            store.put_many([("q", b"right"), each])
    for call in (
        lambda: store.put_many(["q"], [b"1", b"2"]),
        lambda: store.put_many("q", [b"1", 2]),  # type: ignore[list-item]
    ):
        with pytest.raises(UsageError):
            call()
    assert store.length("q") == 0 and "q" not in store


def test_get_gives_fewer_only_at_the_end(store: MessageStore) -> None:
    messages = [b"%d" % i for i in range(1000)]
    assert store.put_many("q", messages) == list(range(1000))
    rng = random.Random(3)
    for _ in range(30):
        at, count = rng.randrange(1100), rng.randrange(300)
        assert store.get("q", at, count) == messages[at : at + count]
    assert store.get("q", 0, 0) == store.get("q", 1000, 5) == store.get("q", 10**12, 5) == []
    assert store.get("nobody", 0, 5) == store.get("nobody", 7, 1) == []
    assert store.get("q", 990, 2**40) == messages[990:]


def test_get_many_answers_in_the_order_of_its_requests(store: MessageStore) -> None:
    store.put_many([(f"q{i % 7}", b"%d" % i) for i in range(70)])
    got = store.get_many([("q3", 2, 2), ("none", 0, 5), ("q0", 9, 9), ("q3", 2, 2), ("q1", 0, 0)])
    assert got == [[b"17", b"24"], [], [b"63"], [b"17", b"24"], []]
    assert store.get_many([]) == []


@pytest.mark.parametrize(
    "name",
    [
        "a",
        b"\0",
        b"\xff\xfe",
        b" ",
        "a b\tc\n",
        "..",
        "/etc/passwd",
        "*",
        ">",
        "a.*.>",
        "$JS.API",
        "=41",
        "caf\u00e9",
        "cafe\u0301",
        bytes(range(256)),
        b"n" * 300,
        "x" * 65536,
        b"\xfe" * 65536,
    ],
    ids=lambda name: repr(name[:12]) + str(len(name)),
)
def test_any_bytes_are_a_name(store: MessageStore, name: str | bytes) -> None:
    raw = name.encode() if isinstance(name, str) else name
    others = [raw[:-1] + b"?", b"A"]
    assert store.put(name, b"mine") == 0
    assert store.put_many([(other, b"other") for other in others]) == [0, 0]
    assert store.put(raw, b"mine too") == 1
    assert store.get(name, 0, 9) == store.get(raw, 0, 9) == [b"mine", b"mine too"]
    assert set(store.queues()) == {raw, *others}
    store.commit(raw, b"\0.*> /=\xff", 2)
    assert store.groups(name) == {b"\0.*> /=\xff": 2}
    store.trim(name, 1)
    assert (store.first_offset(raw), store.get(raw, 1, 9)) == (1, [b"mine too"])
    assert store.delete(name)
    assert set(store.queues()) == set(others)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 65535, 65536, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_messages_of_every_size_come_back_byte_for_byte(store: MessageStore, size: int) -> None:
    message = random.Random(size).randbytes(size)
    assert store.put("q", b"before") == 0
    assert store.put("q", message) == 1
    assert store.put_many("q", [b"", message, b"x"]) == [2, 3, 4]
    assert store.get("q", 0, 9) == [b"before", message, b"", message, b"x"]
    assert store.get("q", 3, 1) == [message]


def test_a_message_of_16_mib_is_the_largest(store: MessageStore) -> None:
    store.put("q", b"before")
    assert store.put("q", LARGEST) == 1
    assert store.put("q", b"after") == 2
    with pytest.raises(UsageError, match="at most 16777216 bytes"):
        store.put("q", LARGEST + b"!")
    assert store.get("q", 0, 5) == [b"before", LARGEST, b"after"]
    assert store.get_many([("q", 1, 2), ("q", 1, 1)]) == [[LARGEST, b"after"], [LARGEST]]


def test_more_than_a_reply_takes_comes_all_the_same(store: MessageStore) -> None:
    rng = random.Random(1)
    messages = [rng.randbytes(rng.choice([10, 100_000, 3_000_000])) for _ in range(40)]
    store.put_many("q", messages)
    assert store.get("q", 0, 99) == messages
    ranges = [("q", 0, 20), ("none", 0, 5), ("q", 39, 7), ("q", 10, 30)]
    assert store.get_many(ranges) == [messages[:20], [], messages[39:], messages[10:]]


def test_views_and_bytearrays_are_messages_too(store: MessageStore) -> None:
    assert store.put("q", bytearray(b"ab")) == 0  # type: ignore[arg-type]
    assert store.put_many("q", [memoryview(b"cd")]) == [1]  # type: ignore[list-item]
    assert store.get("q", 0, 2) == [b"ab", b"cd"]


def test_misuse_is_refused_with_a_reason(store: MessageStore) -> None:
    store.put("q", b"m")
    calls: list[tuple[Any, str]] = [
        (lambda: store.put("q", "text"), "a message is bytes, not str"),  # type: ignore[arg-type]
        (lambda: store.put("q", None), "a message is bytes"),  # type: ignore[arg-type]
        (lambda: store.put(5, b""), "str or bytes, not int"),  # type: ignore[arg-type]
        (lambda: store.put("", b""), "1 to 65536 bytes, not 0"),
        (lambda: store.put("x" * 65537, b""), "not 65537"),
        (lambda: store.put("\ud800", b""), "surrogate"),
        (lambda: store.get("q", -1), "must not be negative"),
        (lambda: store.get("q", 0, -1), "must not be negative"),
        (lambda: store.get("q", "0"), "whole numbers"),  # type: ignore[arg-type]
        (lambda: store.get("q", 2**64), "whole numbers"),
        (lambda: store.get_many([("q", 0)]), "a request is"),  # type: ignore[list-item]
        (lambda: store.length(""), "1 to 65536"),
        (lambda: store.first_offset(None), "str or bytes"),  # type: ignore[arg-type]
        (lambda: 5 in store, "str or bytes"),  # type: ignore[operator]
        (lambda: store.trim("q", -1), "before an offset"),
        (lambda: store.trim("q", "1"), "before an offset"),  # type: ignore[arg-type]
        (lambda: store.delete(""), "1 to 65536"),
        (lambda: store.commit("q", "g", 2), "a position is 0 to 1, not 2"),
        (lambda: store.commit("q", "g", -1), "a position is"),
        (lambda: store.commit("q", "", 1), "1 to 1024 bytes, not 0"),
        (lambda: store.commit("q", b"g" * 1025, 1), "not 1025"),
        (lambda: store.committed("q", 5), "str or bytes"),  # type: ignore[arg-type]
    ]
    for call, reason in calls:
        with pytest.raises(UsageError, match=reason):
            call()
    assert (store.length("q"), store.groups("q"), list(store.queues())) == (1, {}, [b"q"])


def test_what_is_trimmed_is_gone_and_offsets_stay(store: MessageStore) -> None:
    messages = [b"%d" % i for i in range(100)]
    store.put_many("q", messages)
    store.trim("nobody", 5)
    store.trim("q", 0)
    store.trim("q", 37)
    store.trim("q", 20)
    assert (store.first_offset("q"), store.length("q")) == (37, 100)
    assert store.get("q", 37, 3) == messages[37:40]
    with pytest.raises(UsageError, match="offset 36 is gone: the first of the queue is 37"):
        store.get("q", 36)
    with pytest.raises(UsageError, match="is gone"):
        store.get_many([("q", 50, 1), ("q", 0, 100)])
    assert store.put("q", b"more") == 100
    store.trim("q", 10**9)
    assert (store.first_offset("q"), store.length("q"), "q" in store) == (101, 101, True)
    assert store.get("q", 101, 5) == []
    assert store.put("q", b"and more") == 101
    assert store.get("q", 101, 5) == [b"and more"]


def test_a_deleted_queue_begins_anew(store: MessageStore) -> None:
    store.put_many("q", [b"1", b"2", b"3"])
    store.put("other", b"x")
    store.commit("q", "g", 2)
    store.trim("q", 1)
    assert store.delete("q")
    assert not store.delete("q")
    assert not store.delete("never")
    assert ("q" in store, store.length("q"), store.first_offset("q")) == (False, 0, 0)
    assert (store.groups("q"), store.get("q", 0, 5), list(store.queues())) == ({}, [], [b"other"])
    assert store.put("q", b"new") == 0
    assert store.get("q", 0, 5) == [b"new"]
    assert (store.first_offset("q"), store.committed("q", "g")) == (0, 0)


def test_groups_read_on_from_what_they_committed(store: MessageStore) -> None:
    messages = [b"%d" % i for i in range(20)]
    store.put_many("q", messages)
    consumer = store.consumer("q", "group")
    assert consumer.read(7) == messages[:7]
    consumer.commit()
    assert consumer.read(3) == messages[7:10]
    assert store.consumer("q", b"group").read() == [b"7"]
    assert store.consumer("q", "other").read() == [b"0"]
    store.commit("q", "other", 20)
    assert store.groups("q") == {b"group": 7, b"other": 20}
    assert (store.committed("q", "group"), store.committed("q", "nobody")) == (7, 0)
    assert store.consumer("q", "other").read(5) == []
    store.trim("q", 15)
    assert consumer.position == 10
    assert consumer.read(99) == messages[15:]
    assert store.consumer("q", "nobody").position == 15
    store.commit("q", "other", 3)
    assert store.committed("q", "other") == 3
    store.commit("none yet", "g", 0)
    assert store.groups("none yet") == {}


def test_what_was_put_and_committed_survives(world: World) -> None:
    rng = random.Random(2)
    model: dict[bytes, list[bytes]] = {}
    for turn in range(3):
        with world.open() as store:
            for name, messages in model.items():
                assert store.get(name, 0, len(messages) + 1) == messages
                assert store.committed(name, "g") == len(messages) // 2
            for _ in range(60):
                name = b"queue %d" % rng.randrange(10)
                message = rng.randbytes(rng.choice([0, 50, 300]))
                assert store.put(name, message) == len(model.setdefault(name, []))
                model[name].append(message)
            for name, messages in model.items():
                store.commit(name, "g", len(messages) // 2)
            store.put("cut", b"%d" % turn)
            store.trim("cut", turn)
            store.put("gone", b"")
            store.delete("gone")
            assert set(store.queues()) == {*model, b"cut"}
        world.restart()
    with world.open() as store:
        assert set(store.queues()) == {*model, b"cut"}
        assert store.get_many([(name, 3, 7) for name in model]) == [m[3:10] for m in model.values()]
        assert (store.first_offset("cut"), store.length("cut")) == (2, 3)


def test_waiting_ends_when_a_message_comes(store: MessageStore) -> None:
    assert store.wait_for("q", 0, 0) == 0
    started = time.monotonic()
    assert store.wait_for("q", 0, 60) == 0
    assert time.monotonic() - started >= 0.05
    store.put("q", b"0")
    assert store.wait_for("q", 0, 60_000) == store.wait_for("q", 0) == 1
    timer = threading.Timer(0.2, lambda: store.put("q", b"1"))
    timer.start()
    started = time.monotonic()
    assert store.wait_for("q", 1, 60_000) == 2
    assert 0.1 < time.monotonic() - started < 10 * load_factor()
    timer.join()
    consumer = store.consumer("q", "g")
    assert consumer.read(5) == [b"0", b"1"]
    assert consumer.read(5, wait_ms=50) == []
    timer = threading.Timer(0.1, lambda: store.put("q", b"2"))
    timer.start()
    assert consumer.read(5, wait_ms=60_000) == [b"2"]
    timer.join()


def test_threads_may_put_and_get_at_the_same_time(store: MessageStore) -> None:
    names = [f"q{i}" for i in range(5)]
    wrong: list[object] = []
    each = 60

    def put(thread: int) -> None:
        try:
            for number in range(each):
                name = names[number % 5]
                message = b"%d %d" % (thread, number)
                if number % 3:
                    offset = store.put(name, message)
                else:
                    (offset,) = store.put_many([(name, message)])
                if store.get(name, offset) != [message]:
                    wrong.append((thread, number, offset))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=put, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for number, name in enumerate(names):
        got = [tuple(map(int, m.split())) for m in store.get(name, 0, 10_000)]
        assert len(got) == 4 * each // 5 == store.length(name)
        for writer in range(4):
            assert [n for t, n in got if t == writer] == list(range(number, each, 5))


def test_two_stores_that_are_open_see_each_others_puts(world: World) -> None:
    if not world.shared:
        pytest.skip("one writer at a time")
    with world.open() as one, world.open() as two:
        for number in range(20):
            store = (one, two)[number % 2]
            assert store.put("q", b"%d" % number) == number
        one.commit("q", "g", 3)
        assert two.committed("q", "g") == 3
        one.trim("q", 5)
        assert two.first_offset("q") == 5
        assert two.get("q", 5, 99) == [b"%d" % i for i in range(5, 20)]
        assert one.delete("q")
        assert two.length("q") == 0
        assert two.put("q", b"new") == 0
        assert one.get("q", 0, 5) == [b"new"]


def test_a_closed_store_says_so(world: World) -> None:
    store = world.open()
    store.put("q", b"m")
    store.sync()
    assert store.statistics().queues == 1
    store.close()
    store.close()
    for call in (lambda: store.put("q", b""), lambda: store.get("q", 0), store.sync):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_many_queues_are_listed(store: MessageStore) -> None:
    names = [b"queue %d" % i for i in range(9000)]
    store.put_many([(name, b"") for name in names])
    listed = list(store.queues())
    assert len(listed) == 9000 and set(listed) == set(names)
    assert store.statistics().queues == 9000


def test_puts_that_are_made_before_others_have_ended_keep_their_order(world: World) -> None:
    """One loop, many tasks: what was put first is stored first, singly or many at once."""
    if type(world).__name__ == "Local":
        pytest.skip("nothing is under way when put has returned")

    async def put_all(store: Any) -> None:
        calls = []
        for number in range(0, 200, 4):
            calls.append(store.put("q", b"%d" % number))
            calls.append(store.put_many("q", [b"%d" % (number + 1)]))
            calls.append(store.put_many([("q", b"%d" % (number + i)) for i in (2, 3)]))
        tasks = []
        for call in calls:
            tasks.append(asyncio.ensure_future(call))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        wrong = [store.put("", b""), store.put("q", b"right"), store.put_many("q", [b"too"])]
        outcomes = await asyncio.gather(*wrong, return_exceptions=True)
        assert isinstance(outcomes[0], UsageError)
        assert outcomes[1:] == [200, [201]]

    with world.open() as store:
        blocking: Any = store
        blocking._wait(put_all(blocking._store))
        assert store.get("q", 0, 200) == [b"%d" % number for number in range(200)]


def test_a_consumer_of_a_queue_that_was_made_anew_is_told_and_misses_nothing(
    store: MessageStore,
) -> None:
    store.put_many("q", [b"old %d" % i for i in range(5)])
    consumer = store.consumer("q", "g")
    assert len(consumer.read(3)) == 3
    consumer.commit()
    assert len(consumer.read(1)) == 1
    store.delete("q")
    anew = [b"new %d" % i for i in range(20)]
    store.put_many("q", anew)
    with pytest.raises(PositionLostError, match="position 4"):
        consumer.read(10)
    assert consumer.position == 0
    assert consumer.read(100) == anew
    consumer.commit()
    assert store.committed("q", "g") == 20


def test_a_commit_for_a_queue_that_was_made_anew_is_refused(store: MessageStore) -> None:
    store.put_many("q", [b"old"] * 5)
    consumer = store.consumer("q", "g")
    consumer.read(4)
    store.delete("q")
    store.put_many("q", [b"new"] * 5)
    with pytest.raises(PositionLostError):
        consumer.commit()
    assert store.groups("q") == {}
    assert consumer.read(9) == [b"new"] * 5


def test_a_consumer_of_a_queue_that_is_gone_is_told_once(store: MessageStore) -> None:
    store.put_many("q", [b"old"] * 5)
    consumer = store.consumer("q", "g")
    early = store.consumer("q", "other")
    consumer.read(4)
    store.delete("q")
    with pytest.raises(PositionLostError):
        consumer.read(1)
    assert consumer.read(1) == []
    store.trim("q", 0)
    store.put_many("q", [b"1", b"2", b"3"])
    store.trim("q", 1)
    assert consumer.read(9) == [b"2", b"3"]
    # It had read nothing: nothing is lost to it.
    assert early.read(9) == [b"2", b"3"]


def test_a_consumer_that_was_there_before_its_queue_reads_it_from_the_start(
    store: MessageStore,
) -> None:
    consumer = store.consumer("q", "g")
    assert consumer.read(5) == []
    store.put_many("q", [b"1", b"2"])
    assert consumer.read(5, wait_ms=5000) == [b"1", b"2"]
    consumer.commit()
    assert store.committed("q", "g") == 2


def test_a_consumer_is_iterated_up_to_the_queues_end(store: MessageStore) -> None:
    messages = [b"%d" % i for i in range(600)]
    store.put_many("q", messages)
    consumer = store.consumer("q", "g")
    for number, message in enumerate(consumer):
        assert message == messages[number]
        assert consumer.position == number + 1
        if number == 299:
            break
    consumer.commit()
    assert store.committed("q", "g") == 300
    assert list(consumer) == messages[300:]
    assert list(consumer) == []
    assert "'q' at 600" in repr(consumer)


def test_a_store_says_what_and_where_it_is(world: World) -> None:
    store = world.open()
    assert "open" in repr(store)
    store.close()
    assert "closed" in repr(store)
    assert "0x" not in repr(store)
