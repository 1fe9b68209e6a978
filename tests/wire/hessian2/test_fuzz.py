"""A short run of hessian2's fuzzer."""

from __future__ import annotations

import random

import pytest
from fuzz.hessian2 import check


def test_random_bytes_break_nothing() -> None:
    for seed in range(1000):
        check(random.Random(seed))


@pytest.mark.slow
def test_many_random_bytes_break_nothing() -> None:
    for seed in range(10_000, 100_000):
        check(random.Random(seed))
