"""A short run of fastjson2's fuzzer."""

from __future__ import annotations

import random

import pytest
from fuzz.fastjson2 import check


def test_random_bytes_break_nothing() -> None:
    for seed in range(500):
        check(random.Random(seed))


@pytest.mark.slow
def test_many_random_bytes_break_nothing() -> None:
    for seed in range(10_000, 30_000):
        check(random.Random(seed))
