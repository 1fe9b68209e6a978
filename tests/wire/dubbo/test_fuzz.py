"""A short run of the Dubbo decoders' fuzzer."""

from __future__ import annotations

import random

import pytest
from fuzz.dubbo import check


def test_random_bytes_break_nothing() -> None:
    for seed in range(4000):
        check(random.Random(seed))


@pytest.mark.slow
def test_many_random_bytes_break_nothing() -> None:
    for seed in range(10_000, 400_000):
        check(random.Random(seed))
