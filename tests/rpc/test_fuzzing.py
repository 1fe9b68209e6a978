"""A few thousand inputs of ``fuzz.rpc``; `make verify` runs it for minutes."""

from __future__ import annotations

from fuzz.rpc import once
from fuzz.running import attack


def test_strange_peers_harm_nobody_but_themselves() -> None:
    assert attack(once, seed=1, inputs=1500) == (1501, 1500)
