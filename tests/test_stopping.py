"""SIGHUP to everything that serves: one line in the log, and it goes on; SIGTERM then ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dragoman.stopping import told_to_stop

ROOT = Path(__file__).parent.parent
WAIT_S = 20
SDK = """
from dragoman import dubbo
@dubbo.service("com.example.Work")
class Work:
    async def work(self) -> int:
        return 1
dubbo.run(Work(), 0, ready=lambda server: print("ready", server.address.port, flush=True))
"""
AGENT = "agent consumer --listen 127.0.0.1:0 --registry static://127.0.0.1:1"
PROGRAMS = {
    "demo provider --port 0": "listens on",
    "demo consumer --port 0": "consumer on",
    AGENT: "ready on",
    "queue serve store --listen 127.0.0.1:0": "serving store on",
    "": "ready",
}


@pytest.mark.parametrize("command", PROGRAMS, ids=lambda command: command or "a program of the SDK")
def test_a_hang_up_is_one_line_and_ends_nothing(command: str, tmp_path: Path) -> None:
    ready = PROGRAMS[command]
    arguments = ["-m", "dragoman", *command.split()] if command else ["-c", SDK]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = []
            while not any(ready in line for line in said):
                said.append(process.stdout.readline())
                assert said[-1], said
            for _ in range(2):
                process.send_signal(signal.SIGHUP)
                while "SIGHUP" not in (line := process.stdout.readline()):
                    assert line, (said, process.wait())
                assert "ignored" in line
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=WAIT_S)
            assert process.returncode == 0, rest
            assert "SIGHUP" not in rest and "Traceback" not in rest
        finally:
            process.kill()


def test_a_program_keeps_its_own_handler_of_hang_ups() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: got.append(number))
    try:

        async def main() -> None:
            with told_to_stop(lambda: None):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0)

        asyncio.run(main())
        assert got == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hang_up_while_a_program_that_serves_starts_is_not_its_end() -> None:
    code = (
        "import sys, os, signal; sys.argv = ['dragoman', *sys.argv[1:]]; import dragoman.cli; "
        "os.kill(os.getpid(), signal.SIGHUP); print('lives')"
    )
    ends = {
        command: subprocess.run(
            [sys.executable, "-c", code, *command.split()], capture_output=True, check=False
        ).returncode
        for command in ("agent consumer", "queue serve", "call")
    }
    assert ends == {"agent consumer": 0, "queue serve": 0, "call": -signal.SIGHUP}
