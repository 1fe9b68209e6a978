"""What an agent's worker has of its supervisor and of its siblings: its own sockets, no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.broker.nats_servers import free_ports
from tests.load_factor import load_factor

ROOT = Path(__file__).parent.parent.parent


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def listening() -> dict[str, int]:
    """Sockets that listen over TCP, with their ports."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {f"socket:[{f[9]}]": int(f[1].split(":")[1], 16) for f in fields if f[3] == "0A"}


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_holds_no_port_of_its_supervisor_and_no_connection_of_its_siblings() -> None:
    port, admin = free_ports(2)
    options = f"--listen 127.0.0.1:{port} --admin 127.0.0.1:{admin} --workers 3"
    command = f"-m dragoman agent consumer --registry memory://descriptors {options}"
    agent = subprocess.Popen(
        [sys.executable, *command.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + 30 * load_factor()
        while True:
            ports = listening()
            workers = children_of(agent.pid)
            held = [sockets_of(pid) for pid in workers]
            serving = [any(ports.get(each) == port for each in mine) for mine in held]
            if len(workers) == 3 and all(serving):
                break
            assert agent.poll() is None and time.monotonic() < until_s
            time.sleep(0.02)
        for number, mine in enumerate(held):
            assert admin not in {ports.get(each) for each in mine}
            for other in held[number + 1 :]:
                # They may listen with one socket, and have nothing else together.
                assert {ports.get(each) for each in mine & other} <= {port}
        # One that is started anew has as little, and its end keeps nothing open.
        os.kill(workers[0], signal.SIGKILL)
        while True:
            again = children_of(agent.pid)
            if len(again) == 3 and workers[0] not in again:
                ports = listening()
                new = [pid for pid in again if pid not in workers]
                if new and any(ports.get(each) == port for each in sockets_of(new[0])):
                    break
            assert agent.poll() is None and time.monotonic() < until_s
            time.sleep(0.02)
        rest = set().union(*(sockets_of(pid) for pid in again if pid != new[0]))
        assert {ports.get(each) for each in sockets_of(new[0]) & rest} <= {port}
    finally:
        agent.terminate()
        agent.wait(60)
