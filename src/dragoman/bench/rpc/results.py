"""From the rounds of a measurement to its result, and from results to ratios.

Used by ``run``. The invariant: a ratio is between medians of rounds that were interleaved in one
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from dragoman.bench.rpc.contestant import Cpu, Sample, Work

# What a style is compared with, as far as it took part.
REFERENCES = {
    "await": ("prototype",),
    "soon": ("prototype",),
    "lone": ("floor-sockets", "floor-uvloop"),
    "bulk": ("floor-sockets", "floor-uvloop"),
}
SAME = ("style", "size", "connections", "variant")

Round = tuple[Sample, Cpu]
Result = dict[str, Any]


def result(contestant: str, work: Work, rounds: Sequence[Round]) -> Result:
    """One contestant's result of one work, as it stands in the JSON."""
    rates = [sample.calls / sample.seconds for sample, _ in rounds]
    calls = sum(sample.calls for sample, _ in rounds)
    rate = {"median": median(rates), "best": max(rates)}
    return {
        "contestant": contestant,
        "style": work.style,
        "variant": work.variant,
        "size": work.size,
        "connections": work.connections,
        "in_flight": work.in_flight,
        "batch": work.batch,
        "calls_per_s": {name: round(value, 1) for name, value in rate.items()},
        "mib_per_s": {name: round(value * work.size / 2**20, 2) for name, value in rate.items()},
        "latency_us": _latency([sample.latency_us for sample, _ in rounds if sample.latency_us]),
        "cpu_us_per_call": {
            "client": _cpu([sample.cpu for sample, _ in rounds], calls),
            "server": _cpu([cpu for _, cpu in rounds], calls),
        },
        "compared": {},
        "rounds": [
            {
                "calls": sample.calls,
                "seconds": round(sample.seconds, 4),
                "client_cpu_s": _seconds(sample.cpu),
                "server_cpu_s": _seconds(server),
                "latency_us": _rounded(sample.latency_us),
            }
            for sample, server in rounds
        ],
    }


def compare(results: Sequence[Result]) -> None:
    """Give each result its ratio to each reference of its style, by name, in ``compared``.

    The ratio is of calls/s, or of the median latency for one call at a time (where less is better).
    """
    for each in results:
        for name in REFERENCES.get(each["style"], ()):
            for other in results:
                if other["contestant"] == name and all(other[key] == each[key] for key in SAME):
                    each["compared"][name] = round(_figure(each) / _figure(other), 3)


def _figure(each: Result) -> float:
    latency = each["latency_us"]
    return float(latency["p50"] if latency else each["calls_per_s"]["median"])


def _latency(found: list[dict[str, float]]) -> dict[str, float] | None:
    """The median of each percentile over the rounds."""
    if not found:
        return None
    return {name: round(median(each[name] for each in found), 2) for name in found[0]}


def _rounded(figures: dict[str, float] | None) -> dict[str, float] | None:
    return figures and {name: round(value, 2) for name, value in figures.items()}


def _cpu(used: Sequence[Cpu], calls: int) -> dict[str, float]:
    """Microseconds a call, over all rounds."""
    return {
        "user": round(sum(each.user_s for each in used) * 1e6 / calls, 3),
        "system": round(sum(each.system_s for each in used) * 1e6 / calls, 3),
    }


def _seconds(cpu: Cpu) -> dict[str, float]:
    return {"user": round(cpu.user_s, 4), "system": round(cpu.system_s, 4)}
