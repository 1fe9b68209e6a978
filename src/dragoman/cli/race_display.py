"""A race on the terminal: progress while it runs, a table at the end.

Called by ``dragoman.cli.race``. On a terminal the progress is one live line; elsewhere each step
and each level is a plain line, for logs. The invariant: no thread, since the race starts processes
meanwhile.
"""

from __future__ import annotations

import time
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

REFRESH_S = 0.25
WIDTH = 120


class Display:
    """Context manager that shows a race's progress; see ``dragoman.race.progress``."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _console()
        self._live = self._console.is_terminal
        self._refreshed_s = 0.0
        # Without its refreshing thread: advance() refreshes.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("race", total=None)

    def __enter__(self) -> Display:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def plan(self, seconds: float) -> None:
        """See ``dragoman.race.progress``."""
        self._progress.update(self._task, total=seconds)

    def step(self, text: str) -> None:
        """See ``dragoman.race.progress``."""
        if self._live:
            self._progress.update(self._task, description=text, refresh=True)
        else:
            self._console.print(f"race: {text}")

    def advance(self, seconds: float, text: str) -> None:
        """See ``dragoman.race.progress``."""
        self._progress.update(self._task, advance=seconds, description=text)
        now_s = time.monotonic()
        if self._live and now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            self._progress.refresh()

    def level(self, report: dict[str, Any]) -> None:
        """See ``dragoman.race.progress``."""
        self._console.print(f"race: {level_line(report)}")


def _console() -> Console:
    console = Console(highlight=False, emoji=False)
    # What is not a terminal has no width: let no table be cut to the assumed 80 columns.
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=WIDTH)


def level_line(report: dict[str, Any]) -> str:
    """A level in one line."""
    latency = report["latency_ms"]
    ratio = f" ({report['ratio']:.1%} of ideal)" if report["ratio"] is not None else ""
    return (
        f"{report['connections']} connections: {report['qps']:,.0f} QPS{ratio}, "
        f"p99 {_number(latency.get('p99'), 2)} ms, {_errors(report['errors'])}"
    )


def print_outcome(result: dict[str, Any], console: Console | None = None) -> None:
    """The result as tables: one of levels, or one of policies."""
    console = console or _console()
    if result.get("policies"):
        console.print(policy_table(result["policies"]))
    elif result.get("levels"):
        console.print(level_table(result))
        console.print(sharing_table(result["levels"]))
        console.print(cpu_table(result["levels"]))
    if result["qps"] != -1:
        console.print(f"score: {result['qps']:,.1f} QPS")
    if result.get("logs"):
        console.print(f"logs: {result['logs']}", soft_wrap=True)


def level_table(result: dict[str, Any]) -> Table:
    """The callers' figures of each level."""
    load = f"{result['load']}, {'direct' if result['direct'] else 'whole chain'}"
    title = f"policy {result['policy']}, {load}, {result['delay_ms']:g} ms providers"
    table = _table(title, "connections", "QPS", "of ideal", "mean ms", "p50", "p99", "p99.9", "max")
    table.add_column("errors")
    for level in result["levels"]:
        latency = level["latency_ms"]
        table.add_row(
            str(level["connections"]),
            f"{level['qps']:,.0f}",
            f"{level['ratio']:.2%}" if level["ratio"] is not None else "-",
            *(_number(latency.get(name), 2) for name in ("mean", "p50", "p99", "p99_9", "max")),
            _errors(level["errors"]),
        )
    return table


def sharing_table(levels: list[dict[str, Any]]) -> Table:
    """The shares of small, medium and large in each level's requests."""
    title = "small : medium : large"
    table = _table(title, "connections", "requests", "in flight, mean", "ideal", "rejected")
    for level in levels:
        names = ("split", "concurrency_split", "ideal_concurrency_split", "rejections")
        table.add_row(str(level["connections"]), *(_split(level[name] or {}) for name in names))
    return table


def cpu_table(levels: list[dict[str, Any]]) -> Table:
    """The CPU time of each role for a request, in microseconds."""
    roles = list(levels[0]["cpu_us_per_request"])
    names = [role.replace("_", " ") for role in roles]
    table = _table("CPU us a request (user + system)", "connections", *names)
    for level in levels:
        cells = []
        for role in roles:
            total = level["cpu_us_per_request"][role]
            parts = level["cpu_split_us_per_request"].get(role)
            cells.append(
                f"{total:.1f} ({parts['user']:.1f}+{parts['system']:.1f})" if parts else "-"
            )
        table.add_row(str(level["connections"]), *cells)
    return table


def policy_table(policies: list[dict[str, Any]]) -> Table:
    """Every policy's QPS and p99 at every level."""
    counts = max((policy["levels"] for policy in policies), key=len)
    table = _table("QPS (of ideal), p99 ms, errors at each number of connections", "policy")
    for level in counts:
        table.add_column(str(level["connections"]), justify="right")
    table.add_column("in flight")
    for policy in sorted(policies, key=lambda policy: -float(policy["qps"])):
        cells = [_policy_cell(level) for level in policy["levels"]]
        cells += [policy.get("error", "-").splitlines()[0]] * (len(counts) - len(cells))
        last = policy["levels"][-1] if policy["levels"] else {}
        table.add_row(policy["policy"], *cells, _split(last.get("concurrency_split") or {}))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 0), collapse_padding=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _policy_cell(level: dict[str, Any]) -> str:
    ratio = f" ({level['ratio']:.1%})" if level["ratio"] is not None else ""
    p99 = _number(level["latency_ms"].get("p99"), 1)
    return f"{level['qps']:,.0f}{ratio}, {p99}, {_errors(level['errors'])}"


def _errors(errors: dict[str, int]) -> str:
    if not errors:
        return "0 errors"
    return ", ".join(f"{count:,} {kind}" for kind, count in errors.items())


def _split(split: dict[str, float]) -> str:
    return " : ".join(f"{value:.0f}" for value in split.values()) or "-"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
