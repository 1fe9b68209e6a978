"""Load generators for the chain: ``wrk``, or dragoman's own ``python -m dragoman.race.load``.

Called by the workflow and by ``benchmarks``. A driver only builds a command line and reads the
result that the process printed; running it is the caller's. The invariant: ``requests`` counts the
replies that were right, so that errors never raise the QPS.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dragoman.errors import DragomanError, UsageError
from dragoman.harness.cpu import CpuTime

WRK_SCRIPT = Path(__file__).with_name("wrk.lua")
# Forms that each thread of wrk makes beforehand: enough variety, and they stay in the cache's
# reach.
WRK_FORMS = 512
# The built-in load's connections start over this time, so that they are not answered all at once.
SPREAD_S = 0.05
LATENCIES = ("mean", "min", "max", "p50", "p90", "p99", "p99_9")


class LoadError(DragomanError):
    """The load did not run to its end or its result cannot be read."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a load: a GET of ``url``, or, with ``interface``, random forms posted to it."""

    url: str
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load. Latencies are in milliseconds, None where nothing was answered.

    ``cpu`` is what the load spent while it measured, if it says so.
    """

    requests: int
    duration_s: float
    errors: dict[str, int] = field(default_factory=dict)
    latency_ms: dict[str, float | None] = field(default_factory=dict)
    cpu: CpuTime | None = None

    @property
    def qps(self) -> float:
        """Right replies a second."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0


class LoadDriver(Protocol):
    """A load generator: the command that runs it, and the reading of its output."""

    name: str

    def command(
        self, target: Target, connections: int, duration_s: float, timeout_s: float
    ) -> list[str]:
        """The command line; ``timeout_s`` bounds one request."""
        ...

    def result(self, output: str) -> LoadResult:
        """The result in the process's standard output; LoadError if it cannot be read."""
        ...


class WrkDriver:
    """``wrk``: a closed loop over ``threads`` threads. Errors of status are not told apart."""

    name = "wrk"

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads

    def command(
        self, target: Target, connections: int, duration_s: float, timeout_s: float
    ) -> list[str]:
        """See LoadDriver; wrk takes whole seconds only, so durations are rounded up."""
        mode = ["get"] if target.interface is None else ["form", target.interface, str(WRK_FORMS)]
        return [
            shutil.which("wrk") or "wrk",
            f"--threads={min(self._threads, connections)}",
            f"--connections={connections}",
            f"--duration={math.ceil(duration_s)}s",
            f"--timeout={math.ceil(timeout_s)}s",
            "--latency",
            f"--script={WRK_SCRIPT}",
            target.url,
            "--",
            *mode,
        ]

    def result(self, output: str) -> LoadResult:
        """See LoadDriver."""
        lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
        if not lines:
            raise LoadError("wrk printed no result")
        found = _decoded(lines[-1].removeprefix("RESULT "))
        errors = {kind: int(count) for kind, count in found["errors"].items() if count}
        answered = found["responses"] > 0
        return LoadResult(
            requests=int(found["responses"]) - errors.get("status", 0),
            duration_s=found["duration_us"] / 1e6,
            errors=errors,
            latency_ms={
                name: round(found["latency_us"][name] / 1e3, 3) if answered else None
                for name in LATENCIES
            },
        )


class BuiltinDriver:
    """dragoman's own closed loop; in the form mode it also verifies every hash."""

    name = "builtin"

    def command(
        self, target: Target, connections: int, duration_s: float, timeout_s: float
    ) -> list[str]:
        """See LoadDriver."""
        form = [] if target.interface is None else ["--form-hash"]
        return [
            sys.executable,
            "-m",
            "dragoman.race.load",
            "--json",
            target.url,
            "--connections",
            str(connections),
            "--duration",
            f"{duration_s:g}",
            "--timeout",
            f"{timeout_s:g}",
            f"--spread={SPREAD_S}",
            *form,
        ]

    def result(self, output: str) -> LoadResult:
        """See LoadDriver."""
        if not output.strip():
            raise LoadError("the load printed no result")
        found = _decoded(output)
        try:
            return LoadResult(
                requests=int(found["good"]),
                duration_s=float(found["duration_s"]),
                errors={kind: int(count) for kind, count in found["errors"].items() if count},
                latency_ms={
                    name: found["latency_ms"].get(name) if found["requests"] else None
                    for name in LATENCIES
                },
                cpu=CpuTime(found["cpu_s"]["user"], found["cpu_s"]["system"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LoadError(f"the load's result lacks something: {error!r}") from error


def choose(name: str | None, threads: int) -> LoadDriver:
    """The driver called ``wrk`` or ``builtin``; None is wrk where it is on PATH.

    Raises UsageError for another name, or for wrk where there is none.
    """
    on_path = shutil.which("wrk") is not None
    if name == "builtin" or (name is None and not on_path):
        return BuiltinDriver()
    if name not in ("wrk", None):
        raise UsageError(f"load {name!r}: expected wrk or builtin")
    if not on_path:
        raise UsageError("load wrk: wrk is not on PATH (use builtin)")
    return WrkDriver(threads)


def _decoded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise LoadError(f"the load's result is not JSON: {text[:200]!r}") from error
    if not isinstance(found, dict):
        raise LoadError(f"the load's result is not an object: {text[:200]!r}")
    return found
