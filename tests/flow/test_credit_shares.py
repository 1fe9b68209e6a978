"""Shares of credits are fair by demand, also when words take a while."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.flow.credits import CreditPool
from tests.flow.callers import Caller, close_loop


def fair_shares(limit: int, demands: list[int]) -> list[float]:
    """Max-min fairness as the textbook has it: raise everybody's share together."""
    shares = [0.0] * len(demands)
    left, hungry = float(limit), {i for i, d in enumerate(demands) if d > 0}
    while hungry and left > 1e-9:
        rise = min([left / len(hungry), *(demands[i] - shares[i] for i in hungry)])
        for i in hungry:
            shares[i] += rise
        left -= rise * len(hungry)
        hungry = {i for i in hungry if demands[i] - shares[i] > 1e-9}
    return shares


@given(st.integers(1, 80), st.lists(st.integers(0, 100), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_shares_are_max_min_fair_when_demand_exceeds_the_limit(
    limit: int, demands: list[int]
) -> None:
    pool = CreditPool(limit)
    callers = [Caller(pool) for _ in demands]
    for caller, demand in zip(callers, demands, strict=True):
        caller.backlog = demand
    close_loop(callers, 20)
    running = close_loop(callers, 40)
    # Work that ends a third at a time is as lumpy as work can be: it blurs what each demands.
    for used, fair in zip(running, fair_shares(limit, demands), strict=True):
        assert 0.7 * fair - 2 <= used <= 1.3 * fair + 2
    assert sum(running) >= 0.9 * min(limit, sum(demands)) - 1


class Crowd:
    """Many callers in a closed loop whose words and requests take a while to arrive.

    The plain model of the rules: nobody runs more than the limit allows together, whoever wants
    anything gets it, and shares are those of ``fair_shares``.
    """

    def __init__(self, limit: int, demands: list[int], idle: int, source: random.Random) -> None:
        self.pool = CreditPool(limit)
        self.random = source
        self.callers: list[Caller] = []
        for demand in [*demands, *[0] * idle]:
            caller = Caller(self.pool)
            caller.backlog = demand
            self.callers.append(caller)
            self.read_all()
        self.active = self.callers[: len(demands)]
        self.told = dict.fromkeys(self.active, 0)

    def read_all(self) -> None:
        for caller in self.callers:
            caller.listen()
            while caller.inbox:
                caller.read()

    def live(self, steps: int) -> list[float]:
        """Each step: some words arrive, a few requests end and are wanted again."""
        totals = [0] * len(self.active)
        for _ in range(steps):
            order = self.random.sample(self.callers, len(self.callers))
            for caller in order:
                caller.listen()
                if self.random.random() < 0.8:
                    while caller.inbox:
                        caller.read()
            for caller in self.active:
                caller.start_waiting()
                if caller.backlog != self.told[caller] or caller.holder.waiting != caller.backlog:
                    self.told[caller] = caller.backlog
                    self.pool.demand(caller.holder, caller.backlog)
            for i, caller in enumerate(self.active):
                totals[i] += caller.running
                for _ in range(caller.running):
                    if self.random.random() < 0.2:
                        caller.finish()
                        caller.backlog += 1
            out = self.pool.statistics()
            assert out["granted"] == out["limit"]
            assert sum(caller.running for caller in self.active) == out["in_use"] <= out["limit"]
        return [total / steps for total in totals]


@given(
    st.integers(1, 60),
    st.lists(st.integers(1, 80), min_size=1, max_size=8),
    st.sampled_from([0, 1, 30]),
    st.integers(0, 1 << 32),
)
@settings(max_examples=30, deadline=None)
def test_shares_are_fair_among_idle_callers_when_words_take_a_while(
    limit: int, demands: list[int], idle: int, seed: int
) -> None:
    crowd = Crowd(limit, demands, idle, random.Random(seed))
    crowd.live(40)
    running = crowd.live(150)
    for used, fair in zip(running, fair_shares(limit, demands), strict=True):
        # Credits and words that are under way work for nobody.
        assert 0.5 * fair - 1 <= used <= 1.4 * fair + 1.5
        assert used > 0
    assert sum(running) >= 0.65 * min(limit, sum(demands)) - 1
