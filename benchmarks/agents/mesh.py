"""What is measured of dragoman: both agents at full load, added latency, and how their cost grows.

Called by ``__main__``. Every function starts what it needs, measures and stops it. The load goes
straight to the consumer agent; providers answer at once unless a delay is said.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.agents.bench import Bench, Measured
from dragoman.harness import cpu
from dragoman.harness.network import HOST, Network, accepts
from dragoman.harness.processes import Child
from dragoman.race.chain import Chain, command, hash_form, is_ready
from dragoman.race.config import RaceConfig
from dragoman.race.load_drivers import Target

DELAY_MS = 50.0
IDLE_CONNECTIONS = 5000
# What has just started looks about for so long; then it is watched for so long at least.
SETTLE_S = 4.0
AT_REST_S = 15.0
AGENTS = ("consumer_agent", "provider_agents")


@contextlib.contextmanager
def standing(
    bench: Bench, *, sizes: tuple[str, ...] = ("small", "medium", "large"), **settings: object
) -> Iterator[Chain]:
    values = {"direct": True, "delay_ms": 0.0, "agent_port": 0, "memory_mib": 0} | settings
    config = RaceConfig(**values)  # type: ignore[arg-type]
    with Chain(config, bench.directory, _state(bench), bench.interruption, sizes=sizes) as chain:
        chain.start(lambda _: None)
        yield chain


def _state(bench: Bench) -> Path:
    return bench.directory / "state"


def roles(chain: Chain) -> dict[str, list[Child]]:
    return {role: chain.processes.of_role(role) for role in AGENTS}


def agents(bench: Bench, *, providers: int = 3, serialization: str = "") -> Measured:
    """Both agents under full load, with three providers (as raced) or fewer."""
    sizes = ("large", "medium", "small")[:providers]
    name = f"dragoman, both agents, {providers} provider{'s' * (providers > 1)}"
    name += f", {serialization}" * bool(serialization)
    with standing(bench, sizes=sizes, serialization=serialization or "fastjson") as chain:
        return bench.measure(name, chain.target, roles(chain), processes=chain.processes)


def half_load(bench: Bench, *, direct: bool) -> Measured:
    """Latency with 50 ms providers at half of the highest level."""
    name = f"half load, {'agents only' if direct else 'whole chain'}"
    with standing(bench, delay_ms=DELAY_MS, direct=direct, consumer_port=0) as chain:
        return bench.measure(
            name, chain.target, roles(chain), connections=256, processes=chain.processes
        )


def growing_connections(bench: Bench, counts: tuple[int, ...]) -> list[Measured]:
    """Cost a request from few to many callers at once.

    The providers' limit is raised so that every caller has a request in flight: waiting for credit
    would not be the cost of a connection.
    """
    found = []
    with standing(bench, limit=max(counts)) as chain:
        for count in counts:
            found.append(
                bench.measure(
                    f"{count} connections",
                    chain.target,
                    roles(chain),
                    connections=count,
                    processes=chain.processes,
                )
            )
    return found


def growing_endpoints(bench: Bench, counts: tuple[int, ...], delay_ms: int) -> list[Measured]:
    """Cost a request of the consumer agent from one to many endpoints.

    One provider agent listens on all of 127.0.0.0/8, and the consumer agent's static registry lists
    it under as many of these addresses as there shall be endpoints: each is a link of its own to
    the consumer agent, while nothing else on the machine grows. Where answers come at once,
    fewer requests share a write the more links there are; with a delay nearly each request has a
    write of its own at any number.
    """
    found = []
    with Network() as network:
        try:
            agent_port = _start_provider_side(bench, network, 100 * bench.connections, delay_ms)
            for count in counts:
                consumer, port = _start_consumer_agent(bench, network, agent_port, count)
                try:
                    target = Target(f"http://{HOST}:{port}/", bench.interface)
                    name = f"{count} endpoint{'s' * (count > 1)}"
                    found.append(bench.measure(name, target, {"consumer_agent": [consumer]}))
                finally:
                    bench.processes.stop(consumer)
        finally:
            bench.processes.stop_all()
    return found


def _start_provider_side(bench: Bench, network: Network, limit: int, delay_ms: int) -> int:
    port = network.lend("provider")
    agent_port = network.lend("provider-agent")
    admin_port = network.lend("provider-agent-admin")
    provider = _start(
        bench,
        "provider",
        "demo provider",
        {"--host": HOST, "--port": port, "--delay-ms": delay_ms, "--limit": limit},
    )
    bench.processes.wait_ready(provider, lambda: accepts(port), 20)
    agent = _start(
        bench,
        "provider-agent",
        "agent provider",
        {
            "--listen": f"0.0.0.0:{agent_port}",
            "--advertise": f"{HOST}:{agent_port}",
            "--provider": f"{HOST}:{port}",
            "--interface": bench.interface,
            "--limit": limit,
            "--serialization": "fastjson",
            "--registry": f"static://{HOST}:{agent_port}",
            "--admin": f"{HOST}:{admin_port}",
        },
    )
    bench.processes.wait_ready(agent, lambda: is_ready(admin_port), 20)
    return agent_port


def _start_consumer_agent(
    bench: Bench, network: Network, agent_port: int, endpoints: int
) -> tuple[Child, int]:
    name = f"consumer-agent-{endpoints}"
    port = network.lend(name)
    admin_port = network.lend(f"{name}-admin")
    addresses = (f"127.0.{i // 250}.{i % 250 + 1}:{agent_port}" for i in range(endpoints))
    child = _start(
        bench,
        name,
        "agent consumer",
        {
            "--listen": f"{HOST}:{port}",
            "--registry": "static://" + ",".join(addresses),
            "--admin": f"{HOST}:{admin_port}",
        },
    )
    bench.processes.wait_ready(child, lambda: is_ready(admin_port), 20)
    return child, port


def _start(bench: Bench, name: str, subcommand: str, options: dict[str, object]) -> Child:
    words = [sys.executable, "-m", "dragoman", *command(subcommand, options)]
    return bench.processes.start(name, words, role=name)


def idle_memory(bench: Bench) -> dict[str, float]:
    """Resident MiB of the consumer agent before and with 5,000 idle connections.

    Each connection has carried one request, so that it holds whatever it keeps between requests.
    """
    bench.tell(f"memory at {IDLE_CONNECTIONS} idle connections")
    with standing(bench, sizes=("large",)) as chain, contextlib.ExitStack() as stack:
        agent = chain.processes.of_role("consumer_agent")[0]
        before = cpu.resident_bytes(agent.pid)
        body = hash_form(bench.interface, "a" * 512)
        request = (
            f"POST / HTTP/1.1\r\nHost: {HOST}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        for _ in range(IDLE_CONNECTIONS):
            link = stack.enter_context(socket.socket())
            link.settimeout(5)
            link.connect((HOST, chain.ports["consumer-agent"]))
            link.sendall(request)
            if not link.recv(4096).startswith(b"HTTP/1.1 200"):
                raise AssertionError("an idle connection's request was not answered")
        after = max(cpu.resident_bytes(pid) for pid in cpu.process_tree(agent.pid))
        return {
            "connections": IDLE_CONNECTIONS,
            "resident_mib_before": round(before / 2**20, 1),
            "resident_mib": round(after / 2**20, 1),
        }


def at_rest(bench: Bench) -> list[dict[str, Any]]:
    """What each process of the agents does in a second when nobody calls: wake-ups, processor."""
    bench.tell("agents at rest")
    found = []
    with standing(bench) as chain:
        pids = [
            (role, pid)
            for role, children in roles(chain).items()
            for child in children
            for pid in cpu.process_tree(child.pid)
        ]
        bench.interruption.sleep(SETTLE_S)
        began_s = time.monotonic()
        before = {pid: (cpu.wake_ups(pid), cpu.run_s(pid)) for _, pid in pids}
        bench.interruption.sleep(max(bench.duration_s, AT_REST_S))
        took_s = time.monotonic() - began_s
        for role, pid in pids:
            wake_ups, run_s = before[pid]
            found.append(
                {
                    "name": role,
                    "wake_ups_per_s": round((cpu.wake_ups(pid) - wake_ups) / took_s, 2),
                    "processor_percent": round((cpu.run_s(pid) - run_s) / took_s * 100, 3),
                }
            )
    return found
