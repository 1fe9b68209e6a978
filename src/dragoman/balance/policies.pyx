"""The policies that choose the endpoint of the next request.

A policy sees candidates: each with a weight (its capacity compared with the others'), the requests
in flight to it, and its room: how many more it may take now, by the credits it has granted. A
candidate without room is never picked, whatever the policy, so no policy can overrun a provider;
they differ in how they spread what fits. Whoever fails fast, rejects, or is far slower than the
rest is worse than others under every policy: what has ended so still counts as load for a while
(``charged``), and a candidate that is ``shunned`` is picked only where the caller lifts that, since
nobody else has room. Pure: no clock, no protocol; randomness comes from a seeded generator. Called
by ``cluster`` for each request.

Invariant: ``pick`` returns the index of a candidate that has room and is not shunned, or -1 exactly
when there is none.
"""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.stdint cimport uint64_t

import os

from dragoman.errors import UsageError


cdef class Target:
    """The server of a candidate: how many requests are in flight there, and how many more it takes.

    Candidates of several services that stand for the same server have one in common.
    """

    def __init__(self, int inflight=0, int room=0):
        self.inflight = inflight
        self.room = room


cdef class Candidate:
    """An endpoint as a policy knows it. One that is ``barred`` has no room, whatever its target
    has.
    """

    def __init__(self, double weight=1.0, int inflight=0, int room=0, Target target=None):
        self.weight = weight if weight > 0 else 1.0
        self.target = Target(inflight, room) if target is None else target
        self._current = 0.0

    @property
    def inflight(self):
        """The requests in flight to it."""
        return self.target.inflight

    @inflight.setter
    def inflight(self, int count):
        """So many from now on."""
        self.target.inflight = count

    @property
    def room(self):
        """How many more it takes."""
        return self.free()

    @room.setter
    def room(self, int count):
        """So many from now on."""
        self.target.room = count


cdef inline Candidate at(list candidates, Py_ssize_t i):
    return <Candidate>PyList_GET_ITEM(candidates, i)


cdef class Policy:
    """Base of the policies. ``seed`` makes the random ones repeatable.

    ``quantum`` is how many requests that come together a pick may stand for.
    """

    def __init__(self, seed=None):
        start = int.from_bytes(os.urandom(8), "little") if seed is None else seed
        # Spread small seeds over all bits; zero is the one state the generator cannot leave.
        self._random = ((start * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) | 1
        self._turn = 0
        self.quantum = 1

    cdef uint64_t _draw(self) noexcept:
        """The next number of a xorshift generator."""
        self._random ^= self._random << 13
        self._random ^= self._random >> 7
        self._random ^= self._random << 17
        return self._random >> 16

    cdef Py_ssize_t pick(self, list candidates):
        """Index of the candidate that gets the next request, or -1 when none has room."""
        return -1

    def choose(self, list candidates not None):
        """``pick`` for Python callers: the candidate itself, or None."""
        cdef Py_ssize_t i = self.pick(candidates)
        return candidates[i] if i >= 0 else None


cdef class Demand(Policy):
    """The smallest load for its weight among those that grant credit.

    With the providers' credits as the upper bound this fills each in proportion to its weight until
    it is full and gives the rest to the others: 512 callers over weights 1 : 2 : 3 with 200 credits
    each settle at
    112 : 200 : 200. Ties go round. Up to eight requests that come together go together.
    """

    def __init__(self, seed=None):
        Policy.__init__(self, seed)
        self.quantum = 8

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t n = PyList_GET_SIZE(candidates)
        cdef Py_ssize_t i, k, best = -1
        cdef double load, lowest = 0.0
        cdef Candidate candidate
        self._turn += 1
        if self._turn >= n:
            self._turn = 0
        for k in range(n):
            i = k + self._turn
            if i >= n:
                i -= n
            candidate = at(candidates, i)
            if candidate.offer() <= 0:
                continue
            load = (candidate.load() + 1) / candidate.weight
            if best < 0 or load < lowest:
                best = i
                lowest = load
        return best


cdef class LeastActive(Policy):
    """The fewest requests in flight; among equals, a random one by weight."""

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t i, best = -1
        cdef int fewest = 0
        cdef double total = 0.0
        cdef Candidate candidate
        for i in range(PyList_GET_SIZE(candidates)):
            candidate = at(candidates, i)
            if candidate.offer() <= 0:
                continue
            if best < 0 or candidate.load() < fewest:
                best = i
                fewest = candidate.load()
                total = candidate.weight
            elif candidate.load() == fewest:
                # Reservoir sampling: each of the equals is kept in proportion to its weight.
                total += candidate.weight
                if <double>(self._draw() & 0xFFFFFFFF) * total < candidate.weight * 4294967296.0:
                    best = i
        return best


cdef Py_ssize_t with_room(list candidates, Py_ssize_t n, Py_ssize_t start):
    """The first candidate with room from ``start`` on, going round; -1 when there is none."""
    cdef Py_ssize_t k, i
    for k in range(n):
        i = start + k
        if i >= n:
            i -= n
        if at(candidates, i).offer() > 0:
            return i
    return -1


cdef class PowerOfTwoChoices(Policy):
    """The less loaded for its weight of two drawn at random."""

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t n = PyList_GET_SIZE(candidates)
        cdef Py_ssize_t first, second
        cdef Candidate a, b
        if n == 0:
            return -1
        first = with_room(candidates, n, self._draw() % <uint64_t>n)
        if first < 0 or n == 1:
            return first
        second = with_room(candidates, n, (first + 1 + self._draw() % <uint64_t>(n - 1)) % n)
        a = at(candidates, first)
        b = at(candidates, second)
        if (b.load() + 1) / b.weight < (a.load() + 1) / a.weight:
            return second
        return first


cdef class SmoothWeightedRoundRobin(Policy):
    """Turns in proportion to weight, evenly interleaved: each gains its weight every turn, the
    richest is picked and pays the sum.
    """

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t i, best = -1
        cdef double total = 0.0, richest = 0.0
        cdef Candidate candidate
        for i in range(PyList_GET_SIZE(candidates)):
            candidate = at(candidates, i)
            if candidate.offer() <= 0:
                continue
            candidate._current += candidate.weight
            total += candidate.weight
            if best < 0 or candidate._current > richest:
                best = i
                richest = candidate._current
        if best >= 0:
            candidate = at(candidates, best)
            candidate._current -= total
        return best


cdef class RoundRobin(Policy):
    """Turns, whatever the weight."""

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t n = PyList_GET_SIZE(candidates)
        cdef Py_ssize_t k, i
        for k in range(n):
            i = (self._turn + k) % n
            if at(candidates, i).offer() > 0:
                self._turn = i + 1
                return i
        return -1


cdef class WeightedRandom(Policy):
    """At random, in proportion to weight."""

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t i, best = -1
        cdef double total = 0.0
        cdef Candidate candidate
        for i in range(PyList_GET_SIZE(candidates)):
            candidate = at(candidates, i)
            if candidate.offer() > 0:
                total += candidate.weight
        total *= <double>(self._draw() & 0xFFFFFFFF) / 4294967296.0
        for i in range(PyList_GET_SIZE(candidates)):
            candidate = at(candidates, i)
            if candidate.offer() > 0:
                best = i
                total -= candidate.weight
                if total < 0:
                    break
        return best


cdef class Random(Policy):
    """At random, whatever the weight."""

    cdef Py_ssize_t pick(self, list candidates):
        cdef Py_ssize_t i, best = -1
        cdef uint64_t seen = 0
        for i in range(PyList_GET_SIZE(candidates)):
            if at(candidates, i).offer() > 0:
                seen += 1
                if self._draw() % seen == 0:
                    best = i
        return best


POLICIES = {
    "demand": Demand,
    "least-active": LeastActive,
    "p2c": PowerOfTwoChoices,
    "weighted-round-robin": SmoothWeightedRoundRobin,
    "round-robin": RoundRobin,
    "weighted-random": WeightedRandom,
    "random": Random,
}


def policy(str name not None, seed=None):
    """The policy of that name, new; raises UsageError naming the choices for an unknown one."""
    try:
        made = POLICIES[name]
    except KeyError:
        raise UsageError(f"unknown policy {name!r}: one of {', '.join(POLICIES)}") from None
    return made(seed)
