"""The queue benchmark at small size: its report, and that it would notice a wrong message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dragoman.bench.queue import Plan, QueueBench
from dragoman.bench.queue_load import keyed
from dragoman.bench.queue_peers import KEY, PEERS, Sqlite, run_peer
from dragoman.bench.queue_ring import RING_BYTES, WARM_TIMES, Ring, length_of_ring
from dragoman.cli.main import build
from dragoman.errors import UsageError
from dragoman.queue import QueueStore


@pytest.mark.parametrize("api", ["put", "put_many"])
def test_every_message_is_put_looked_at_and_right(tmp_path: Path, api: str) -> None:
    plan = Plan(
        tmp_path / "s", queues=300, messages=30_000, threads=2, api=api, memory_bytes=1 << 25
    )
    report = QueueBench(plan, lambda *_: None).run()
    phases = report["phases"]
    assert phases["put"]["messages"] == 30_000
    assert phases["check"]["calls"] == 300
    assert phases["consume"]["messages"] == 6_000
    assert report["wrong"] == 0
    assert report["score"] > 1000
    assert not (tmp_path / "s").exists()


class FakeClock:
    """A clock that only what is measured moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(("api", "calls"), [("put", 400), ("put_many", 8)])
def test_time_is_wall_time_with_the_backlog_and_calls_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, calls: int
) -> None:
    clock = FakeClock()
    per_call = 400 / calls

    class Slow(QueueStore):
        def put(self, *arguments: Any) -> int:
            clock.now_s += per_call
            return super().put(*arguments)

        def put_many(self, *arguments: Any) -> list[int]:
            clock.now_s += per_call
            return super().put_many(*arguments)

        def get_many(self, requests: Any, *rest: Any) -> list[list[bytes]]:
            clock.now_s += len(requests)
            return super().get_many(requests, *rest)

        def sync(self) -> None:
            clock.now_s += 600
            super().sync()

    monkeypatch.setattr("dragoman.bench.queue.QueueStore", Slow)
    plan = Plan(
        tmp_path / "s", queues=20, messages=400, api=api, batch=50, readers=1, memory_bytes=1 << 25
    )
    plan = plan if api == "put" else Plan(**{**vars(plan), "queues": 100})
    bench = QueueBench(plan, lambda *_: None, clock)
    lists, compare = bench.ring.of, bench.ring.wrong

    def of(offset: int, number: int) -> list[bytes]:
        clock.now_s += 3
        return lists(offset, number)

    def wrong(*arguments: Any) -> int:
        clock.now_s += 2
        return compare(*arguments)

    bench.ring.of, bench.ring.wrong = of, wrong  # type: ignore[assignment,method-assign]
    phases = bench.run()["phases"]
    parts = bench.rounds * bench.ring.step
    put, check = phases["put"], phases["check"]
    assert (put["calls"], put["call_seconds"]) == (calls, 400)
    assert put["backlog_seconds"] == 600
    assert put["seconds"] == 400 + 3 * parts + 600
    assert put["messages_per_second"] == 400 / put["seconds"]
    for phase in (check, phases["consume"], phases["warm_check"], phases["warm_consume"]):
        assert phase["call_seconds"] == phase["calls"] > 0
        assert (phase["seconds"], phase["backlog_seconds"]) == (3 * phase["calls"], 0)


def test_the_backlog_of_a_peer_is_in_its_time(tmp_path: Path) -> None:
    clock = FakeClock()

    class Slow(Sqlite):
        def put(self, *arguments: Any) -> None:
            clock.now_s += 1
            super().put(*arguments)

        def settle(self) -> None:
            clock.now_s += 60
            super().settle()

    figures = run_peer(
        Slow,
        tmp_path / "peer",
        queues=2000,
        rounds=20,
        size=50,
        consume=0.1,
        seed=3,
        progress=lambda *_: None,
        clock=clock,
    )
    assert figures["put_call_seconds"] == 40
    assert figures["put_backlog_seconds"] == 60
    assert figures["put_seconds"] == 100
    assert figures["put_per_second"] == 2000 * 20 / 100
    assert figures["wrong"] == 0


def test_warm_reading_asks_the_disk_for_next_to_nothing(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "s", queues=3000, messages=900_000, memory_bytes=1 << 24)
    report = QueueBench(plan, lambda *_: None).run()
    phases = report["phases"]
    assert phases["consume"]["extra"]["blocks_read"] > 0
    assert phases["warm_consume"]["messages"] == WARM_TIMES * 333 * 300
    for warm in ("warm_check", "warm_consume"):
        assert phases[warm]["extra"]["blocks_read"] < phases[warm]["calls"] / 20
    assert report["wrong"] == 0


@pytest.mark.parametrize(("queues", "part"), [(1, 1), (7, 3), (1000, 1000), (61_000, 1000)])
def test_a_part_gets_another_list_each_round_until_all_were_there(queues: int, part: int) -> None:
    ring = Ring(queues=queues, part=part, size=16, seed=1)
    assert sum(len(ring.of(0, number)) for number in range(ring.step)) == queues
    for number in {0, ring.step - 1}:
        first = [ring.of(offset, number)[0] for offset in range(len(ring.slots))]
        assert len(set(first)) == len(first) > 1
        assert ring.of(len(ring.slots), number)[0] == first[0]


@given(st.integers(0, RING_BYTES), st.integers(1, 10**8))
def test_the_ring_takes_little_memory_and_fits_the_parts(list_bytes: int, step: int) -> None:
    length = length_of_ring(list_bytes, step)
    assert step % length
    # 2 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * 23 is more than 10^8.
    assert 2 <= length <= 61
    assert length <= 23 or length * list_bytes <= RING_BYTES


def test_a_wrong_missing_or_extra_message_is_noticed() -> None:
    ring = Ring(queues=9, part=4, size=50, seed=1)
    good = [ring.of(offset, 1)[3] for offset in range(10)]  # of queue 7
    assert ring.wrong(7, 0, 10, good) == 0
    assert ring.wrong(7, 4, 6, good[4:]) == 0
    assert ring.wrong(8, 0, 10, good) == 10
    assert ring.wrong(7, 1, 10, good) == 10
    assert ring.wrong(7, 0, 10, good[:9]) == 1
    assert ring.wrong(7, 0, 9, good) == 1
    assert ring.wrong(7, 0, 10, [*good[:9], good[8]]) == 1
    assert ring.wrong(7, 0, 10, [*good[:9], good[9][:-1]]) == 1
    assert ring.wrong(7, 0, 10, [*good[:9], None]) == 1  # type: ignore[list-item]


def test_keys_sort_by_queue_and_then_by_offset() -> None:
    pairs = keyed(254, 0x01020304, [b"a", b"b", b"c"])
    assert pairs == [(KEY.pack(254 + i, 0x01020304), b"abc"[i : i + 1]) for i in range(3)]


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--queues", "100", "--messages", "2000", "--path", str(tmp_path / "s")]
    result = CliRunner().invoke(build(), ["bench", "queue", *options, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["phases"]["put"]["messages"] == 2000


def test_a_plan_that_cannot_be_is_refused(tmp_path: Path) -> None:
    large = {"size": 65536, "batch": 2000}
    for bad in (
        {"api": "poke"},
        {"queues": 0},
        {"messages": 5},
        {"threads": 0},
        {"consume": 2},
        {"batch": 0},
        large,
    ):
        with pytest.raises(UsageError):
            QueueBench(Plan(tmp_path, **bad), lambda *_: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PEERS, ids=lambda kind: kind.name)
def test_a_peer_gets_the_same_load_and_is_read_in_order(tmp_path: Path, kind: type[Any]) -> None:
    if kind.name != "sqlite3":
        pytest.importorskip(kind.name)
    figures = run_peer(
        kind,
        tmp_path / "peer",
        queues=1500,
        rounds=20,
        size=50,
        consume=0.1,
        seed=3,
        progress=lambda *_: None,
    )
    assert figures["messages"] == 30_000
    assert figures["wrong"] == 0
    rates = ("put", "cold_gets", "warm_gets", "cold_consumed", "warm_consumed")
    assert min(figures[f"{what}_per_second"] for what in rates) > 0
    assert figures["puts_end"].startswith("on the disk")
    assert not (tmp_path / "peer").exists()


def test_a_peer_that_answers_wrongly_is_found_out(tmp_path: Path) -> None:
    class Forgetful(Sqlite):
        def get(self, queue: int, offset: int, count: int) -> list[bytes]:
            return super().get(queue, offset, count)[1:]

    figures = run_peer(
        Forgetful,
        tmp_path / "peer",
        queues=10,
        rounds=20,
        size=50,
        consume=1.0,
        seed=3,
        progress=lambda *_: None,
    )
    assert figures["wrong"] > 0


def test_a_peer_that_is_not_installed_is_said_to_be_missing(tmp_path: Path) -> None:
    class Absent(Sqlite):
        name = "absent"

        def __init__(self, path: Path) -> None:
            raise ModuleNotFoundError("no module named absent")

    figures = run_peer(
        Absent,
        tmp_path / "peer",
        queues=10,
        rounds=20,
        size=50,
        consume=1.0,
        seed=3,
        progress=lambda *_: None,
    )
    assert figures == {"name": "absent", "missing": "no module named absent"}


def test_peers_stand_beside_the_store_in_the_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--queues", "100", "--messages", "2000", "--path", str(tmp_path / "s"), "--peers"]
    options += ["--peer-messages", "2000", "--json", str(file)]
    result = CliRunner().invoke(build(), ["bench", "queue", *options])
    assert result.exit_code == 0, result.output
    peers = json.loads(file.read_text())["peers"]
    assert [peer["name"] for peer in peers] == ["dragoman", "lmdb", "rocksdict", "sqlite3"]
    assert all(peer["wrong"] == 0 for peer in peers if "missing" not in peer)
    assert "2,000 messages over 100 queues" in result.output
