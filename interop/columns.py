"""The columns of the matrix: who calls whom, and what came of each case.

A column is run as a whole: its programs are started, all cases are called, and each gets a
``Result``. The invariant: a case is never left out; what a path cannot say is "not offered".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from interop import call_paths, call_styles, java_callers
from interop.call_paths import CallPath, Endpoint
from interop.java import listing
from interop.record import TARGET
from interop.results import Result
from interop.scenarios import SCENARIOS, Open, start
from interop.values import CannotSay, Described

Results = dict[str, Result]
PAIRS = [
    ("2.6", "hessian2"),
    ("2.6", "fastjson"),
    ("2.7", "hessian2"),
    ("2.7", "fastjson"),
    ("3.3", "hessian2"),
    ("3.3", "fastjson2"),
]
VERSIONS = {"2.6": "2.6.12", "2.7": "2.7.23", "3.3": "3.3.6"}
AGENTS, SDK, BY_AGENTS, JAVA = "agents", "SDK", "SDK by agents", "Java"
OPENED: dict[str, Any] = {
    AGENTS: call_paths.agents,
    SDK: call_paths.sdk,
    BY_AGENTS: call_paths.sdk_by_agents,
}
# What a service of the SDK says to a request in fastjson that contains itself (status 40).
CYCLE_REFUSED = (
    "Fail to decode request due to: fastjson: a value that contains itself, which JSON cannot say"
)
# What the agents and the SDK put requests in.
SPOKEN = ("hessian2", "fastjson", "fastjson2")


@dataclass
class Column:
    """One caller and one service: what is to be run, and then the results."""

    caller: str
    release: str
    serialization: str
    values: Results = field(default_factory=dict)
    call_styles: Results = field(default_factory=dict)
    scenarios: Results = field(default_factory=dict)
    absent: str = ""

    @property
    def name(self) -> str:
        """The other side, in words."""
        return f"{self.release} {self.serialization}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        parts = {
            part: {name: [each.cell, each.why] for name, each in getattr(self, part).items()}
            for part in ("values", "call_styles", "scenarios")
        }
        return {
            "caller": self.caller,
            "release": self.release,
            "serialization": self.serialization,
            "absent": self.absent,
            **parts,
        }

    @classmethod
    def from_dict(cls, made: dict[str, Any]) -> Column:
        """What ``to_dict`` gave."""
        parts = {
            part: {name: Result(*each) for name, each in made[part].items()}
            for part in ("values", "call_styles", "scenarios")
        }
        return cls(
            made["caller"], made["release"], made["serialization"], **parts, absent=made["absent"]
        )


def columns() -> list[Column]:
    """All columns, not run yet."""
    made = [Column(caller, *pair) for caller in (AGENTS, SDK) for pair in PAIRS]
    made += [Column(BY_AGENTS, *pair) for pair in PAIRS if pair[1] != "fastjson"]
    made += [Column(JAVA, *pair) for pair in PAIRS]
    for column in made:
        if column.serialization not in SPOKEN:
            column.absent = f"{column.serialization} is not offered"
    return made


def run(column: Column, tell: Callable[[str], None], *, scenarios: bool = True) -> None:
    """Fill a column."""
    if column.absent:
        return
    pair = (column.release, column.serialization)
    tell(f"{column.caller}, {column.name}")
    if column.caller == JAVA:
        column.values, column.call_styles = java_callers.call_all(*pair)
        if scenarios and column.serialization == "hessian2":
            tell(f"{column.caller}, {column.name}: shutdown under load")
            column.scenarios = {
                "shutdown under load": java_callers.shutdown(*pair),
                "found in ZooKeeper": java_callers.registered_sdk(column.release),
            }
    else:
        open_path = path_of(column)
        _call(column, *pair)
        # They do not depend on how bodies are written, and take more than a minute.
        if scenarios and column.serialization == "hessian2" and column.caller != BY_AGENTS:
            for name, scenario in SCENARIOS.items():
                tell(f"{column.caller}, {column.name}: {name}")
                column.scenarios[name] = attempt(partial(scenario, *pair, open_path))
        if scenarios and column.caller == SDK and column.serialization == "hessian2":
            found = attempt(partial(java_callers.registered_java, column.release))
            column.scenarios["found in ZooKeeper"] = found
    cycle = column.values.get("cycle", Result("pass"))
    if column.caller == JAVA and column.serialization == "fastjson" and is_refused_cycle(cycle):
        # What fastjson refers to is followed; a service is given nothing that contains itself.
        column.values["cycle"] = Result("not offered", "JSON has no cycles")
    lost = lost_in_java(*pair)
    for part in (column.values, column.call_styles):
        for name, result in part.items():
            if result.cell == "fail" and name in lost:
                part[name] = Result("as Java", lost[name])


def is_refused_cycle(result: Result) -> bool:
    """Whether a case failed as one with a cycle is meant to in JSON, and in no other way."""
    return result.cell == "fail" and result.why.endswith(f", cause: {CYCLE_REFUSED}")


def path_of(column: Column) -> Open:
    """How the column's calls are made."""
    return partial(OPENED[column.caller], serialization=column.serialization)


def attempt(scenario: Callable[[], Result]) -> Result:
    """A scenario that breaks has failed."""
    try:
        return scenario()
    except Exception as error:
        return Result("fail", f"{type(error).__name__}: {error}"[:300])


def _call(column: Column, release: str, serialization: str) -> None:
    """All cases and call styles, one after another, at one provider."""
    with ExitStack() as stack:
        port = start(stack, release, serialization)
        opened = OPENED[column.caller]([Endpoint(port)], serialization, True)
        path = stack.enter_context(opened)
        column.values = {case["name"]: call(path, case) for case in listing()}
        if column.caller == AGENTS:
            column.call_styles = call_styles.by_agents(path)
        elif column.caller == SDK:
            column.call_styles = call_styles.by_sdk(path)


def call(path: CallPath, case: dict[str, Any]) -> Result:
    """One case."""
    want: Described = case["result"]
    try:
        outcome = path.call(
            case["method"], case["descriptor"], case["arguments"], types=case["types"]
        )
        if outcome.error:
            return Result("fail", outcome.error[:200])
        if isinstance(want, dict) and "throwable" in want:
            said = f"{want['throwable']}: {want['message']}"
            return Result("pass") if outcome.throwable == said else Result("fail", str(outcome))
        if outcome.throwable:
            return Result("fail", outcome.throwable[:200])
        why = path.differs(want, outcome.value)
        return Result("fail", why) if why else Result("pass")
    except CannotSay as reason:
        return Result("not offered", str(reason))


def lost_in_java(release: str, serialization: str) -> dict[str, str]:
    """The cases that a Java consumer and a Java provider of this release lose between them."""
    recording = json.loads((TARGET / f"{release}-{serialization}.json").read_text())
    lost = {
        each["name"]: each["why"].partition(", provider: ")[0]
        for each in recording["calls"]
        if each["outcome"] == "fail"
    }
    if release == "2.6":
        lost["generic, gson"] = "2.6 does not have it"
    if release == "2.7":
        lost["attachments of the reply"] = "a 2.7 consumer does not show them to its caller"
    if serialization == "hessian2":
        # The consumer cannot write it, so that it is in no recording.
        lost["Optional"] = "it is not Serializable: hessian2 does not write it"
    return lost
