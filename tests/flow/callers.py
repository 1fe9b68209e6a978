"""Callers of a credit pool as the protocol has them, and crowds of idle ones."""

from __future__ import annotations

from collections import deque

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
