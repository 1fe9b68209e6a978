"""Standard input and output that are closed or full: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.queue import QueueStore

ROOT = Path(__file__).parent.parent.parent
COMMANDS = [
    "--help",
    "--version",
    "queue --help",
    "queue get STORE q",
    "queue get STORE q --json",
    "queue stat STORE",
    "queue export STORE",
    "queue tail STORE q --no-follow",
]


def run(command: str, place: Path, redirected: str) -> subprocess.CompletedProcess[str]:
    words = command.replace("STORE", str(place / "store"))
    return subprocess.run(
        ["sh", "-c", f"{sys.executable} -m dragoman {words} {redirected}"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with QueueStore(tmp_path / "store", memory_bytes=32 << 20, cache_bytes=1 << 20) as store:
        store.put_many("q", [b"a", b"b"])
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("redirected", "why"), [("> /dev/full", "No space left on device"), (">&-", "Bad file")]
)
def test_output_that_cannot_be_written_is_one_line(
    command: str, redirected: str, why: str, place: Path
) -> None:
    done = run(command, place, redirected)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dragoman: ") and why in line


@pytest.mark.parametrize("command", ["queue put STORE q", "queue import new"])
def test_input_that_is_closed_is_one_line_and_leaves_nothing(command: str, place: Path) -> None:
    done = run(command, place, "<&-")
    assert done.returncode == 1
    assert "Bad file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert os.listdir(place) == ["store"]


@pytest.mark.parametrize(
    "command",
    [
        "queue import new",
        "queue import new nothing",
        "queue put new q --frames",
        "queue put new ''",
    ],
)
def test_a_store_that_came_to_nothing_is_not_left_behind(command: str, place: Path) -> None:
    done = run(f"{command}", place, "< /bin/sh")
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(place) == ["store"]


@pytest.mark.parametrize("where", ["127.0.0.1:7400", "localhost:7400", "[::1]:7400"])
def test_an_address_without_its_scheme_makes_no_directory(where: str, place: Path) -> None:
    done = run(f"queue put '{where}' q x", place, "")
    assert done.returncode == 2
    assert f"dragoman://{where}" in done.stderr
    assert os.listdir(place) == ["store"]


@pytest.mark.parametrize(
    "where", ["127.0.0.1:7400", "[::1]:7400", "dragoman://127.0.0.1:7400", "unix:/x", "nats://x/y"]
)
def test_what_serves_a_directory_makes_none_of_an_address(where: str, place: Path) -> None:
    done = run(f"queue serve '{where}' --listen 127.0.0.1:0", place, "")
    assert done.returncode == 2, done.stderr
    assert f"./{where}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(place) == ["store"]
