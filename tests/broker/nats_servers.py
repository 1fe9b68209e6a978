"""Real NATS servers with JetStream: one, or a cluster of three, on free ports."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
WAIT_S = 20

needs_server = pytest.mark.skipif(
    PROGRAM is None, reason="nats-server is not installed (Debian's package nats-server)"
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class NatsServer:
    """A server that can be killed and started again with what it had stored."""

    def __init__(self, place: Path, number: int, port: int, routes: list[int], own: int) -> None:
        self.port = port
        self.name = f"n{number}"
        self._log = place / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        assert PROGRAM is not None
        self._command = [PROGRAM, "-a", "127.0.0.1", "-p", str(port), "-n", self.name]
        self._command += ["-js", "-sd", str(place / self.name), "-l", str(self._log)]
        if routes:
            self._command += ["--cluster_name", "tests", "--cluster", f"nats://127.0.0.1:{own}"]
            self._command += ["--routes", ",".join(f"nats://127.0.0.1:{r}" for r in routes)]

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + WAIT_S
        while True:
            assert self.process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until, self._log.read_text()
                time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(WAIT_S)
            self.process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


@contextmanager
def nats_server(place: Path) -> Iterator[NatsServer]:
    server = NatsServer(place, 0, free_ports(1)[0], [], 0)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def nats_cluster(place: Path, count: int = 3) -> Iterator[list[NatsServer]]:
    ports = free_ports(2 * count)
    clients, routes = ports[:count], ports[count:]
    servers = [
        NatsServer(place, number, clients[number], routes, routes[number])
        for number in range(count)
    ]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.kill()


def url_of(servers: list[NatsServer], prefix: str, replicas: int) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"nats://{hosts}/{prefix}?replicas={replicas}"
