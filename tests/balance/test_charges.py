"""Calls that have ended and still count."""

from __future__ import annotations

import random

from dragoman.balance.charges import Charges


def test_each_charge_counts_until_its_time_in_whatever_order_they_came() -> None:
    source = random.Random(1)
    charges = Charges()
    untils = [source.randrange(1000) for _ in range(500)]
    for until in untils:
        charges.charge(until)
    for now in range(0, 1001, 7):
        assert charges.left(now) == sum(until > now for until in untils)
    assert charges.left(1000) == charges.count == 0


def test_there_are_never_more_than_a_bound() -> None:
    charges = Charges()
    for until in range(10_000):
        charges.charge(until)
    assert charges.count == 4096
    assert charges.left(10_000) == 0
