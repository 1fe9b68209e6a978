"""The queue benchmark at small size: its report, and that it would notice a wrong message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dragoman.bench.queue import Plan, QueueBench
from dragoman.bench.queue_load import messages, wrong
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
