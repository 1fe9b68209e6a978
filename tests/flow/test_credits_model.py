"""A credit pool against every order of events: never more than the limit, lost by nobody."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from dragoman.flow.credits import CreditPool
from tests.flow.callers import Caller


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
