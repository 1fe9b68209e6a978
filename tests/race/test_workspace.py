"""The workspace: its lock, the signatures checked in it, the logs packed in it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tarfile
from pathlib import Path

import pytest
import typer

from dragoman.cli.race import register
from dragoman.errors import UsageError
from dragoman.race import archive, signatures
from dragoman.race.config import build
from dragoman.race.lock import WorkspaceLock, WorkspaceLocked


def test_a_lock_that_is_held_names_its_holder(tmp_path: Path) -> None:
    with (
        WorkspaceLock(tmp_path),
        pytest.raises(WorkspaceLocked, match=f"locked by process {os.getpid()} "),
        WorkspaceLock(tmp_path),
    ):
        pass
    with WorkspaceLock(tmp_path) as lock:
        assert lock.recovered_pid is None


@pytest.mark.parametrize("left", ['{"pid": 4194304, "since": "then"}', "not JSON", "[]"])
def test_a_stale_lock_is_recovered(tmp_path: Path, left: str) -> None:
    (tmp_path / "lock").write_text(left)
    with WorkspaceLock(tmp_path) as lock:
        assert lock.recovered_pid == (4194304 if "pid" in left else None)
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "lock").read_text() == ""


def test_a_lock_whose_holder_wrote_nothing_is_still_held(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(WorkspaceLocked, match="locked by another process"),
            WorkspaceLock(tmp_path),
        ):
            pass


def test_a_workspace_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"workspace .*file"), WorkspaceLock(tmp_path / "file"):
        pass


def test_signatures_that_match_pass(tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("content")
    path = tmp_path / "signatures"
    assert signatures.write(path, ["a file", "package:errors.py"]) == 2
    found = signatures.read(path)
    assert found["a file"] == hashlib.sha256(b"content").hexdigest()
    signatures.verify(found, tmp_path)


def test_every_file_that_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "changed").write_text("before")
    (tmp_path / "gone").write_text("before")
    path = tmp_path / "signatures"
    signatures.write(path, ["changed", "gone"])
    (tmp_path / "changed").write_text("after")
    (tmp_path / "gone").unlink()
    with pytest.raises(signatures.SignatureError, match=r"changed: modified .*gone: No such file"):
        signatures.verify(signatures.read(path), tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("abc  file\n", ":1: expected"), ("# nothing\n\n", "names no file"), (None, "No such file")],
)
def test_a_signature_file_that_is_none_is_named(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "signatures"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        signatures.read(path)


def test_the_command_line_writes_signatures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "signatures"
    app = typer.Typer()
    register(app)
    app(["--write-signatures", str(path)], standalone_mode=False)
    assert "signatures of" in capsys.readouterr().out
    signatures.verify(signatures.read(path), tmp_path)


def test_what_measures_is_guarded() -> None:
    names = {name.removeprefix("package:") for name in signatures.guarded_files()}
    demo = {f"demo/{path.name}" for path in (signatures.PACKAGE / "demo").glob("*.p*[xdy]")}
    assert names >= demo
    assert names >= {"race/closed_loop.pyx", "race/latency.pxd", "race/load.py", "race/wrk.lua"}
    assert "harness/cpu.py" in names
    # A file that has moved must not leave a pattern that matches nothing.
    for pattern in signatures._GUARDED:
        assert list(signatures.PACKAGE.glob(pattern)), pattern


def test_new_logs_replace_the_old_and_an_archive_is_whole(tmp_path: Path) -> None:
    logs = archive.fresh_logs(tmp_path)
    (logs / "old").write_text("old")
    logs = archive.fresh_logs(tmp_path)
    (logs / "new.log").write_text("new")
    archive.pack(logs, tmp_path / "run.tar.gz")
    with tarfile.open(tmp_path / "run.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["run", "run/new.log"]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_logging_configuration_is_applied(tmp_path: Path) -> None:
    config = tmp_path / "log.toml"
    config.write_text(
        '[handlers.more]\nclass = "logging.FileHandler"\n'
        f'filename = "{tmp_path}/more.log"\n[loggers.dragoman]\nhandlers = ["more"]\n'
    )
    logger = logging.getLogger("dragoman")
    with archive.logging_to(tmp_path, build({"log_config": str(config)})):
        logging.getLogger("dragoman.race.x").info("hello")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    assert "INFO    hello" in (tmp_path / "race.log").read_text()
    assert (tmp_path / "more.log").read_text() == "hello\n"


def test_a_bad_logging_configuration_is_named(tmp_path: Path) -> None:
    config = tmp_path / "log.json"
    config.write_text('{"handlers": {"a": {"class": "no.such.Handler"}}}')
    with (
        pytest.raises(UsageError, match=r"log\.json: "),
        archive.logging_to(tmp_path, build({"log_config": str(config)})),
    ):
        pass
