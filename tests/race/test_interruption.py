"""Ctrl-C, SIGTERM and kill -9 at different moments: nothing keeps running, the lock is free."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman.harness.interruption import Interrupted, Interruption
from dragoman.race.lock import WorkspaceLock
from tests.waiting import until_sync

from .conftest import FakeRace


def logged(fake_race: FakeRace, text: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return text in fake_race.log
        except FileNotFoundError:
            return False

    return look


@pytest.mark.parametrize(
    ("number", "moment", "again"),
    [
        (signal.SIGINT, "start load-2", False),
        (signal.SIGTERM, "start provider-medium", False),
        (signal.SIGINT, "start warm-up", True),
    ],
)
def test_an_interrupted_race_leaves_nothing(
    fake_race: FakeRace,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    moment: str,
    again: bool,
) -> None:
    monkeypatch.setenv("FAKE_WRK_S", "0.5" if moment == "start load-2" else "30")
    path = fake_race.directory / "result.json"
    process = fake_race.start("--json", str(path))
    try:
        until_sync(logged(fake_race, moment), 10.0)
        process.send_signal(number)
        if again:
            process.send_signal(number)
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors == f"dragoman: race: interrupted by {number.name}\n"
    result = json.loads(path.read_text())
    assert result["qps"] == -1
    assert result["error"] == f"interrupted by {number.name}"
    assert Path(result["logs"]).exists()
    assert fake_race.running() == []
    with WorkspaceLock(fake_race.workspace) as lock:
        assert lock.recovered_pid is None


def test_a_killed_race_leaves_nothing(fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_WRK_S", "30")
    process = fake_race.start()
    try:
        until_sync(logged(fake_race, "start warm-up"), 10.0)
        assert len(fake_race.running()) >= 10
    finally:
        process.kill()
        process.communicate()
    until_sync(lambda: fake_race.running() == [], 10.0)
    with WorkspaceLock(fake_race.workspace) as lock:
        assert lock.recovered_pid == process.pid


def test_a_failed_race_is_one_line_and_a_return_code(fake_race: FakeRace) -> None:
    fake_race.misbehave("demo-provider-small:exit")
    process = fake_race.start()
    output, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert errors.startswith("dragoman: race: provider-small ended before it was ready")
    assert "Traceback" not in errors + output


def test_the_table_is_printed_at_the_end(fake_race: FakeRace) -> None:
    process = fake_race.start()
    output, errors = process.communicate(timeout=15)
    assert (process.returncode, errors) == (0, "")
    assert "race: 512 connections: 1,000 QPS (9.8% of ideal), p99 52.00 ms, 0 errors" in output
    assert "score: 1,000.0 QPS" in output


def test_a_wait_ends_when_asked() -> None:
    interruption = Interruption()
    interruption.request("enough")
    with pytest.raises(Interrupted, match="enough"):
        interruption.sleep(60)
    with pytest.raises(Interrupted):
        interruption.wait_until(lambda: False, 60)


def test_a_wait_gives_up_at_its_time() -> None:
    assert not Interruption().wait_until(lambda: False, 0.0)
    assert Interruption().wait_until(lambda: True, 0.0)
