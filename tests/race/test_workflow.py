"""The race's workflow, step by step and failure by failure, over fake processes."""

from __future__ import annotations

import json
import socket
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from dragoman.balance.policies import POLICIES
from dragoman.errors import UsageError
from dragoman.harness.network import Network
from dragoman.race import workflow
from dragoman.race.lock import WorkspaceLock
from dragoman.race.task_server import TaskServer
from dragoman.race.workflow import Race

from .conftest import FakeRace


def assert_failed(fake_race: FakeRace, result: dict[str, Any], *words: str) -> None:
    """The result says so, nothing runs, the workspace is unlocked."""
    assert result["qps"] == -1
    for word in words:
        assert word in result["error"]
    assert fake_race.running() == []
    with WorkspaceLock(fake_race.workspace):
        pass


def test_a_race_gives_every_figure(fake_race: FakeRace, tmp_path: Path) -> None:
    result = fake_race.run(json_file=str(tmp_path / "result.json"))
    assert "error" not in result
    assert result["qps"] == 1000.0
    assert {"date", "command", "policy", "machine", "versions", "logs"} <= result.keys()
    assert [level["connections"] for level in result["levels"]] == [2, 512]
    level = result["levels"][1]
    assert level["ideal_qps"] == 10240
    assert level["ratio"] == pytest.approx(1000 / 10240, abs=1e-4)
    assert level["errors"] == {}
    assert set(level["latency_ms"]) == {"mean", "min", "max", "p50", "p90", "p99", "p99_9"}
    roles = {"load", "consumer", "consumer_agent", "provider_agents", "providers"}
    assert set(level["cpu_us_per_request"]) == roles
    assert level["rejections"] == {"small": 0, "medium": 0, "large": 0}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert fake_race.running() == []


def test_the_logs_of_every_process_are_packed(fake_race: FakeRace) -> None:
    result = fake_race.run()
    with tarfile.open(result["logs"]) as tar:
        names = {Path(name).name for name in tar.getnames()}
    expected = {"race.log", "etcd.log", "consumer.log", "consumer-agent.log", "result.json"}
    expected |= {f"provider-{size}.log" for size in ("small", "medium", "large")}
    expected |= {f"provider-agent-{size}.log" for size in ("small", "medium", "large")}
    expected |= {"load-2.log", "load-2.out"}
    assert expected <= names
    assert "start provider-small: " in fake_race.log
    assert "return code 0, output:\nRESULT" in fake_race.log
    assert not (fake_race.workspace / "state").exists()


def test_direct_has_no_consumer(fake_race: FakeRace) -> None:
    result = fake_race.run(direct=True, delay_ms=0, connections=[2], warmup_s=0)
    level = result["levels"][0]
    assert level["cpu_us_per_request"]["consumer"] is None
    assert level["ideal_qps"] is None
    assert level["ratio"] is None
    assert "start consumer:" not in fake_race.log


def test_the_task_comes_from_the_server_and_the_result_goes_there(fake_race: FakeRace) -> None:
    task = {"team_id": "blue", "task_id": "7", "settings": {"connections": [3], "delay_ms": 20}}
    with TaskServer(0, task, after=2, fail_results=1) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            given = fake_race.settings()
            del given["connections"]
            race = Race(
                given
                | {
                    "task_server": f"{server.url}/task",
                    "task_interval_s": 0.01,
                    "post_url": f"{server.url}/result",
                }
            )
            result = race.run()
        finally:
            server.shutdown()
            thread.join()
    assert (result["team_id"], result["task_id"]) == ("blue", "7")
    assert result["levels"][0]["ideal_qps"] == pytest.approx(150)
    assert result["posted"] is True
    assert server.asked == 3
    assert server.results[0]["qps"] == 1000.0  # type: ignore[index, call-overload]


def test_a_failure_is_posted_too(fake_race: FakeRace) -> None:
    fake_race.misbehave("wrk:exit")
    with TaskServer(0, {}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            result = fake_race.run(post_url=f"{server.url}/result")
        finally:
            server.shutdown()
            thread.join()
    assert_failed(fake_race, result, "return code 3", "cannot do this")
    assert server.results[0]["qps"] == -1  # type: ignore[index, call-overload]


def test_a_result_that_cannot_be_posted_is_still_written(
    fake_race: FakeRace, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        path = tmp_path / "result.json"
        result = fake_race.run(post_url=url, post_attempts=2, json_file=str(path))
    assert result["qps"] == 1000.0
    assert result["posted"] is False
    assert "2 attempts" in str(fake_race.race.error)
    assert json.loads(path.read_text()) == result


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("demo-provider-medium:exit", ("provider-medium ended before it was ready", "code 3")),
        ("agent-consumer:silent", ("consumer-agent was not ready within 0.5 s",)),
        ("demo-consumer:wrong", ("does not answer", "status 500: ERROR")),
        ("wrk:exit", ("warm-up: return code 3", "cannot do this")),
        ("wrk:garbage", ("wrk printed no result",)),
        ("wrk:wrong", ("no right answer", "'status': 1000")),
        ("wrk:hang", ("not done 0.2 s after its 1 s",)),
    ],
)
def test_a_process_that_fails_fails_the_race(
    fake_race: FakeRace, fault: str, words: tuple[str, ...]
) -> None:
    fake_race.misbehave(fault)
    result = fake_race.run(start_timeout_s=0.5, level_grace_s=0.2)
    assert_failed(fake_race, result, *words)
    assert words[0] in fake_race.log
    assert Path(result["logs"]).exists()


def test_a_process_that_dies_under_load_fails_the_race(
    fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_race.misbehave("agent-provider:late-exit")
    monkeypatch.setenv("FAKE_WRK_S", "0.6")
    result = fake_race.run(connections=[2])
    assert_failed(fake_race, result, "provider-agent-small ended by itself: return code 4")


def test_etcd_is_tried_a_bounded_number_of_times(fake_race: FakeRace) -> None:
    fake_race.misbehave("etcd:exit")
    result = fake_race.run(etcd_attempts=2)
    assert_failed(fake_race, result, "etcd, 2 attempts", "cannot do this")
    assert fake_race.log.count("start etcd: ") == 2


def test_no_etcd_is_one_line(fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_ETCD", "/nowhere/etcd")
    assert_failed(fake_race, fake_race.run(), "DRAGOMAN_ETCD=/nowhere/etcd")


def test_a_program_that_is_not_there_is_named(fake_race: FakeRace) -> None:
    result = fake_race.run(dragoman=["/nowhere/dragoman"])
    assert_failed(fake_race, result, "provider-small", "/nowhere/dragoman", "No such file")


def test_a_process_that_ignores_sigterm_is_killed(fake_race: FakeRace) -> None:
    fake_race.misbehave("agent-consumer:stubborn")
    result = fake_race.run(connections=[2], stop_grace_s=0.2)
    assert result["qps"] == 1000.0
    assert fake_race.running() == []
    assert "consumer-agent ignored SIGTERM" in fake_race.log


def test_a_changed_signature_stops_the_race_before_anything_starts(
    fake_race: FakeRace, tmp_path: Path
) -> None:
    (tmp_path / "guarded").write_text("changed")
    (tmp_path / "signatures").write_text(f"{'0' * 64}  guarded\n")
    result = fake_race.run(signatures=str(tmp_path / "signatures"))
    assert_failed(fake_race, result, "guarded: modified")
    assert "start " not in fake_race.log


def test_a_locked_workspace_fails_and_is_left_alone(fake_race: FakeRace) -> None:
    with WorkspaceLock(fake_race.workspace):
        (fake_race.workspace / "logs").mkdir()
        result = fake_race.run()
        assert "is locked by process" in result["error"]
        assert list((fake_race.workspace / "logs").iterdir()) == []
    assert_failed(fake_race, result)


def test_every_policy_is_compared(fake_race: FakeRace) -> None:
    result = fake_race.run(compare_policies=True, connections=[2], warmup_s=0, direct=True)
    assert [entry["policy"] for entry in result["policies"]] == list(POLICIES)
    assert {entry["qps"] for entry in result["policies"]} == {1000.0}
    assert result["qps"] == 1000.0
    assert (fake_race.workspace / "logs" / "p2c" / "consumer-agent.log").exists()
    for policy in POLICIES:
        assert f"--policy {policy} " in fake_race.log


def test_a_policy_that_fails_does_not_hide_the_others(
    fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = workflow.Race._race_policy

    def race_policy(self: Race, config: Any, *rest: Any) -> None:
        if config.policy == "p2c":
            raise UsageError("not this one")
        original(self, config, *rest)

    monkeypatch.setattr(workflow.Race, "_race_policy", race_policy)
    monkeypatch.setattr(workflow, "POLICIES", ("demand", "p2c", "random"))
    result = fake_race.run(compare_policies=True, connections=[2], warmup_s=0)
    assert_failed(fake_race, result, "policy p2c: not this one")
    assert [entry["qps"] for entry in result["policies"]] == [1000.0, -1, 1000.0]


def test_a_fault_of_the_race_itself_is_a_result_too(
    fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("dragoman.race.level.ideal_split", broken)
    result = fake_race.run()
    assert_failed(fake_race, result, "unexpected ZeroDivisionError: oops")
    assert "Traceback" in fake_race.log


@pytest.mark.parametrize("name", ["etcd", "provider-small", "consumer-agent-admin", "consumer"])
def test_a_port_that_another_program_takes_is_given_up_for_others(
    fake_race: FakeRace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The port is the race's until its program is started: then a thief is quicker."""
    give = Network.give
    thieves: list[socket.socket] = []

    def give_to_a_thief(self: Network, *names: str) -> None:
        give(self, *names)
        if name in names and len(thieves) < 2:
            thieves.append(socket.create_server(("127.0.0.1", self.ports[name])))

    monkeypatch.setattr(Network, "give", give_to_a_thief)
    try:
        result = fake_race.run(connections=[2], warmup_s=0, etcd_attempts=1, start_timeout_s=3)
    finally:
        for thief in thieves:
            thief.close()
    assert len(thieves) == 2
    assert "error" not in result
    assert fake_race.log.count("again with other ports") == 2
    assert fake_race.running() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"connections": [0]}, "connections"),
        ({"policy": "best"}, "policy: expected one of demand, least-active, "),
        ({"load": "ab"}, "load: .*expected one of wrk, builtin"),
        ({"unknown": 1}, "unknown"),
        ({"task_file": "a", "task_server": "b"}, "exclude each other"),
    ],
)
def test_a_bad_setting_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Race(given)
