"""Credits: never more than the limit, fair by demand, lost by nobody."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from dragoman.flow.credits import CreditPool, RecordingHolder


class Caller:
    """A caller as the protocol has it: it uses credits, gives back unused ones, tells its demand.

    ``credits`` is what it believes to have; ``inbox`` holds the pool's words that it has not read.
    """

    def __init__(self, pool: CreditPool) -> None:
        self.pool = pool
        self.holder = RecordingHolder()
        self.granted = 0
        self.reclaimed = 0
        self.inbox: deque[tuple[str, int]] = deque()
        self.credits = 0
        self.running = 0
        self.backlog = 0
        self.join(pool)
        self.listen()

    def join(self, pool: CreditPool) -> None:
        pool.join(self.holder)

    def listen(self) -> None:
        """Queue what the pool has said since."""
        if self.holder.told_granted > self.granted:
            self.inbox.append(("grant", self.holder.told_granted - self.granted))
            self.granted = self.holder.told_granted
        if self.holder.told_reclaim > self.reclaimed:
            self.inbox.append(("reclaim", self.holder.told_reclaim - self.reclaimed))
            self.reclaimed = self.holder.told_reclaim

    def read(self) -> None:
        """Act upon the pool's next word."""
        word, n = self.inbox.popleft()
        if word == "grant":
            self.credits += n
        else:
            # Those who wait come first, then the rest is given back.
            self.start_waiting()
            n = min(n, self.credits)
            self.credits -= n
            self.pool.returned(self.holder, n)

    def start(self) -> None:
        assert self.holder.begin()
        self.credits -= 1
        self.running += 1

    def finish(self) -> None:
        self.running -= 1
        # The credit travels with the reply.
        self.inbox.append(("grant", self.holder.end(self.pool)))

    def start_waiting(self) -> None:
        while self.backlog and self.credits:
            self.backlog -= 1
            self.start()

    def work(self) -> None:
        """Start what the backlog and the credits allow, and tell what has to wait."""
        self.start_waiting()
        self.pool.demand(self.holder, self.backlog)


class Credits(RuleBasedStateMachine):
    """Everything that callers may do, in every order, against plain sums."""

    callers = Bundle("callers")

    def __init__(self) -> None:
        super().__init__()
        self.pool = CreditPool(10)
        self.present: list[Caller] = []
        self.gone: list[Caller] = []
        self.limit_before = 10

    def told(self) -> None:
        for caller in self.present:
            caller.listen()

    @rule(target=callers)
    def join(self) -> Caller:
        caller = Caller(self.pool)
        self.present.append(caller)
        self.told()
        return caller

    @rule(caller=callers)
    def leave(self, caller: Caller) -> None:
        if caller in self.present:
            self.present.remove(caller)
            if caller.running:
                self.gone.append(caller)
            self.pool.leave(caller.holder)
            self.told()

    @rule(caller=callers)
    def leave_twice(self, caller: Caller) -> None:
        if caller not in self.present:
            self.pool.leave(caller.holder)

    @rule(caller=callers)
    def read(self, caller: Caller) -> None:
        if caller in self.present and caller.inbox:
            caller.read()
            self.told()

    @rule(caller=callers)
    def start(self, caller: Caller) -> None:
        if caller in self.present and caller.credits:
            caller.start()

    @rule(caller=callers)
    def finish(self, caller: Caller) -> None:
        if caller.running:
            caller.finish()
            if caller in self.gone and not caller.running:
                self.gone.remove(caller)
            self.told()

    @rule(caller=callers, waiting=st.integers(0, 40))
    def demand(self, caller: Caller, waiting: int) -> None:
        if caller in self.present:
            self.pool.demand(caller.holder, waiting)
            self.told()

    @rule(limit=st.integers(1, 30))
    def set_limit(self, limit: int) -> None:
        self.limit_before = max(limit, self.pool.granted)
        self.pool.set_limit(limit)
        self.told()

    @precondition(lambda self: self.present)
    @rule(source=st.randoms(use_true_random=False))
    def everything_is_read_and_ends(self, source: random.Random) -> None:
        """Once all words are read and all work has ended, nothing is out of its place."""
        for _ in range(1000):
            busy = [c for c in self.present if c.inbox]
            if busy:
                source.choice(busy).read()
            else:
                running = [c for c in self.present + self.gone if c.running]
                if not running:
                    break
                source.choice(running).finish()
            self.told()
        self.gone = []
        assert all(c.credits == c.holder.held for c in self.present)
        assert self.pool.orphaned == 0
        # Nothing is lost: all of the limit is out, to callers who may use it.
        assert self.pool.granted == self.pool.limit

    @invariant()
    def sums_hold(self) -> None:
        pool = self.pool
        held = sum(c.holder.held for c in self.present)
        assert pool.granted == held + pool.orphaned
        assert pool.orphaned == sum(c.running for c in self.gone)
        assert pool.granted <= max(pool.limit, self.limit_before)
        if pool.granted <= pool.limit:
            self.limit_before = pool.limit
        for caller in self.present:
            holder = caller.holder
            assert 0 <= holder.in_use <= holder.held
            assert holder.in_use == caller.running
            under_way = sum(n for word, n in caller.inbox if word == "grant")
            # What the caller has, will have and uses is what the pool believes it has.
            assert caller.credits + under_way + caller.running == holder.held


TestCredits = Credits.TestCase
TestCredits.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


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


def close_loop(callers: list[Caller], rounds: int) -> list[float]:
    """Let a closed loop run: a third of what runs ends in each round and is wanted again.

    Returns how many requests each had running in the mean.
    """
    totals = [0] * len(callers)
    for _ in range(rounds):
        for caller in callers:
            caller.listen()
            while caller.inbox:
                caller.read()
        for caller in callers:
            caller.work()
        for i, caller in enumerate(callers):
            totals[i] += caller.running
        for caller in callers:
            for _ in range(-(-caller.running // 3)):
                caller.finish()
                caller.backlog += 1
    return [total / rounds for total in totals]


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


def crowd_of_idle(limit: int, count: int) -> tuple[CreditPool, list[Caller]]:
    """Callers that came one by one and have nothing to do."""
    pool = CreditPool(limit)
    callers: list[Caller] = []
    asked: list[Caller] = []
    for _ in range(count):
        caller = Caller(pool)
        callers.append(caller)
        # Nobody but the one that had most can have been asked.
        asked = [c for c in callers if c.holder.told_reclaim > c.reclaimed]
        assert len(asked) <= 1
        for one in (*asked, caller):
            listen_and_read(one)
        for one in (*asked, caller):
            listen_and_read(one)
    return pool, callers


def listen_and_read(caller: Caller) -> None:
    """Hear everything, and use what it brings."""
    caller.listen()
    while caller.inbox:
        caller.read()
    caller.start_waiting()


def words(callers: list[Caller]) -> int:
    """How many words the pool has said to all of them."""
    return sum(caller.holder.grants + caller.holder.reclaims for caller in callers)


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
