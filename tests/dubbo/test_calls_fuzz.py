"""A short run of the fuzzer of calls and replies."""

from __future__ import annotations

import random

from fuzz.calls import check


def test_random_calls_and_replies_hold_the_invariant() -> None:
    for seed in range(2000):
        check(random.Random(seed))
