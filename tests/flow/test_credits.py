"""Credits: what joining, demanding, using and leaving cost and give."""

from __future__ import annotations

import pytest

from dragoman.flow.credits import CreditPool, RecordingHolder
from tests.flow.callers import Caller, crowd_of_idle, listen_and_read, words


def test_whoever_joins_has_something_to_start_with_where_there_is_enough() -> None:
    _, callers = crowd_of_idle(1000, 500)
    held = [caller.holder.held for caller in callers]
    assert sum(held) == 1000
    assert min(held) >= 1 and max(held) <= 8


def test_a_burst_of_newcomers_shares_what_the_first_one_gives_back() -> None:
    pool = CreditPool(1000)
    callers = [Caller(pool) for _ in range(300)]
    assert callers[0].holder.reclaims <= 10
    listen_and_read(callers[0])
    held = [caller.holder.held for caller in callers]
    assert sum(held) == 1000 and min(held) >= 1 and max(held[1:]) <= 4


@pytest.mark.parametrize("limit", [10, 200, 5000])
def test_joining_and_leaving_takes_few_words_however_many_callers_are_idle(limit: int) -> None:
    pool, callers = crowd_of_idle(limit, 1000)
    # A request to the one that had most, its grant to the newcomer.
    assert words(callers) <= 2 * min(limit, 1000)
    before = words(callers)
    left = list(callers)
    while len(left) > 1:
        pool.leave(left.pop().holder)
    assert words(callers) - before <= 9 * 1000
    assert left[0].holder.held == limit


def test_one_waiting_request_among_idle_callers_asks_one_of_them() -> None:
    _, callers = crowd_of_idle(200, 1000)
    (busy,) = [caller for caller in callers if caller.holder.held == 0][:1]
    before = words(callers)
    busy.backlog = 1
    busy.work()
    assert words(callers) - before == 1
    for caller in callers:
        listen_and_read(caller)
    assert busy.running == 1
    assert words(callers) - before == 2


def test_many_waiting_requests_ask_idle_callers_in_portions() -> None:
    _, callers = crowd_of_idle(200, 1000)
    (busy,) = [caller for caller in callers if caller.holder.held == 0][:1]
    asked = [caller for caller in callers if caller.holder.held > 0]
    before = sum(caller.holder.reclaims for caller in callers)
    busy.backlog = 150
    busy.work()
    assert sum(caller.holder.reclaims for caller in callers) - before == 64
    while busy.running < 150:
        for caller in asked:
            listen_and_read(caller)
        listen_and_read(busy)
        busy.start_waiting()
    # No more were asked than it took.
    assert sum(caller.holder.reclaims for caller in callers) - before <= 150


def test_a_busy_caller_among_idle_ones_costs_no_words_once_it_has_its_credits() -> None:
    pool, callers = crowd_of_idle(200, 1000)
    busy = callers[-1]
    busy.backlog = 300
    for _ in range(10):
        busy.work()
        for caller in callers:
            listen_and_read(caller)
    assert busy.holder.in_use == 200 and busy.holder.waiting > 0
    before = words(callers)
    for _ in range(1000):
        assert busy.holder.end(pool) == 1
        assert busy.holder.begin()
    assert words(callers) == before


def test_a_storm_of_demand_says_little_more_than_it_grants() -> None:
    _, callers = crowd_of_idle(200, 1000)
    before = words(callers)
    waiting = [caller for caller in callers if caller.holder.held == 0]
    for caller in waiting:
        caller.backlog = 5
        caller.work()
    for _ in range(2):
        for caller in callers:
            listen_and_read(caller)
    assert sum(caller.running for caller in callers) == 200
    assert max(caller.running for caller in callers) == 1
    # For each of the 200 credits a question and a grant.
    assert words(callers) - before <= 400
    served = dict.fromkeys(waiting, 0)
    before = words(callers)
    for _ in range(20):
        for caller in [caller for caller in waiting if caller.running]:
            caller.finish()
            served[caller] += 1
        for caller in waiting:
            listen_and_read(caller)
            caller.backlog = 5
            caller.work()
    assert sum(served.values()) == 4000
    # In turn: five times each, and one word for each.
    assert set(served.values()) == {5}
    assert words(callers) - before <= 4400


def test_a_credit_that_lies_idle_goes_to_the_one_who_waits_without_any() -> None:
    """Although its holder was using it a moment ago, and nothing else happens."""
    pool = CreditPool(1)
    first, second = Caller(pool), Caller(pool)
    first.listen()
    first.read()
    first.start()
    first.finish()
    listen_and_read(first)
    second.backlog = 1
    second.work()
    listen_and_read(first)
    listen_and_read(second)
    assert second.running == 1


def test_a_holder_is_in_one_pool_at_most() -> None:
    pool = CreditPool(4)
    holder = RecordingHolder()
    pool.join(holder)
    for other in (pool, CreditPool(2)):
        with pytest.raises(ValueError, match="already in a pool"):
            other.join(holder)
    CreditPool(2).leave(holder)
    assert holder.held == 4


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_more_callers_than_credits_all_get_their_turn(limit: int) -> None:
    pool = CreditPool(limit)
    callers = [Caller(pool) for _ in range(5)]
    served = [0] * 5
    for i, caller in enumerate(callers):
        caller.backlog = 10 * (i + 1)
    for _ in range(500):
        for i, caller in enumerate(callers):
            caller.listen()
            while caller.inbox:
                caller.read()
            caller.work()
            caller.listen()
            while caller.running:
                caller.finish()
                caller.backlog += 1
                served[i] += 1
    assert min(served) > 0.5 * sum(served) / 5


def test_an_idle_callers_share_goes_to_the_one_who_waits() -> None:
    """Although nobody says so: neither of them sends another word about its demand."""
    pool = CreditPool(10)
    first, second = Caller(pool), Caller(pool)
    for _ in range(20):
        for caller in (first, second):
            caller.listen()
            while caller.inbox:
                caller.read()
    first.backlog, second.backlog = 5, 50
    first.work()
    second.work()
    assert (first.holder.in_use, second.holder.in_use) == (5, 5)
    for _ in range(50):
        # The second goes on, the first has nothing to do any more.
        while first.running:
            first.finish()
        while second.running:
            second.finish()
        for caller in (first, second):
            caller.listen()
            while caller.inbox:
                caller.read()
        second.backlog = 50
        while second.credits:
            second.start()
    assert second.holder.in_use == 10


def test_a_single_caller_has_everything_at_once() -> None:
    pool = CreditPool(200)
    caller = Caller(pool)
    assert caller.holder.held == 200
    assert pool.statistics() == {"limit": 200, "granted": 200, "in_use": 0, "holders": 1}


def test_credit_comes_back_with_the_reply_and_no_other_word() -> None:
    pool = CreditPool(4)
    caller = Caller(pool)
    told = caller.holder.told_granted
    for _ in range(100):
        assert caller.holder.begin()
        assert caller.holder.end(pool) == 1
    assert caller.holder.told_granted == told
    assert caller.holder.told_reclaim == 0


def test_a_request_without_a_credit_is_a_violation() -> None:
    pool = CreditPool(2)
    holder = RecordingHolder()
    pool.join(holder)
    assert holder.begin() and holder.begin()
    assert not holder.begin()
    assert holder.in_use == 2


def test_a_caller_that_leaves_frees_what_it_did_not_use_at_once() -> None:
    pool = CreditPool(10)
    first = Caller(pool)
    first.listen()
    first.read()
    for _ in range(4):
        first.start()
    second = Caller(pool)
    assert second.holder.held == 0
    pool.leave(first.holder)
    assert (pool.orphaned, second.holder.held) == (4, 6)
    for _ in range(4):
        assert first.holder.end(pool) == 0
    assert (pool.orphaned, second.holder.held) == (0, 10)


def test_a_lowered_limit_withholds_and_a_raised_one_grants() -> None:
    pool = CreditPool(10)
    caller = Caller(pool)
    caller.listen()
    caller.read()
    for _ in range(10):
        caller.start()
    pool.set_limit(6)
    assert [caller.holder.end(pool) for _ in range(10)] == [0] * 4 + [1] * 6
    pool.set_limit(8)
    assert caller.holder.held == 8


@pytest.mark.parametrize("n", [-1, 3, 1 << 30])
def test_what_was_not_held_cannot_be_given_back(n: int) -> None:
    pool = CreditPool(2)
    holder = RecordingHolder()
    pool.join(holder)
    with pytest.raises(ValueError, match="2 were unused"):
        pool.returned(holder, n)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CreditPool(limit)
    with pytest.raises(ValueError, match="at least 1"):
        CreditPool(5).set_limit(limit)
