"""The chain of agents and one hop through HAProxy in turn, with providers that take as long.

Called by ``__main__``. Both stand at once, three providers each, and are pressed on one after the
other, round after round: what the machine does to one it does to the other. Where answers come at
once HAProxy waits for the twins (``benchmarks.agents.http_twin``), which are slower than the demo
providers: ``compare`` has nginx there.
"""

from __future__ import annotations

from benchmarks.agents import mesh
from benchmarks.agents.bench import Bench, Measured
from benchmarks.agents.proxies import Proxies
from dragoman.harness.network import HOST, Network
from dragoman.race.config import SIZES
from dragoman.race.load_drivers import Target

LIMIT = 200


def rounds(bench: Bench, counts: tuple[int, ...], delay_ms: float, times: int) -> list[Measured]:
    """Both at each number of connections, ``times`` rounds. Raises Skipped, LoadError."""
    found = []
    with Network() as network, mesh.standing(bench, delay_ms=delay_ms, limit=LIMIT) as chain:
        proxies = Proxies(bench, network)
        try:
            twins = [proxies.start_twin(f"twin-{size}", delay_ms, LIMIT) for size in SIZES]
            haproxy, port = proxies.start_haproxy(twins)
            beside = Target(f"http://{HOST}:{port}/", bench.interface)
            for _ in range(times):
                for count in counts:
                    found.append(
                        bench.measure(
                            f"dragoman, both agents, {count}",
                            chain.target,
                            mesh.roles(chain),
                            connections=count,
                            processes=chain.processes,
                        )
                    )
                    found.append(
                        bench.measure(
                            f"HAProxy, one HTTP hop, {count}",
                            beside,
                            {"proxy": [haproxy]},
                            connections=count,
                        )
                    )
        finally:
            bench.processes.stop_all()
    return found
