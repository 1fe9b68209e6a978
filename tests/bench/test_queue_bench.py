"""The queue benchmark at small size: its report, and that it would notice a wrong message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dragoman.bench.queue import Plan, QueueBench
from dragoman.bench.queue_load import messages, wrong
from dragoman.bench.queue_peers import PEERS, Sqlite, run_peer
from dragoman.cli.main import build
from dragoman.errors import UsageError


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


def test_a_wrong_missing_or_extra_message_is_noticed() -> None:
    good = [messages(1, 7, 1, offset, 50)[0] for offset in range(10)]
    assert wrong(1, 7, 0, 50, 10, good) == 0
    assert wrong(1, 8, 0, 50, 10, good) == 10
    assert wrong(1, 7, 0, 50, 10, good[:9]) == 1
    assert wrong(1, 7, 0, 50, 9, good) == 1
    assert wrong(1, 7, 0, 50, 10, [*good[:9], good[8]]) == 1


def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--queues", "100", "--messages", "2000", "--path", str(tmp_path / "s")]
    result = CliRunner().invoke(build(), ["bench", "queue", *options, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["phases"]["put"]["messages"] == 2000


def test_a_plan_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for bad in ({"api": "poke"}, {"queues": 0}, {"messages": 5}, {"threads": 0}, {"consume": 2}):
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
    assert min(figures[f"{what}_per_second"] for what in ("put", "gets", "consumed")) > 0
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
