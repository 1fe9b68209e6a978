"""Obtaining the task, handing over the result, and the settings both depend on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman.errors import UsageError
from dragoman.harness.interruption import Interruption
from dragoman.race import posting, task
from dragoman.race.config import build, read_file
from dragoman.race.http import HttpError
from dragoman.race.task_server import TaskServer


@pytest.fixture
def server() -> Iterator[TaskServer]:
    with TaskServer(0, {"team_id": "blue", "task_id": "1"}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def obtain(**given: Any) -> task.Task:
    return task.obtain(build({"task_interval_s": 0.0, **given}), Interruption())


def test_without_a_source_the_task_is_built_in() -> None:
    assert obtain(team_id="me") == task.Task(team_id="me", task_id="built-in")


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_task_comes_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"task.{suffix}"
    path.write_text(
        '{"task_id": "9", "settings": {"limit": 100}, "image": "ignored"}'
        if suffix == "json"
        else 'task_id = "9"\nimage = "ignored"\n[settings]\nlimit = 100\n'
    )
    assert obtain(task_file=str(path)) == task.Task(task_id="9", settings={"limit": 100})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"task_id": 9}', r"task\.json: task_id: expected str, got int"),
        ('{"settings": {"dragoman": ["rm"]}}', "settings.dragoman: expected one of connections"),
        ("{", r"task\.json: not one well-formed JSON value from byte 1 on"),
        ("[]", "expected a table"),
    ],
)
def test_a_file_that_is_no_task_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "task.json"
    path.write_text(text)
    with pytest.raises((task.TaskError, UsageError), match=words):
        obtain(task_file=str(path))


def test_a_server_is_asked_until_it_has_a_task(server: TaskServer) -> None:
    server.after = 4
    assert obtain(task_server=f"{server.url}/task").team_id == "blue"
    assert server.asked == 5


def test_asking_is_bounded(server: TaskServer) -> None:
    server.after = 100
    with pytest.raises(task.TaskError, match="had no task after 3 attempts"):
        obtain(task_server=f"{server.url}/task", task_attempts=3)
    assert server.asked == 3


def test_a_refusal_is_not_asked_again(server: TaskServer) -> None:
    with pytest.raises(task.TaskError, match="status 404"):
        obtain(task_server=f"{server.url}/other")


def test_a_server_that_is_away_is_asked_again_and_given_up() -> None:
    with pytest.raises(task.TaskError, match="refused after 2 attempts"):
        obtain(task_server="http://127.0.0.1:1/task", task_attempts=2)


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="task server 'file:///etc/passwd': expected http"):
        obtain(task_server="file:///etc/passwd")


def test_posting_is_tried_again(server: TaskServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "PAUSE_S", 0.0)
    server.fail_results = 2
    posting.post(f"{server.url}/result", {"qps": 1}, 3, Interruption())
    assert server.results == [{"qps": 1}]
    server.fail_results = 3
    with pytest.raises(posting.PostingError, match=r"not accepted in 3 attempts: .*status 503"):
        posting.post(f"{server.url}/result", {"qps": 1}, 3, Interruption())


def test_only_what_may_pass_is_tried_again() -> None:
    assert [HttpError("", status).may_pass for status in (None, 400, 404, 429, 500)] == [
        True,
        False,
        False,
        True,
        True,
    ]


def test_a_result_file_is_whole_or_refused(tmp_path: Path) -> None:
    posting.write(tmp_path / "result.json", {"qps": -1})
    assert json.loads((tmp_path / "result.json").read_text()) == {"qps": -1}
    assert list(tmp_path.iterdir()) == [tmp_path / "result.json"]
    with pytest.raises(UsageError, match=r"result file .*No such file"):
        posting.write(tmp_path / "nowhere" / "result.json", {})


def test_the_file_says_what_options_say(tmp_path: Path) -> None:
    path = tmp_path / "race.toml"
    path.write_text('[race]\nconnections = [1, 2]\npolicy = "p2c"\n')
    config = build(read_file(path) | {"policy": "random"})
    assert (config.connections, config.policy) == ((1, 2), "random")


@pytest.mark.parametrize(
    "text", ["memory_mb = 7", "memory_mib = 7", "memory_mib = 7\nmemory_mb = 9"]
)
def test_the_old_name_of_the_memory_is_read_as_well(tmp_path: Path, text: str) -> None:
    path = tmp_path / "race.toml"
    path.write_text(f"[race]\n{text}\n")
    assert build(read_file(path)).memory_mib == 7
    assert build({"memory_mb": 8}).memory_mib == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[race]\nduration_s = 0\n", "duration_s: expected float from 1 to 86400$"),
        ("[race]\nconnections = [1, 'x']\n", r"connections\[1\]: expected int, got str"),
        ("[race]\nspeed = 1\n", "unknown field speed"),
        ("[other]\n", r"expected a table \[race\]"),
        ("[race\n", r"race\.toml: not TOML from line 1, column 6 on"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "race.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_file(path)
