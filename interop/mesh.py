"""dragoman's agents beside Java providers, with an etcd of their own, for the length of a block."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.harness.etcd import EtcdServer, free_ports
from interop.programs import Program, dragoman

TYPES = "org.dragoman.interop.Types"
HOST = "127.0.0.1"
READY_S = 20.0


@dataclass(frozen=True)
class Answer:
    """An HTTP response of a consumer's agent."""

    status: int
    error: str
    body: bytes


class MeshCaller:
    """One HTTP connection to a consumer's agent."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30)

    def call(
        self,
        method: str,
        arguments: list[str],
        types: list[str] | None = None,
        *,
        interface: str = TYPES,
        timeout_ms: int = 10000,
        **members: Any,
    ) -> Answer:
        """A call by the JSON contract; ``arguments`` are JSON texts."""
        text = f'"args": [{", ".join(arguments)}]'
        if types is not None:
            text += f', "types": {json.dumps(types)}'
        for key, value in members.items():
            text += f", {json.dumps(key)}: {json.dumps(value)}"
        head = {
            "content-type": "application/json",
            "x-dragoman-timeout-ms": str(timeout_ms),
        }
        try:
            self._connection.request("POST", f"/{interface}/{method}", f"{{{text}}}".encode(), head)
            response = self._connection.getresponse()
            body = response.read()
        except OSError:
            self._connection.close()
            raise
        return Answer(response.status, response.getheader("x-dragoman-error") or "", body)

    def close(self) -> None:
        self._connection.close()


class Mesh:
    """An etcd and agents; ``mesh`` makes it and takes it away."""

    def __init__(self, stack: ExitStack, etcd: EtcdServer) -> None:
        self._stack = stack
        self.etcd = etcd
        self._admins: dict[str, int] = {}

    @property
    def registry(self) -> str:
        return self.etcd.registry_url

    def provider_agent(self, provider_port: int, *options: str, interface: str = TYPES) -> Program:
        """An agent beside the provider at this port."""
        own = ["--provider", f"{HOST}:{provider_port}", "--interface", interface]
        return self._agent("provider", *own, *options)[0]

    def consumer_agent(self, *options: str) -> tuple[Program, int]:
        """A consumer's agent and its port."""
        return self._agent("consumer", *options)

    def _agent(self, role: str, *options: str) -> tuple[Program, int]:
        port, admin = free_ports(2)
        command = ["agent", role, "--listen", f"{HOST}:{port}", "--admin", f"{HOST}:{admin}"]
        command += ["--registry", self.registry, *options]
        program = self._stack.enter_context(dragoman(f"{role} agent", *command))
        wait_until(lambda: _is_ready(program, admin), f"the {role} agent", program.errors)
        self._admins[program.name + str(port)] = admin
        return program, port

    def wait_endpoints(self, consumer_port: int, count: int, interface: str = TYPES) -> None:
        """Wait until a consumer's agent has ``count`` usable endpoints of the service."""
        admin = self._admins[f"consumer agent{consumer_port}"]

        def are() -> bool:
            status = json.loads(_page(admin, "/status"))
            found = [
                endpoint
                for worker in status["workers"]
                for service in worker.get("services", [])
                if service["service"].rpartition("/")[2].partition(":")[0] == interface
                for endpoint in service["endpoints"]
                if endpoint["state"] == "ready" and not endpoint["breaker_open"]
            ]
            return len(found) == count

        wait_until(are, f"{count} endpoints", lambda: _page(admin, "/status").decode())


def _page(admin: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{HOST}:{admin}{path}", timeout=5) as response:
        return bytes(response.read())


def _is_ready(program: Program, admin: int) -> bool:
    assert program.runs, program.errors()
    try:
        return bool(_page(admin, "/readyz"))
    except OSError:
        return False


def wait_until(condition: Any, what: str, why: Any = lambda: "") -> None:
    """Wait for a condition; AssertionError after 20 s."""
    until = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {READY_S:g} s: {why()}"
        time.sleep(0.05)


@contextmanager
def mesh() -> Iterator[Mesh]:
    """An etcd on free ports, and what is started beside it."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        etcd = EtcdServer(Path(directory))
        stack.callback(etcd.kill)
        asyncio.run(etcd.start())
        yield Mesh(stack, etcd)
