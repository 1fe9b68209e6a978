"""Real Dubbo in Java: a part of ``make interop`` that takes seconds. Without Java, Maven or its
artefacts these tests skip and say so."""

from __future__ import annotations

from functools import partial

import pytest
from interop.columns import AGENTS, JAVA, SDK, Column, run
from interop.java import maven_present
from interop.results import Result
from interop.scenarios import full_pool, shutdown

from interop import call_paths, java_callers

# Maven's downloads on a machine that has none of them yet; with them all of this takes a minute.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The Java programs, built once."""
    why = maven_present()
    if why is not None:
        pytest.skip(f"real Dubbo cannot be run: {why}")


def failed(results: dict[str, Result]) -> dict[str, str]:
    assert results
    return {name: each.why for name, each in results.items() if each.cell == "fail"}


@pytest.mark.parametrize(
    ("caller", "release", "serialization"),
    [(AGENTS, "2.7", "hessian2"), (SDK, "3.3", "hessian2"), (AGENTS, "3.3", "fastjson2")],
)
def test_a_java_provider_gives_back_every_value(
    caller: str, release: str, serialization: str
) -> None:
    column = Column(caller, release, serialization)
    run(column, lambda text: None, scenarios=False)
    assert len(column.values) > 130
    assert failed(column.values) == {}
    assert failed(column.call_styles) == {}


@pytest.mark.parametrize(("release", "serialization"), [("2.7", "hessian2"), ("3.3", "fastjson2")])
def test_a_java_consumer_calls_a_service_in_python(release: str, serialization: str) -> None:
    column = Column(JAVA, release, serialization)
    run(column, lambda text: None, scenarios=False)
    assert failed(column.values) == {}
    assert failed(column.call_styles) == {}


def test_a_java_provider_that_stops_under_load_costs_no_call() -> None:
    path = partial(call_paths.agents, serialization="hessian2")
    result = shutdown("2.7", "hessian2", path, come_back=False)
    assert result.cell == "pass", result.why


def test_what_a_full_pool_rejects_runs_all_the_same() -> None:
    path = partial(call_paths.sdk, serialization="hessian2")
    result = full_pool("3.3", "hessian2", path)
    assert result.cell == "pass", result.why


def test_providers_find_each_other_in_zookeeper() -> None:
    for result in (java_callers.registered_java("2.7"), java_callers.registered_sdk("3.3")):
        assert result.cell == "pass", result.why
