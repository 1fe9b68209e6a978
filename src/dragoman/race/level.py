"""One level: the load on a ready chain, and what everything did meanwhile.

Called by the workflow. The invariant: figures of the processes are differences between the level's
two borders, so nothing that happened before (starting, warming up) is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dragoman.harness.cpu import CpuTime
from dragoman.harness.interruption import Interruption
from dragoman.race import metrics
from dragoman.race.chain import ROLES, Chain
from dragoman.race.config import SIZES, RaceConfig
from dragoman.race.load_drivers import LoadDriver, LoadError, LoadResult
from dragoman.race.pressure import Pressure, press

Number = TypeVar("Number", int, float)
# In-flight figures are taken this often, after the first second has passed.
SAMPLE_S = 1.0
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Counters:
    """The agents' counters at one border of a level: by code, by endpoint, by size."""

    answers: dict[str, float]
    requests: dict[str, float]
    rejections: dict[str, float]


def counters(chain: Chain) -> Counters:
    """The counters now."""
    page = chain.consumer_agent_metrics()
    rejections = {}
    for size in chain.sizes:
        rejected = chain.provider_agent_metrics(size).total(metrics.PROVIDER_REJECTIONS)
        if rejected is not None:
            rejections[size] = rejected
    return Counters(
        page.by_label(metrics.HTTP_RESPONSES, "code"),
        page.by_label(metrics.ENDPOINT_REQUESTS, "endpoint"),
        rejections,
    )


def cpu_times(chain: Chain) -> dict[str, CpuTime]:
    """The CPU time that each role has spent so far."""
    return {
        role: sum((child.cpu() for child in chain.processes.of_role(role)), CpuTime())
        for role in ROLES
    }


class Level:
    """Runs the load on a chain; ``run`` returns a level's entry of the result.

    ``tell`` is called every now and then with the seconds that passed since it was last called.
    """

    def __init__(
        self,
        chain: Chain,
        driver: LoadDriver,
        interruption: Interruption,
        tell: Callable[[float], None],
    ) -> None:
        self._chain = chain
        self._driver = driver
        self._interruption = interruption
        self._tell = tell
        self._told_s = 0.0
        self._sampling = False
        self._sampled_s = 0.0
        self._duration_s = 0.0
        self._inflight: list[dict[str, float]] = []

    def press(
        self, connections: int, duration_s: float, name: str, *, sample: bool = False
    ) -> tuple[LoadResult, CpuTime]:
        """Run the load once: its result and its own CPU time. Raises LoadError, ProcessError."""
        config = self._chain.config
        self._told_s = self._sampled_s = 0.0
        self._sampling = sample
        self._duration_s = duration_s
        pressure = Pressure(
            self._driver,
            self._chain.target,
            connections,
            duration_s,
            config.request_timeout_s,
            config.level_grace_s,
        )
        return press(pressure, name, self._chain.processes, self._interruption, self._watch)

    def _watch(self, elapsed_s: float) -> None:
        self._tell(elapsed_s - self._told_s)
        self._told_s = elapsed_s
        if self._sampling and elapsed_s - self._sampled_s >= SAMPLE_S:
            self._sampled_s += SAMPLE_S
            if SETTLE_S <= elapsed_s < self._duration_s - 0.1:
                self._sample()

    def _sample(self) -> None:
        page = self._chain.consumer_agent_metrics()
        inflight = page.by_label(metrics.ENDPOINT_INFLIGHT, "endpoint")
        if inflight:
            self._inflight.append(self._by_size(inflight))

    def _by_size(self, by_endpoint: dict[str, Number]) -> dict[str, Number]:
        return {self._chain.size_of_endpoint(name): value for name, value in by_endpoint.items()}

    def run(self, connections: int) -> dict[str, Any]:
        """Measure one level. Raises LoadError, also when not a single answer was right."""
        config = self._chain.config
        # CPU innermost: an agent's work for its metrics page is not the requests'.
        before = counters(self._chain)
        spent_before = cpu_times(self._chain)
        result, load_cpu = self.press(
            connections, config.duration_s, f"load-{connections}", sample=True
        )
        spent = cpu_times(self._chain)
        after = counters(self._chain)
        if result.requests <= 0:
            raise LoadError(f"{connections} connections: no right answer, {result.errors}")
        cpu = {role: spent[role] - spent_before[role] for role in ROLES}
        split = self._by_size(difference(before.requests, after.requests))
        rejections = difference(before.rejections, after.rejections)
        answers = difference(before.answers, after.answers)
        return entry(config, connections, result, {"load": load_cpu, **cpu}) | {
            "agent_answers": {code: count for code, count in answers.items() if count} or None,
            "split": dict(sorted(split.items(), key=lambda item: _by_capacity(item[0]))) or None,
            "rejections": rejections or None,
            "concurrency_split": averages(self._inflight),
            "ideal_concurrency_split": ideal_split(config, connections),
        }


def entry(
    config: RaceConfig, connections: int, result: LoadResult, cpu: dict[str, CpuTime]
) -> dict[str, Any]:
    """The part of a level's report that the load and the CPU times give."""
    ideal_qps = connections / (config.delay_ms / 1e3) if config.delay_ms else None
    used = {role: spent for role, spent in cpu.items() if spent.total_s > 0}

    def micros(seconds: float) -> float:
        return round(seconds * 1e6 / result.requests, 2)

    return {
        "connections": connections,
        "duration_s": round(result.duration_s, 3),
        "requests": result.requests,
        "qps": round(result.qps, 1),
        "ideal_qps": ideal_qps,
        "ratio": round(result.qps / ideal_qps, 4) if ideal_qps else None,
        "errors": result.errors,
        "latency_ms": result.latency_ms,
        "cpu_us_per_request": {
            role: micros(cpu[role].total_s) if role in used else None for role in cpu
        },
        "cpu_split_us_per_request": {
            role: {"user": micros(spent.user_s), "system": micros(spent.system_s)}
            for role, spent in used.items()
        },
    }


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, int]:
    """How much each counter grew; one that was not there began at 0."""
    return {name: round(value - before.get(name, 0.0)) for name, value in after.items()}


def averages(samples: list[dict[str, float]]) -> dict[str, float] | None:
    """The mean of the samples by key, a missing key counting as 0; None without samples."""
    if not samples:
        return None
    names = sorted({name for sample in samples for name in sample}, key=_by_capacity)
    return {
        name: round(sum(sample.get(name, 0.0) for sample in samples) / len(samples), 1)
        for name in names
    }


def _by_capacity(name: str) -> tuple[int, str]:
    return (SIZES.index(name) if name in SIZES else len(SIZES), name)


def ideal_split(config: RaceConfig, connections: int) -> dict[str, float]:
    """Requests shared by capacity, none over the limit: 512 are 112 : 200 : 200 with 1 : 2 : 3.

    What a full provider cannot take goes to the others by their capacities.
    """
    split = dict.fromkeys(SIZES, 0.0)
    open_sizes = set(SIZES)
    left = float(connections)
    while open_sizes and left > 1e-9:
        weight = sum(config.capacity(size) for size in open_sizes)
        shares = {size: left * config.capacity(size) / weight for size in open_sizes}
        for size, share in shares.items():
            taken = min(share, config.limit - split[size])
            split[size] += taken
            left -= taken
        open_sizes = {size for size in open_sizes if split[size] < config.limit - 1e-9}
    return {size: round(value, 1) for size, value in split.items()}
