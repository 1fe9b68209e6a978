"""The chain that is raced: which processes, with which command lines, in which order, when ready.

Called by the workflow, once for each policy, and by ``benchmarks``. The invariant: a process is
started only when all that it needs is ready, and leaving the chain stops everything it started.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from dragoman.harness import cpu
from dragoman.harness.etcd import EtcdServer
from dragoman.harness.interruption import Interruption
from dragoman.harness.network import HOST, Network, accepts
from dragoman.harness.processes import Child, ProcessError, Processes
from dragoman.race import http, metrics
from dragoman.race.config import INTERFACE, SIZES, RaceConfig
from dragoman.race.load_drivers import Target

log = logging.getLogger(__name__)
ROLES = ("consumer", "consumer_agent", "provider_agents", "providers")
PREFERRED_PORTS = {
    "provider-small": 20880,
    "provider-medium": 20881,
    "provider-large": 20882,
    "provider-agent-small": 30000,
    "provider-agent-medium": 30001,
    "provider-agent-large": 30002,
}
PROBES = 5
# How often a chain is begun whose ports somebody else takes.
START_ATTEMPTS = 4
_PROBE_TEXT = "dragoman"


class Chain:
    """Context manager over the processes of one chain. ``start`` fills it.

    ``sizes`` are the providers that take part. ``logs`` takes the processes' output, ``state``
    etcd's data; ``state`` is removed on leaving.
    """

    def __init__(
        self,
        config: RaceConfig,
        logs: Path,
        state: Path,
        interruption: Interruption,
        *,
        sizes: tuple[str, ...] = SIZES,
    ) -> None:
        self.config = config
        self.sizes = sizes
        self.interface = INTERFACE
        self._state = state
        self._interruption = interruption
        self._network = Network()
        self.processes = Processes(logs, interruption, config.stop_grace_s)
        self.ports: dict[str, int] = {}
        self._program = list(config.dragoman) or [sys.executable, "-m", "dragoman"]

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.processes.stop_all()
        finally:
            self._network.__exit__()
            shutil.rmtree(self._state, ignore_errors=True)

    # What the load and the measurement ask for

    @property
    def target(self) -> Target:
        """The target of the load: the demo consumer, or with ``direct`` its agent."""
        if self.config.direct:
            return Target(f"http://{HOST}:{self.ports['consumer-agent']}/", self.interface)
        return Target(f"http://{HOST}:{self.ports['consumer']}/invoke")

    def size_of_endpoint(self, endpoint: str) -> str:
        """Which provider an endpoint label stands for: ``small``, or the label if none."""
        for size in self.sizes:
            if endpoint.endswith(f":{self.ports[f'provider-agent-{size}']}"):
                return size
        return endpoint

    def consumer_agent_metrics(self) -> metrics.Page:
        """The consumer agent's figures now."""
        return metrics.fetch(self.ports["consumer-agent-admin"])

    def provider_agent_metrics(self, size: str) -> metrics.Page:
        """A provider agent's figures now."""
        return metrics.fetch(self.ports[f"provider-agent-{size}-admin"])

    # Starting

    def start(self, tell: Callable[[str], None]) -> None:
        """Start everything, each process when what it needs is ready; then verify some answers.

        ``tell`` is called with the name of each step. Raises ProcessError or NetworkError.
        """
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_all(tell, preferred=attempt == 1)
                return
            except ProcessError as error:
                lost = self._lost()
                if not lost or attempt == START_ATTEMPTS:
                    raise
                log.warning("another program took %s: again with other ports (%s)", lost, error)
            self.processes.stop_all()
            self._network.__exit__()
            shutil.rmtree(self._state, ignore_errors=True)

    def _lost(self) -> dict[str, int]:
        """The ports that others have, by name."""
        own = [pid for each in self.processes.children for pid in cpu.process_tree(each.pid)]
        return self._network.lost(own)

    def _start_all(self, tell: Callable[[str], None], *, preferred: bool) -> None:
        tell("network")
        self._reserve_ports(preferred=preferred)
        tell("etcd")
        self._start_etcd()
        tell("providers")
        self._start_providers()
        tell("provider agents")
        self._start_provider_agents()
        tell("consumer agent")
        self._start_consumer_agent()
        if not self.config.direct:
            tell("consumer")
            self._start_consumer()
        self.processes.check_alive()
        if lost := self._lost():
            raise ProcessError(f"another program listens on the ports of {', '.join(lost)}")
        tell("first answers")
        self.probe()

    def _reserve_ports(self, *, preferred: bool) -> None:
        wanted = {
            **PREFERRED_PORTS,
            "consumer-agent": self.config.agent_port,
            "consumer": self.config.consumer_port,
        }
        names = ["etcd", "etcd-peer"]
        for size in self.sizes:
            names += [
                f"provider-{size}",
                f"provider-agent-{size}",
                f"provider-agent-{size}-admin",
            ]
        names += ["consumer-agent", "consumer-agent-admin"]
        if not self.config.direct:
            names.append("consumer")
        for name in names:
            self._network.reserve(name, wanted.get(name, 0) if preferred else 0)
        self.ports = self._network.ports
        log.info("network: %s", self.ports)

    def _start_etcd(self) -> None:
        server = EtcdServer(
            self._state,
            client_port=self.ports["etcd"],
            peer_port=self.ports["etcd-peer"],
        )
        server.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        attempts = self.config.etcd_attempts
        self._network.give("etcd", "etcd-peer")
        for attempt in range(1, attempts + 1):
            child = self.processes.start("etcd", server.command(), role="etcd")
            try:
                self._wait(child, lambda: http_ok(f"{server.client_url}/health", '"true"'))
                return
            except ProcessError as error:
                log.warning("etcd, attempt %d of %d: %s", attempt, attempts, error)
                self.processes.stop(child)
                if attempt == attempts:
                    raise ProcessError(f"etcd, {attempts} attempts: {error}") from error

    def _start_providers(self) -> None:
        memory_mib = self.config.memory_mib
        started = []
        for size in self.sizes:
            port = self.ports[f"provider-{size}"]
            child = self._start(
                "providers",
                f"provider-{size}",
                "demo provider",
                {
                    "--host": HOST,
                    "--port": port,
                    "--size": size,
                    "--delay-ms": f"{self.config.delay_ms:g}",
                    "--limit": self.config.limit,
                    **self._serialization(),
                },
                memory_bytes=(memory_mib << 20) * self.config.capacity(size) or None,
            )
            started.append((child, partial(accepts, port)))
        for child, ready in started:
            self._wait(child, ready)

    def _serialization(self) -> dict[str, str]:
        """The providers' serialization, which their agents are told, not left to find out."""
        return {"--serialization": self.config.serialization}

    def _start_provider_agents(self) -> None:
        started = []
        for size in self.sizes:
            admin_port = self.ports[f"provider-agent-{size}-admin"]
            child = self._start(
                "provider_agents",
                f"provider-agent-{size}",
                "agent provider",
                {
                    "--listen": self._address(f"provider-agent-{size}"),
                    "--provider": self._address(f"provider-{size}"),
                    "--interface": self.interface,
                    "--weight": self.config.capacity(size),
                    "--limit": self.config.limit,
                    "--registry": self._registry,
                    "--admin": f"{HOST}:{admin_port}",
                    **self._serialization(),
                },
            )
            started.append((child, partial(is_ready, admin_port)))
        for child, ready in started:
            self._wait(child, ready)

    def _start_consumer_agent(self) -> None:
        admin_port = self.ports["consumer-agent-admin"]
        options = {
            "--listen": self._address("consumer-agent"),
            "--registry": self._registry,
            "--policy": self.config.policy,
            "--admin": f"{HOST}:{admin_port}",
        }
        if self.config.agent_workers > 1:
            options["--workers"] = str(self.config.agent_workers)
        child = self._start("consumer_agent", "consumer-agent", "agent consumer", options)
        self._wait(child, partial(is_ready, admin_port))

    def _start_consumer(self) -> None:
        port = self.ports["consumer"]
        options = {"--port": port, "--agent": f"http://{self._address('consumer-agent')}"}
        child = self._start("consumer", "consumer", "demo consumer", options)
        self._wait(child, partial(accepts, port))

    def _start(
        self,
        role: str,
        name: str,
        subcommand: str,
        options: Mapping[str, object],
        *,
        memory_bytes: int | None = None,
    ) -> Child:
        """Start ``dragoman <subcommand> <options>``."""
        words = [*self._program, *command(subcommand, options)]
        self._network.give(*(each for each in (name, f"{name}-admin") if each in self.ports))
        return self.processes.start(name, words, role=role, memory_bytes=memory_bytes)

    def _wait(self, child: Child, ready: Callable[[], bool]) -> None:
        self.processes.wait_ready(child, ready, self.config.start_timeout_s)

    def _address(self, name: str) -> str:
        return f"{HOST}:{self.ports[name]}"

    @property
    def _registry(self) -> str:
        return f"etcd://{self._address('etcd')}"

    def probe(self) -> None:
        """Ask until the whole chain answers, then verify some answers; ProcessError otherwise."""
        deadline_s = time.monotonic() + self.config.start_timeout_s
        right = 0
        while right < PROBES:
            self.processes.check_alive()
            fault = self._ask()
            if fault is None:
                right += 1
                continue
            log.info("first answers: %s", fault)
            if right:
                raise ProcessError(f"the chain answered rightly, and then: {fault}")
            if time.monotonic() > deadline_s:
                raise ProcessError(f"the chain does not answer: {fault}")
            self._interruption.sleep(0.05)

    def _ask(self) -> str | None:
        """One request; what was wrong with its answer, or None."""
        target = self.target
        try:
            if target.interface is None:
                status, text = http.get(target.url, self.config.request_timeout_s)
                right = status == 200
            else:
                status, text = http.post_form(target.url, hash_form(self.interface, _PROBE_TEXT))
                right = status == 200 and text.strip() == str(java_hash(_PROBE_TEXT))
        except http.HttpError as error:
            return str(error)
        return None if right else f"{target.url}: status {status}: {text.strip()[:200]}"


def command(subcommand: str, options: Mapping[str, object]) -> list[str]:
    """``agent provider`` and ``{"--limit": 200}`` as arguments of the ``dragoman`` program."""
    words = [str(word) for option in options.items() for word in option]
    return [*subcommand.split(), *words]


def hash_form(interface: str, text: str) -> bytes:
    """The form that the demo consumer posts for ``text``."""
    return urllib.parse.urlencode(
        {
            "interface": interface,
            "method": "hash",
            "parameterTypesString": "Ljava/lang/String;",
            "parameter": text,
        }
    ).encode()


def java_hash(text: str) -> int:
    """Java's ``String.hashCode`` of an ASCII text."""
    value = 0
    for character in text.encode("ascii"):
        value = (value * 31 + character) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def http_ok(url: str, content: str = "") -> bool:
    """Whether ``url`` answers 200 with ``content`` in its text, now."""
    try:
        status, text = http.get(url, 1.0)
    except http.HttpError:
        return False
    return status == 200 and content in text


def is_ready(admin_port: int) -> bool:
    """Whether the agent with these admin pages says that it is ready."""
    return http_ok(f"http://{HOST}:{admin_port}/readyz")
