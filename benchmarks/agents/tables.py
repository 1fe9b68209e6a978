"""The report of ``benchmarks.agents`` as tables. Called by ``__main__``."""

from __future__ import annotations

import statistics
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

GROWTH = {
    "endpoints": "consumer agent, answers at once",
    "endpoints_50ms": "consumer agent, providers of 50 ms",
    "connections": "both agents, answers at once",
    "serializations": "both agents, answers at once",
}


def show(report: dict[str, Any]) -> None:
    """Print a table for each part that was measured, and what was skipped."""
    terminal = Console(emoji=False, highlight=False)
    console = terminal if terminal.is_terminal else Console(emoji=False, highlight=False, width=150)
    if report.get("compare"):
        console.print(_comparison(report["compare"]))
    for part, delay in (("beside_50ms", "of 50 ms"), ("beside", "that answer at once")):
        if report.get(part):
            console.print(_beside(report[part], delay))
    for part, what in GROWTH.items():
        if report.get(part):
            console.print(_growth(report[part], what))
    if report.get("latency"):
        console.print(_latency(report["latency"]))
    if report.get("memory"):
        memory = report["memory"]
        console.print(
            f"consumer agent: {memory['resident_mib']} MiB with {memory['connections']:,} idle "
            f"connections ({memory['resident_mib_before']} MiB before)"
        )
    if report.get("rest"):
        console.print(_at_rest(report["rest"]))
    for name, reason in report["skipped"].items():
        console.print(f"skipped {name}: {reason}")


def _at_rest(entries: list[dict[str, Any]]) -> Table:
    table = _table("agents at rest, each process")
    table.add_column("", justify="left", no_wrap=True)
    for name in ("wake-ups/s", "% of a core"):
        table.add_column(name, justify="right")
    for entry in entries:
        table.add_row(
            entry["name"], f"{entry['wake_ups_per_s']:.1f}", f"{entry['processor_percent']:.3f}"
        )
    return table


def _totals(entry: dict[str, Any]) -> tuple[float, float]:
    parts = entry["cpu_us_per_request"].values()
    return (sum(part["user"] for part in parts), sum(part["system"] for part in parts))


def _comparison(entries: list[dict[str, Any]]) -> Table:
    table = _table(f"{entries[0]['connections']} connections, answers at once")
    table.add_column("", justify="left", no_wrap=True)
    for name in ("QPS", "to HAProxy", "CPU us", "user", "system", "p99 ms", "errors"):
        table.add_column(name, justify="right")
    base = next((entry["qps"] for entry in entries if entry["name"].startswith("HAProxy")), None)
    for entry in entries:
        user, system = _totals(entry)
        table.add_row(
            entry["name"],
            f"{entry['qps']:,.0f}",
            f"{entry['qps'] / base:.2f}" if base else "-",
            f"{user + system:.1f}",
            f"{user:.1f}",
            f"{system:.1f}",
            _number(entry["latency_ms"].get("p99")),
            _errors(entry),
        )
    return table


def _beside(entries: list[dict[str, Any]], delay: str) -> Table:
    """Medians over the rounds, and from the least to the most."""
    table = _table(f"in turn, three providers {delay}: median (least to most)")
    table.add_column("", justify="left", no_wrap=True)
    for name in ("QPS", "mean ms", "p99 ms", "CPU us", "errors"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(entry["name"] for entry in entries):
        rounds = [entry for entry in entries if entry["name"] == name]
        table.add_row(
            name,
            _spread([entry["qps"] for entry in rounds], ",.0f"),
            _spread([entry["latency_ms"]["mean"] for entry in rounds], ".2f"),
            _spread([entry["latency_ms"]["p99"] for entry in rounds], ".2f"),
            _spread([sum(_totals(entry)) for entry in rounds], ".1f"),
            ", ".join(_errors(entry) for entry in rounds if entry["errors"]) or "0",
        )
    return table


def _spread(values: list[float], form: str) -> str:
    median = statistics.median(values)
    return f"{median:{form}} ({min(values):{form}} to {max(values):{form}})"


def _growth(entries: list[dict[str, Any]], what: str) -> Table:
    table = _table(f"cost a request, {what}")
    table.add_column("", justify="left", no_wrap=True)
    for name in ("QPS", "CPU us", "to the first", "user", "system", "p99 ms", "errors"):
        table.add_column(name, justify="right")
    first = sum(_totals(entries[0]))
    for entry in entries:
        user, system = _totals(entry)
        table.add_row(
            entry["name"],
            f"{entry['qps']:,.0f}",
            f"{user + system:.1f}",
            f"{(user + system) / first - 1:+.0%}" if first else "-",
            f"{user:.1f}",
            f"{system:.1f}",
            _number(entry["latency_ms"].get("p99")),
            _errors(entry),
        )
    return table


def _latency(entries: list[dict[str, Any]]) -> Table:
    table = _table(f"{entries[0]['connections']} connections, providers of 50 ms")
    table.add_column("", justify="left", no_wrap=True)
    for name in ("QPS", "mean ms", "p50", "p90", "p99", "p99.9", "added to p99", "errors"):
        table.add_column(name, justify="right")
    for entry in entries:
        latency = entry["latency_ms"]
        names = ("mean", "p50", "p90", "p99", "p99_9")
        table.add_row(
            entry["name"],
            f"{entry['qps']:,.0f}",
            *(_number(latency.get(name)) for name in names),
            _number(latency["p99"] - entry["delay_ms"]),
            _errors(entry),
        )
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")


def _errors(entry: dict[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in entry["errors"].items()) or "0"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
