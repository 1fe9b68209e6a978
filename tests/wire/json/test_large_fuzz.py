"""A short run of the fuzzer of large calls' outlines and of numbers."""

from __future__ import annotations

import random

from fuzz.large import check


def test_random_outlines_and_numbers_hold_the_invariant() -> None:
    for seed in range(1500):
        check(random.Random(seed))
