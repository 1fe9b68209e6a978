"""Runs the comparison and the growth measurements, prints tables, writes JSON.

``python -m benchmarks.agents [--connections 256] [--duration 5] [--only NAME ...] [--json FILE]``.
All figures come from one run on one machine with one load, since only their ratios travel.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.agents import mesh, side_by_side, tables
from benchmarks.agents.bench import Bench, Skipped
from benchmarks.agents.proxies import Proxies
from dragoman.errors import DragomanError
from dragoman.harness import machine
from dragoman.harness.interruption import Interrupted, Interruption
from dragoman.harness.network import Network
from dragoman.harness.processes import raise_descriptor_limit
from dragoman.race import load_drivers

SPOKEN = ("fastjson", "hessian2")
PARTS = (
    "compare",
    "beside",
    "serializations",
    "endpoints",
    "connections",
    "memory",
    "rest",
    "latency",
)


def main() -> int:
    """Run as a program; the exit code is 1 if a part failed."""
    options = _options()
    console = Console(emoji=False, highlight=False, stderr=True)
    raise_descriptor_limit()
    driver = load_drivers.choose(options.load, 2)
    report: dict[str, Any] = {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.agents", *sys.argv[1:]]),
        "load": driver.name,
        "machine": machine.machine(),
        "versions": machine.versions(driver.name),
        "skipped": {},
        "failed": {},
    }
    with Interruption() as interruption, tempfile.TemporaryDirectory() as directory:
        bench = Bench(
            Path(directory),
            interruption,
            driver,
            connections=options.connections,
            duration_s=options.duration,
            tell=lambda text: console.print(f"bench: {text}"),
        )
        try:
            for part in options.only or PARTS:
                _attempt(report, part, partial(_run, part, bench, report, options))
        except Interrupted as error:
            report["failed"]["run"] = str(error)
        finally:
            bench.processes.stop_all()
    tables.show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for part, reason in report["failed"].items():
        print(f"benchmarks.agents: {part}: {reason}", file=sys.stderr)
    return 1 if report["failed"] else 0


def _run(part: str, bench: Bench, report: dict[str, Any], options: argparse.Namespace) -> None:
    if part == "compare":
        _compare(bench, report)
    elif part == "beside":
        for name, delay_ms in (("beside_50ms", mesh.DELAY_MS), ("beside", 0.0)):
            found = side_by_side.rounds(bench, options.beside, delay_ms, options.rounds)
            report[name] = [each.to_dict() for each in found]
    elif part == "endpoints":
        for name, delay_ms in (("endpoints", 0), ("endpoints_50ms", 50)):
            found = mesh.growing_endpoints(bench, options.endpoints, delay_ms)
            report[name] = [each.to_dict() for each in found]
    elif part == "connections":
        found = mesh.growing_connections(bench, options.levels)
        report["connections"] = [each.to_dict() for each in found]
    elif part == "serializations":
        # Each twice, in turn: the machine has moods.
        found = [mesh.agents(bench, providers=1, serialization=name) for name in SPOKEN * 2]
        report["serializations"] = [each.to_dict() for each in found]
    elif part == "memory":
        report["memory"] = mesh.idle_memory(bench)
    elif part == "rest":
        report["rest"] = mesh.at_rest(bench)
    else:
        found = [mesh.half_load(bench, direct=direct) for direct in (True, False)]
        report["latency"] = [each.to_dict() | {"delay_ms": mesh.DELAY_MS} for each in found]


def _compare(bench: Bench, report: dict[str, Any]) -> None:
    found = report["compare"] = []

    def add(name: str, run: Callable[[], Any]) -> None:
        _attempt(report, name, lambda: found.append(run().to_dict()))

    for providers in (3, 1):
        add(f"dragoman-{providers}", partial(mesh.agents, bench, providers=providers))
    with Network() as network:
        proxies = Proxies(bench, network)
        _attempt(report, "nginx", proxies.start_nginx)
        if bench.processes.of_role("nginx"):
            add("haproxy", proxies.haproxy)
            add("envoy", proxies.envoy)
        bench.processes.stop_all()


def _attempt(report: dict[str, Any], name: str, run: Callable[[], object]) -> None:
    """Run one part; what is missing is noted, what fails is noted and does not stop the others."""
    try:
        run()
    except Skipped as error:
        report["skipped"][name] = str(error)
    except Interrupted:
        raise
    except (DragomanError, OSError, AssertionError) as error:
        report["failed"][name] = str(error)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agents", description=__doc__)
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--load", choices=("wrk", "builtin"))
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--endpoints", type=_numbers, default=(1, 10, 100))
    parser.add_argument("--beside", type=_numbers, default=(128, 512))
    parser.add_argument("--rounds", type=int, default=3, help="of the two in turn")
    parser.add_argument("--levels", type=_numbers, default=(64, 256, 1024, 5000))
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
