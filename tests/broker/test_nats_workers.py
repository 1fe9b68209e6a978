"""Groups that share work on JetStream: records with AckWait, messages of them one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman import broker
from dragoman.errors import UsageError
from dragoman.queue import Message, MessageStore
from tests.broker.nats_servers import PROGRAM, NatsServer, nats_server

Opening = Callable[[], MessageStore]
_SERIAL = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    if PROGRAM is None:
        pytest.skip("nats-server is not installed (Debian's package nats-server)")
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def opened(server: NatsServer) -> Opening:
    url = f"nats://127.0.0.1:{server.port}/work{next(_SERIAL)}"
    return lambda: broker.open_store(url)


def told(messages: list[Message]) -> list[tuple[int, int, bytes]]:
    return [(m.offset, m.attempts, m.body) for m in messages]


def test_records_are_shared_and_messages_settled(opened: Opening) -> None:
    with opened() as store, opened() as other:
        for i in range(4):
            store.put("q", b"%d" % i)
        one, two = store.workers("q", "g"), other.workers("q", "g")
        first, second = one.take(2), two.take(9)
        assert told(first) == [(0, 1, b"0"), (1, 1, b"1")]
        assert told(second) == [(2, 1, b"2"), (3, 1, b"3")]
        assert one.ack(first) == 2 and one.ack(first) == 0
        assert two.nack(second[0]) == 1
        again = two.take(9)
        assert told(again) == [(2, 2, b"2")]
        assert two.nack(again, delay_ms=30) == 1
        assert told(two.take(9, wait_ms=10_000)) == [(2, 3, b"2")]
        assert two.extend(second[1]) == 1
        assert one.take(9, wait_ms=20) == []
        assert told(store.workers("q", "another").take(1)) == [(0, 1, b"0")]


def test_what_a_worker_left_of_a_record_is_given_again_after_its_lease(opened: Opening) -> None:
    with opened() as store:
        store.put_many("q", [b"%d" % i for i in range(6)])
        workers = store.workers("q", "g", lease_ms=500)
        taken = workers.take(4)
        workers.ack([taken[0], taken[2]])
    with opened() as store:
        workers = store.workers("q", "g", lease_ms=500)
        again = workers.take(9, wait_ms=20_000)
        assert told(again) == [(1, 2, b"1"), (3, 2, b"3"), (4, 2, b"4"), (5, 2, b"5")]
        assert workers.ack(again) == 4
        assert workers.take(9, wait_ms=700) == []


def test_who_is_late_has_it_no_more(opened: Opening) -> None:
    with opened() as store, opened() as other:
        store.put("q", b"m")
        workers = store.workers("q", "g", lease_ms=300)
        taken = workers.take()
        again = other.workers("q", "g", lease_ms=300).take(wait_ms=20_000)
        assert told(again) == [(0, 2, b"m")]
        assert (workers.ack(taken), workers.nack(taken), workers.extend(taken)) == (0, 0, 0)


def test_after_its_last_attempt_a_message_is_in_the_dead_letters(opened: Opening) -> None:
    with opened() as store:
        store.put_many("q", [b"good", b"bad"])
        workers = store.workers("q", "g", attempts_max=2, dead_letter="dead")
        taken = workers.take(9)
        workers.ack(taken[0])
        for attempt in (1, 2):
            assert [m.attempts for m in taken[-1:]] == [attempt]
            assert workers.nack(taken[-1]) == 1
            taken = workers.take(9)
        assert taken == []
        assert store.get("dead", 0, 9) == [b"bad"]


def test_what_kills_its_workers_is_in_the_dead_letters_without_its_neighbours(
    opened: Opening,
) -> None:
    options: dict[str, Any] = {"lease_ms": 300, "attempts_max": 2, "dead_letter": "dead"}
    done: list[bytes] = []
    with opened() as store:
        store.put_many("q", [b"0", b"poison", b"2", b"3"])
    for _ in range(3):
        with opened() as store:
            workers = store.workers("q", "g", **options)
            while messages := workers.take(9, wait_ms=1500):
                if b"poison" in [message.body for message in messages]:
                    break  # and it is gone
                done += [message.body for message in messages]
                workers.ack(messages)
    with opened() as store:
        assert store.get("dead", 0, 9) == [b"poison"]
        assert sorted(done) == [b"0", b"2", b"3"]
        assert store.workers("q", "g", **options).take(9, wait_ms=500) == []


def test_of_one_key_a_message_waits_for_the_one_before(opened: Opening) -> None:
    with opened() as store, opened() as other:
        store.put_many("q", [b"a0", b"b1", b"a2"])
        store.put("q", b"b3")
        one = store.workers("q", "g", ordered_by=1)
        two = other.workers("q", "g", ordered_by=1)
        taken = one.take(9)
        assert told(taken) == [(0, 1, b"a0"), (1, 1, b"b1")]
        assert two.take(9) == one.take(9) == []
        one.ack(taken)
        assert two.take(9) == []
        rest = one.take(9)
        assert told(rest) == [(2, 1, b"a2")]
        one.ack(rest)
        assert told(two.take(9, wait_ms=10_000)) == [(3, 1, b"b3")]


def test_a_message_in_parts_is_one(opened: Opening) -> None:
    large = bytes(range(256)) * 10_000
    with opened() as store:
        store.put_many("q", [b"small", large, b"last"])
        workers = store.workers("q", "g")
        taken: list[Message] = []
        while messages := workers.take(9, wait_ms=200):
            taken += messages
            workers.ack(messages)
        assert [m.body for m in taken] == [b"small", large, b"last"]


def test_a_group_begins_where_it_had_committed_and_anew_when_deleted(opened: Opening) -> None:
    with opened() as store:
        store.put_many("q", [b"0", b"1"])
        store.put_many("q", [b"2", b"3"])
        store.commit("q", "g", 3)
        store.commit("q", "end", 4)
        workers = store.workers("q", "g")
        taken = workers.take(9)
        assert told(taken) == [(3, 1, b"3")]
        assert store.workers("q", "end").take(9) == []
        store.delete("q")
        store.put("q", b"new")
        assert told(store.workers("q", "g").take(9, wait_ms=10_000)) == [(0, 1, b"new")]
        store.close()
        with pytest.raises(UsageError, match="closed"):
            workers.take()
        with pytest.raises(UsageError, match="closed"):
            workers.ack(taken)


def test_what_is_trimmed_is_passed_over(opened: Opening, tmp_path: Path) -> None:
    with opened() as store:
        store.put_many("q", [b"0", b"1", b"2"])
        store.trim("q", 2)
        assert told(store.workers("q", "g").take(9)) == [(2, 1, b"2")]
