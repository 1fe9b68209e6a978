"""The conductor: a whole run, from settings to the report that becomes JSON and tables.

Called by the command line. The invariants: contestants take turns within a round, each round
starting with another one, so that what disturbs the machine for a while disturbs all; what is not
installed or fails is named in the report, and the others go on.
"""

from __future__ import annotations

import datetime
import platform
import resource
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from dragoman.bench.rpc.contestant import BenchError, Contestant, Work
from dragoman.bench.rpc.contestants import contestant
from dragoman.bench.rpc.pair import Pair
from dragoman.bench.rpc.plan import IDLE, Settings, takes_part
from dragoman.bench.rpc.results import Round, compare, result
from dragoman.harness.machine import machine
from dragoman.harness.processes import raise_descriptor_limit

# Standard streams, the loop's own, a listener: what a process has open beside its connections.
OTHER_DESCRIPTORS = 64

Tell = Callable[[float, str], None]


class RpcBench:
    """One run. ``tell`` hears what is being measured, and which share of the run is done."""

    def __init__(self, settings: Settings, tell: Tell = lambda _share, _text: None) -> None:
        self._settings = settings
        self._tell = tell
        self._pairs: dict[str, Pair] = {}
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}
        self._done = 0

    def run(self) -> dict[str, Any]:
        """The report (``docs/bench-rpc.md`` has its fields). Leaves no process behind."""
        before = datetime.datetime.now().astimezone()
        able = []
        for name in self._settings.contestants:
            found = contestant(name)
            if reason := found.missing():
                self._skipped[name] = reason
            else:
                able.append(found)
        works = [
            (work, [each for each in able if takes_part(each, work)])
            for work in self._settings.works()
        ]
        idlers = [each for each in able if IDLE in each.styles and IDLE in self._settings.styles]
        measurements = sum(len(those) for _, those in works)
        self._all = measurements * self._settings.rounds + len(idlers)
        try:
            results = self._results(works)
        finally:
            self._stop()
        compare(results)
        return {
            "kind": "bench-rpc",
            "date": before.isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "settings": {
                "seconds": self._settings.seconds,
                "rounds": self._settings.rounds,
                "idle_connections": self._settings.idle_connections,
            },
            "results": results,
            "idle": self._idle(idlers),
            "skipped": self._skipped,
            "failed": self._failed,
        }

    def _results(self, works: Sequence[tuple[Work, list[Contestant]]]) -> list[dict[str, Any]]:
        rounds: dict[tuple[int, str], list[Round]] = {}
        for number in range(self._settings.rounds):
            for index, (work, those) in enumerate(works):
                first = number % max(1, len(those))
                for each in those[first:] + those[:first]:
                    self._say(f"round {number + 1}, {_words(work)}: {each.title}")
                    if found := self._attempt(each, work):
                        rounds.setdefault((index, each.name), []).append(found)
        return [
            result(each.name, work, rounds[index, each.name])
            for index, (work, those) in enumerate(works)
            for each in those
            if (index, each.name) in rounds
        ]

    def _attempt(self, each: Contestant, work: Work) -> Round | None:
        what = f"{each.name}, {_words(work)}"
        if what in self._failed:
            return None
        try:
            if each.name not in self._pairs:
                self._pairs[each.name] = Pair(each.name).__enter__()
            return self._pairs[each.name].measure(work)
        except BenchError as error:
            self._failed[what] = str(error)
            if pair := self._pairs.pop(each.name, None):
                pair.stop()
            return None

    def _idle(self, those: Sequence[Contestant]) -> list[dict[str, Any]]:
        """Memory of idle connections, each contestant in fresh processes."""
        if not those:
            return []
        wanted = self._settings.idle_connections
        able = max(1, raise_descriptor_limit() - OTHER_DESCRIPTORS)
        if able < wanted:
            self._skipped["idle connections"] = (
                f"{wanted - able:,} of {wanted:,}: "
                f"the limit of descriptors is {resource.getrlimit(resource.RLIMIT_NOFILE)[1]:,}"
            )
        found = []
        for each in those:
            self._say(f"{IDLE}: {each.title}")
            try:
                with Pair(each.name) as pair:
                    found.append({"contestant": each.name} | pair.idle(min(able, wanted)))
            except BenchError as error:
                self._failed[f"{each.name}, {IDLE}"] = str(error)
        return found

    def _say(self, text: str) -> None:
        self._tell(self._done / max(1, self._all), text)
        self._done += 1

    def _stop(self) -> None:
        while self._pairs:
            self._pairs.popitem()[1].stop()


def _words(work: Work) -> str:
    style = f"{work.style} {work.variant}".strip()
    return f"{style}, {work.size} B" + (f" x {work.connections}" if work.connections > 1 else "")


def versions() -> dict[str, str]:
    """The figures, and the machine that they are of."""
    found = {"python": platform.python_version()}
    for name in ("dragoman", "uvloop", "grpcio", "pyzmq", "aiohttp"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
