"""Breaker and retry budget, on a clock of plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.flow.breaker import Breaker, RetryBudget

MS = 1000


def tripped(now_us: int = 0, **options: int) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(threshold=3, **options)
    for _ in range(3):
        assert not breaker.open
        breaker.record(False, now_us)
    assert breaker.open
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_starts_the_count_again() -> None:
    breaker = Breaker(threshold=3)
    for _ in range(10):
        breaker.record(False, 0)
        breaker.record(False, 0)
        breaker.record(True, 0)
    assert not breaker.open and breaker.may(0)
    for _ in range(3):
        breaker.record(False, 0)
    assert breaker.open
    assert breaker.trips == 1


def test_one_probe_a_pause_may_go_while_it_is_open() -> None:
    breaker = tripped(pause_ms=500)
    assert not breaker.may(499 * MS)
    assert breaker.may(500 * MS)
    assert not breaker.may(501 * MS)
    # The probe never ended: the next pause brings another.
    assert not breaker.may(999 * MS)
    assert breaker.may(1000 * MS)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = tripped(pause_ms=500)
    assert breaker.may(500 * MS)
    breaker.record(True, 510 * MS)
    assert not breaker.open
    assert breaker.may(511 * MS) and breaker.may(511 * MS)


def test_each_probe_that_fails_doubles_the_pause_up_to_the_bound() -> None:
    breaker = tripped(pause_ms=100, pause_most_ms=350)
    now = 0
    for pause in (100, 200, 350, 350):
        assert not breaker.may(now + pause * MS - 1)
        now += pause * MS
        assert breaker.may(now)
        breaker.record(False, now)
    assert breaker.trips == 1


def test_after_it_has_closed_the_pause_is_the_least_again() -> None:
    breaker = tripped(pause_ms=100, pause_most_ms=1000)
    assert breaker.may(100 * MS)
    breaker.record(False, 100 * MS)
    breaker.record(True, 200 * MS)
    for _ in range(3):
        breaker.record(False, 300 * MS)
    assert breaker.open and breaker.trips == 2
    assert breaker.may(400 * MS)


def test_late_failures_of_requests_from_before_do_not_lengthen_the_pause() -> None:
    breaker = tripped(pause_ms=100)
    for _ in range(50):
        breaker.record(False, 50 * MS)
    assert breaker.may(100 * MS)


def test_retries_are_a_proportion_of_requests_after_the_reserve() -> None:
    budget = RetryBudget(ratio=0.1, reserve=5)
    assert [budget.spend() for _ in range(7)] == [True] * 5 + [False] * 2
    granted = 0
    for _ in range(1000):
        budget.earn()
        granted += budget.spend()
    assert 99 <= granted <= 100


@given(st.lists(st.booleans()))
def test_a_budget_never_pays_more_than_reserve_and_ratio(actions: list[bool]) -> None:
    budget = RetryBudget(ratio=0.1, reserve=2)
    earned = spent = 0
    for earn in actions:
        if earn:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend()
        assert spent <= 2 + 0.1 * earned + 1e-9


@pytest.mark.parametrize("rounds", [1, 10_000])
def test_what_is_not_spent_does_not_pile_up(rounds: int) -> None:
    budget = RetryBudget(ratio=0.5, reserve=3)
    for _ in range(rounds):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) == 3
