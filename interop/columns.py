"""The columns of the matrix: who calls whom, and what came of each case.

A column is run as a whole: its programs are started, all cases are called, and each gets a
``Result``. The invariant: a case is never left out; what a way cannot say is "not offered".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from interop import ways
from interop.java import listing
from interop.results import Result
from interop.scenarios import Open, start
from interop.values import CannotSay, Described
from interop.ways import Endpoint, Way

Case = dict[str, Any]
Results = dict[str, Result]
THREW = "exceptions"


@dataclass(frozen=True)
class Column:
    """Who calls whom, in which serialization; ``open_way`` is how, where dragoman is the caller."""

    caller: str
    service: str
    serialization: str
    cases: Callable[[], Results]
    release: str = ""
    open_way: Open | None = None

    @property
    def name(self) -> str:
        """The column in words."""
        return f"{self.caller} to {self.service}, {self.serialization}"


def java_providers(release: str, serialization: str) -> list[Column]:
    """Everything of ours that calls a Java provider of this release and serialization."""
    found = []
    for name, open_way in (("agents", ways.agents),):
        way = partial(open_way, serialization=serialization)
        run = partial(call_all, release, serialization, way)
        found.append(Column(name, f"Java {release}", serialization, run, release, way))
    return found


def call_all(release: str, serialization: str, open_way: Open) -> Results:
    """All cases, called one after another at one provider."""
    with ExitStack() as stack:
        port = start(stack, release, serialization)
        way = stack.enter_context(open_way([Endpoint(port)]))
        return {case["name"]: call(way, case) for case in listing()}


def call(way: Way, case: Case) -> Result:
    """One case."""
    want: Described = case["result"]
    try:
        outcome = way.call(
            case["method"], case["descriptor"], case["arguments"], types=case["types"]
        )
        if outcome.error:
            return Result("fail", outcome.error)
        if isinstance(want, dict) and "throwable" in want:
            said = f"{want['throwable']}: {want['message']}"
            return Result("pass") if outcome.throwable == said else Result("fail", str(outcome))
        if outcome.throwable:
            return Result("fail", outcome.throwable)
        why = way.differs(want, outcome.value)
        return Result("fail", why) if why else Result("pass")
    except CannotSay as reason:
        return Result("not offered", str(reason))
