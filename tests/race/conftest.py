"""A race over fake processes: everything the real one does, in a fraction of a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from dragoman.race.workflow import Race

FAKE = Path(__file__).with_name("fake_dragoman.py")
MARK = "DRAGOMAN_TEST_MARK"


class FakeRace:
    """Runs races in ``workspace``; processes started by them carry a mark in their environment."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.workspace = directory / "workspace"
        self._patch = monkeypatch
        self._mark = uuid.uuid4().hex
        programs = directory / "bin"
        programs.mkdir()
        for name in ("etcd", "wrk"):
            script = programs / name
            word = "wrk " if name == "wrk" else ""
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {FAKE} {word}"$@"\n')
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("DRAGOMAN_ETCD", str(programs / "etcd"))
        monkeypatch.setenv(MARK, self._mark)

    def misbehave(self, what: str) -> None:
        """Let one process misbehave; see ``fake_dragoman``."""
        self._patch.setenv("FAKE", what)

    def settings(self, **given: Any) -> dict[str, Any]:
        """Settings for a race of the fakes."""
        return {
            "dragoman": [sys.executable, "-S", str(FAKE)],
            "workspace": str(self.workspace),
            "connections": [2, 512],
            "duration_s": 1,
            "warmup_s": 1,
            "start_timeout_s": 5,
            "agent_port": 0,
            "consumer_port": 0,
            "load": "wrk",
        } | given

    def run(self, **given: Any) -> dict[str, Any]:
        """Run a race in this process; its result. ``self.race`` is the race."""
        self.race = Race(self.settings(**given))
        return self.race.run()

    def start(self, *options: str, **given: Any) -> subprocess.Popen[str]:
        """Start ``dragoman race`` as a process of its own."""
        path = self.directory / "race.toml"
        lines = (f"{name} = {json.dumps(value)}" for name, value in self.settings(**given).items())
        path.write_text("\n".join(["[race]", *lines]))
        return subprocess.Popen(
            [sys.executable, "-m", "dragoman", "race", "--config", str(path), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def log(self) -> str:
        """What the newest race logged."""
        return (self.workspace / "logs" / "race.log").read_text()

    def running(self) -> list[int]:
        """The processes that any of this test's races left."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


@pytest.fixture
def fake_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRace:
    return FakeRace(tmp_path, monkeypatch)
