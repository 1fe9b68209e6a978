"""The chain as real processes: started through the command line, killed, stopped and started again.

Everything in ``tests/faults`` goes through a ``Chain``. The invariant: a process is signalled only
by the pid it was started with here, and none outlives its chain, nor the test run.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dragoman.harness.etcd import EtcdServer
from dragoman.harness.network import Network, accepts
from tests.faults.http import exchange
from tests.waiting import until

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
HOST = "127.0.0.1"
START_S = 30.0
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG = 1


class Program:
    """One command line of dragoman, which may be run again and again."""

    def __init__(
        self, chain: Chain, name: str, arguments: list[str], port: int, admin: int
    ) -> None:
        self.chain = chain
        self.name = name
        self.arguments = arguments
        self.port = port
        self.admin = admin
        self.log = chain.directory / f"{name}.log"
        self.descriptors = 0
        # What it is given as systemd gives it, each with its name.
        self.sockets: list[tuple[socket.socket, str]] = []
        self.listen_fds = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the present run."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How the last run ended; None while it goes on."""
        assert self._process is not None
        return self._process.poll()

    def launch(self) -> Program:
        """Start it without waiting. ``descriptors`` bounds how many it may have, hard."""
        assert self._process is None or self._process.poll() is not None
        descriptors = self.descriptors
        sockets = self.sockets
        # The process that is to have them is known only when it is there.
        before = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"] if sockets else []
        named = {
            "LISTEN_FDS": self.listen_fds or str(len(sockets)),
            "LISTEN_FDNAMES": ":".join(name for _, name in sockets),
        }

        def prepare() -> None:
            _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            copies = [os.dup(sock.fileno()) for sock, _ in sockets]
            copies = [fcntl.fcntl(each, fcntl.F_DUPFD, 64) for each in copies]
            for i, each in enumerate(copies):
                os.dup2(each, 3 + i)
            if descriptors:
                import resource

                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "dragoman", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=prepare,  # noqa: PLW1509 - only system calls
                close_fds=not sockets,
                env={
                    **os.environ,
                    **(named if sockets else {}),
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        return self

    async def wait_ready(self) -> Program:
        """Return once it serves; fails with its log when it ends first."""
        await until(self._is_ready, START_S, lambda: f"{self.name}: {self.tail()}")
        return self

    async def start(self) -> Program:
        """``launch`` and ``wait_ready``."""
        return await self.launch().wait_ready()

    async def _is_ready(self) -> bool:
        assert self.returncode is None, f"{self.name} ended: {self.tail()}"
        if not self.admin:
            return accepts(self.port)
        with contextlib.suppress(OSError, EOFError):
            return (await exchange(self.admin, "GET", "/readyz")).status == 200
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the present run, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait for it."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: its connections stay, it does nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def ended(self, timeout_s: float = 12.0) -> int:
        """Wait for its end; the exit code."""
        await until(lambda: self.returncode is not None, timeout_s, self.tail)
        assert self.returncode is not None
        return self.returncode

    async def stop(self, timeout_s: float = 12.0) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(timeout_s)

    def text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.text().splitlines()[-12:])

    def cpu_s(self) -> float:
        """CPU seconds of the present run so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        """Resident memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    async def status(self) -> Any:
        """The ``/status`` page."""
        return msgspec.json.decode((await exchange(self.admin, "GET", "/status")).body)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the figures called ``name`` that carry ``labels``."""
        page = (await exchange(self.admin, "GET", "/metrics")).body.decode()
        total = 0.0
        for found in re.finditer(rf"^{name}(?:{{(.*)}})? (\S+)$", page, re.MULTILINE):
            have = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
            if labels.items() <= have.items():
                total += float(found[2])
        return total

    async def services(self) -> list[dict[str, Any]]:
        """What a consumer agent knows of each service, in every worker."""
        workers = (await self.status())["workers"]
        return [service for worker in workers for service in worker.get("services", [])]

    async def settled(self, endpoints: int, group: str = "", timeout_s: float = 10.0) -> None:
        """Wait until this consumer agent has ``endpoints`` usable endpoints of the group."""
        name = f"{group}/{INTERFACE}" if group else INTERFACE

        async def are() -> bool:
            for service in await self.services():
                if service["service"] == name:
                    usable = [
                        each
                        for each in service["endpoints"]
                        if each["state"] == "ready" and not each["breaker_open"]
                    ]
                    return len(usable) == endpoints == len(service["endpoints"])
            return False

        await until(are, timeout_s, lambda: f"{self.name} has no {endpoints} of {name}")


class Chain:
    """Some parts of a mesh on ports of their own. ``close`` stops all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs: list[Program] = []
        self.network = Network()
        self.etcd = EtcdServer(
            directory,
            client_port=self.network.lend("etcd"),
            peer_port=self.network.lend("etcd-peer"),
        )

    @property
    def registry(self) -> str:
        """The URL of this chain's etcd."""
        return self.etcd.registry_url

    def port(self, name: str) -> int:
        """A port that is ``name``'s in this chain."""
        return self.network.ports.get(name) or self.network.lend(name)

    def provider(self, name: str, *options: str) -> Program:
        """A demo provider."""
        port = self.port(name)
        arguments = ["demo", "provider", "--port", str(port), *options]
        return self._program(name, arguments, port, 0)

    def provider_agent(
        self, name: str, provider: int | Program, *options: str, registry: str = ""
    ) -> Program:
        """The agent of a provider (or of whatever listens on that port), which is asked in fastjson
        unless the options say otherwise.
        """
        at = provider if isinstance(provider, int) else provider.port
        own = ["--provider", f"{HOST}:{at}", "--interface", INTERFACE]
        own += [] if "--serialization" in options else ["--serialization", "fastjson"]
        return self._agent("provider", name, own, options, registry)

    def consumer_agent(self, name: str, *options: str, registry: str = "") -> Program:
        """A consumer's agent."""
        return self._agent("consumer", name, [], options, registry)

    def pair(self, name: str, provider: tuple[str, ...] = (), agent: tuple[str, ...] = ()) -> Pair:
        """A demo provider with its agent."""
        beside = self.provider(f"{name}-provider", *provider)
        return Pair(beside, self.provider_agent(f"{name}-agent", beside, *agent))

    def _agent(
        self, role: str, name: str, own: list[str], options: tuple[str, ...], registry: str
    ) -> Program:
        port, admin = self.port(name), self.port(f"{name}-admin")
        arguments = ["agent", role, "--listen", f"{HOST}:{port}", "--admin", f"{HOST}:{admin}"]
        arguments += ["--registry", registry or self.registry, *own, *options]
        return self._program(name, arguments, port, admin)

    def _program(self, name: str, arguments: list[str], port: int, admin: int) -> Program:
        program = Program(self, name, arguments, port, admin)
        self.programs.append(program)
        return program

    def close(self) -> None:
        """Kill what still runs; tests that care have stopped it in order."""
        for program in self.programs:
            program.signal(signal.SIGKILL)
        for program in self.programs:
            if program._process is not None:
                program._process.wait()
        self.etcd.kill()
        self.network.__exit__()

    def check_logs(self) -> None:
        """No process has logged a traceback, or an exception that nobody caught."""
        for program in self.programs:
            text = program.text()
            for mark in ("Traceback", "Exception", "internal error"):
                assert mark not in text, f"{program.name}: {text}"


class Pair:
    """A provider and its agent."""

    def __init__(self, provider: Program, agent: Program) -> None:
        self.provider = provider
        self.agent = agent

    async def start(self) -> Pair:
        """Start both at once."""
        await start(self.provider, self.agent)
        return self


@contextlib.contextmanager
def chain(directory: Path) -> Iterator[Chain]:
    """A chain for the length of a block; its logs must be clean at the end."""
    made = Chain(directory)
    try:
        yield made
        made.check_logs()
    finally:
        made.close()


async def start(*programs: Program) -> None:
    """Start programs at once, and wait for all."""
    for program in programs:
        program.launch()
    await asyncio.gather(*(program.wait_ready() for program in programs))
