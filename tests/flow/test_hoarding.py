"""Callers that keep credits from others: proved, doubted, and shares by peer and source."""

from __future__ import annotations

import random

import pytest

from dragoman.flow.credits import CreditPool, RecordingHolder
from tests.flow.callers import Caller, close_loop


class Named(Caller):
    """A caller of a peer from a source."""

    def __init__(self, pool: CreditPool, source: str, identity: bytes) -> None:
        self.account = pool.account(source, identity)
        super().__init__(pool)

    def join(self, pool: CreditPool) -> None:
        pool.join(self.holder, self.account)


def idle_reviews(pool: CreditPool, callers: list[Caller], n: int) -> None:
    """Time passes while somebody waits."""
    for _ in range(n):
        pool.review()
        for caller in callers:
            caller.listen()
            while caller.inbox:
                caller.read()


def test_what_is_kept_although_it_was_asked_for_is_proof() -> None:
    pool = CreditPool(10)
    hoarder, waiting = RecordingHolder(), RecordingHolder()
    pool.join(hoarder)
    pool.demand(hoarder, 10)
    pool.join(waiting)
    pool.demand(waiting, 4)
    asked = hoarder.told_reclaim
    assert asked > 0
    assert pool.kept(hoarder, 0) == asked
    assert pool.kept(hoarder, asked - 1) == 1
    assert pool.kept(hoarder, asked) == 0


def test_what_the_caller_could_not_know_of_is_no_proof() -> None:
    pool = CreditPool(10)
    caller, waiting = RecordingHolder(), RecordingHolder()
    pool.join(caller)
    for _ in range(10):
        assert caller.begin()
    pool.join(waiting)
    pool.demand(waiting, 5)
    # All are in use: nothing to ask for. Replies withhold credits for the one who waits.
    assert caller.told_reclaim == 0
    while caller.held > 5:
        assert caller.end(pool) == 0
    # A reply brings a credit back that has not been read when the reclaim is.
    assert caller.end(pool) == 1
    pool.demand(waiting, 5)
    if caller.told_reclaim:
        assert pool.kept(caller, 0) <= 1
        assert caller.end(pool) in (0, 1)
        pool.kept(caller, 0)


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_caller_never_looks_like_one_that_keeps_credits(seed: int) -> None:
    """Whatever is under way: words and requests are read late and in bundles."""
    source = random.Random(seed)
    pool = CreditPool(source.choice([1, 3, 20, 200]))
    callers = [Checked(pool) for _ in range(source.choice([2, 5, 12]))]
    for _ in range(3000):
        caller = source.choice(callers)
        move = source.random()
        if move < 0.3:
            caller.backlog = source.choice([0, 1, 5, 300])
            caller.work()
        elif move < 0.6 and caller.inbox:
            caller.read()
        elif move < 0.9 and caller.running:
            caller.finish()
        elif move > 0.97:
            pool.review()
        for each in callers:
            each.listen()


class Checked(Caller):
    """A caller whose answers are held against the proof."""

    def read(self) -> None:
        word, n = self.inbox[0]
        if word == "reclaim":
            self.start_waiting()
            assert self.pool.kept(self.holder, min(n, self.credits)) == 0
        super().read()


def test_who_demands_and_uses_nothing_is_served_after_all_others() -> None:
    pool = CreditPool(20)
    idle, honest = Caller(pool), Caller(pool)
    # It says that it waits, and never begins anything; what it is asked for it gives back.
    pool.demand(idle.holder, 1000)
    callers = [idle, honest]
    honest.backlog = 1000
    running = []
    for _ in range(100):
        idle_reviews(pool, callers, 1)
        honest.work()
        pool.demand(idle.holder, 1000)
        running.append(honest.running)
    assert idle.holder.wasted > 0 and idle.holder.doubted
    # All but the one that the doubted one is tried with.
    assert min(running[60:]) >= 18
    # Once it uses what it gets it is like the others.
    idle.backlog = 1000
    for _ in range(40):
        idle_reviews(pool, callers, 1)
        close_loop([idle, honest], 1)
    assert not idle.holder.doubted
    shares = close_loop([idle, honest], 60)
    assert abs(shares[0] - shares[1]) <= 2


def test_shares_go_by_peer_and_by_source_however_many_sessions_there_are() -> None:
    pool = CreditPool(120)
    crowd = [Named(pool, "10.0.0.1", b"a" * 16) for _ in range(30)]
    crowd += [Named(pool, "10.0.0.1", b"b" * 16)]
    single = [Named(pool, "10.0.0.2", b"c" * 16)]
    everybody: list[Caller] = [*crowd, *single]
    for caller in everybody:
        caller.backlog = 500
    close_loop(everybody, 60)
    shares = close_loop(everybody, 60)
    # Two sources: 60 each; of the first's, 30 for each peer, whatever their sessions.
    assert 55 <= shares[-1] <= 65
    assert 26 <= sum(shares[:30]) <= 34
    assert 26 <= shares[30] <= 34


def test_accounts_go_with_their_last_caller() -> None:
    pool = CreditPool(10)
    callers = [Named(pool, f"10.0.0.{i % 3}", bytes([i % 5]) * 16) for i in range(30)]
    for caller in callers:
        caller.work()
        pool.leave(caller.holder)
    assert pool.accounts == 0


@pytest.mark.parametrize("waiting", [1 << 24, 2**31 - 1])
def test_a_demand_beyond_the_limit_counts_as_the_limit(waiting: int) -> None:
    pool = CreditPool(50)
    holder = RecordingHolder()
    pool.join(holder)
    for _ in range(50):
        assert holder.begin()
    pool.demand(holder, waiting)
    assert holder.waiting == 50
