"""A few inputs of ``fuzz.links``; `make verify` runs it for minutes."""

from __future__ import annotations

import logging

import pytest
from fuzz.links import once
from fuzz.running import attack


@pytest.mark.parametrize("seed", [1, 1000])
def test_what_is_held_for_a_peer_is_bounded_and_given_back(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert attack(once, seed=seed, inputs=6) == (seed + 6, 6)
