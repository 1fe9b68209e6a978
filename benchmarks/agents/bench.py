"""What every measurement here shares: processes, one load, CPU a request by role.

Called by the other modules of this package. The invariant: a figure is only a result if every reply
was right; otherwise it carries its errors, and the table shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError
from dragoman.harness.cpu import CpuTime
from dragoman.harness.interruption import Interruption
from dragoman.harness.processes import Child, Processes
from dragoman.race.config import INTERFACE
from dragoman.race.load_drivers import LoadDriver, LoadError, LoadResult, Target
from dragoman.race.pressure import Pressure, press

WARMUP_S = 1.0


class Skipped(DragomanError):
    """Something needed is not installed."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement. CPU times are microseconds a request as (user, system), by role."""

    name: str
    connections: int
    qps: float
    errors: dict[str, int]
    latency_ms: dict[str, float | None]
    cpu_us: dict[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "name": self.name,
            "connections": self.connections,
            "qps": round(self.qps, 1),
            "errors": self.errors,
            "latency_ms": self.latency_ms,
            "cpu_us_per_request": {
                role: {"user": round(user, 2), "system": round(system, 2)}
                for role, (user, system) in self.cpu_us.items()
            },
        }


class Bench:
    """The settings of a run and how it measures."""

    interface = INTERFACE

    def __init__(
        self,
        directory: Path,
        interruption: Interruption,
        driver: LoadDriver,
        *,
        connections: int,
        duration_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.interruption = interruption
        self.driver = driver
        self.connections = connections
        self.duration_s = duration_s
        self.tell = tell
        self.processes = Processes(directory, interruption)
        self._loads = 0

    def measure(
        self,
        name: str,
        target: Target,
        roles: Mapping[str, Sequence[Child]],
        *,
        connections: int | None = None,
        processes: Processes | None = None,
    ) -> Measured:
        """Warm up, press, and take what ``roles`` spent. Raises LoadError, ProcessError."""
        self.tell(name)
        count = connections or self.connections
        processes = processes or self.processes
        self._press(target, count, WARMUP_S, processes)
        before = {role: _spent(children) for role, children in roles.items()}
        result, _ = self._press(target, count, self.duration_s, processes)
        after = {role: _spent(children) for role, children in roles.items()}
        if not result.requests:
            raise LoadError(f"{name}: no right answer, {result.errors}")
        return Measured(
            name,
            count,
            result.qps,
            result.errors,
            result.latency_ms,
            {role: _micros(after[role] - before[role], result) for role in roles},
        )

    def _press(
        self, target: Target, connections: int, duration_s: float, processes: Processes
    ) -> tuple[LoadResult, CpuTime]:
        self._loads += 1
        pressure = Pressure(self.driver, target, connections, duration_s)
        return press(pressure, f"load-{self._loads}", processes, self.interruption)


def _spent(children: Sequence[Child]) -> CpuTime:
    return sum((child.cpu() for child in children), CpuTime())


def _micros(spent: CpuTime, result: LoadResult) -> tuple[float, float]:
    return (spent.user_s * 1e6 / result.requests, spent.system_s * 1e6 / result.requests)
