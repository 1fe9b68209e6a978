"""What dragoman accepts, h11 and llhttp accept with the same meaning."""

from __future__ import annotations

import pytest
from fuzz import http

from tests.tables import each_row
from tests.wire.http1.cases import CASES, Case
from tests.wire.http1.peers import compare

ACCEPTED = [case for case in CASES if case.requests]


@each_row("case", ACCEPTED, names=lambda case: case.name)
def test_the_peers_agree(case: Case) -> None:
    assert compare(case.data, **case.limits) == len(case.requests)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_random_bytes_keep_the_invariant_for_long() -> None:
    http.run(seconds=600, seed=20260102)


def test_random_bytes_keep_the_invariant() -> None:
    inputs, accepted = http.run(seconds=2.5, seed=20260101)
    assert inputs > 100
    assert accepted > 10
