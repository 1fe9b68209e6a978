"""Every policy: room is respected, proportions are kept, demand settles where it should."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.balance.policies import POLICIES, Candidate, policy
from dragoman.errors import UsageError

CANDIDATES = st.lists(
    st.builds(
        Candidate,
        weight=st.floats(0.1, 1000),
        inflight=st.integers(0, 300),
        room=st.integers(-2, 5),
    ),
    max_size=12,
)
WEIGHTED = ("weighted-round-robin", "weighted-random")
EVEN = ("round-robin", "random")


@pytest.mark.parametrize("name", POLICIES)
@given(candidates=CANDIDATES, seed=st.integers(0, 2**64 - 1))
def test_one_with_room_is_picked_exactly_when_there_is_one(
    name: str, candidates: list[Candidate], seed: int
) -> None:
    chooser = policy(name, seed)
    for _ in range(30):
        chosen = chooser.choose(candidates)
        if chosen is None:
            assert all(candidate.room <= 0 for candidate in candidates)
            return
        assert any(chosen is candidate for candidate in candidates)
        assert chosen.room > 0
        chosen.room -= 1
        chosen.inflight += 1


@pytest.mark.parametrize("name", POLICIES)
def test_the_list_may_shrink_and_grow_between_picks(name: str) -> None:
    chooser = policy(name, 7)
    source = random.Random(7)
    everybody = [Candidate(weight=i + 1, room=10**6) for i in range(10)]
    for _ in range(500):
        some = everybody[: source.randint(0, 10)]
        chosen = chooser.choose(some)
        assert (chosen is None) == (not some)
        assert chosen is None or any(chosen is candidate for candidate in some)


def picks(name: str, weights: list[float], count: int, seed: int = 1) -> list[int]:
    """Which candidates get ``count`` picks while nothing else changes."""
    chooser = policy(name, seed)
    candidates = [Candidate(weight=weight, room=10**9) for weight in weights]
    numbers = {id(candidate): i for i, candidate in enumerate(candidates)}
    found = []
    for _ in range(count):
        chosen = chooser.choose(candidates)
        assert chosen is not None
        found.append(numbers[id(chosen)])
    return found


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("weights", [[1, 2, 3], [5, 1, 1], [1, 1], [0.5, 0.25, 0.25], [7]])
def test_weighted_policies_pick_in_proportion_to_weight(name: str, weights: list[float]) -> None:
    counts = Counter(picks(name, weights, 60_000))
    for i, weight in enumerate(weights):
        assert counts[i] / 60_000 == pytest.approx(weight / sum(weights), abs=0.01)


@pytest.mark.parametrize("name", EVEN)
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_even_policies_pick_alike_whatever_the_weight(name: str, seed: int) -> None:
    counts = Counter(picks(name, [1, 10, 100, 1000], 40_000, seed))
    for i in range(4):
        assert counts[i] / 40_000 == pytest.approx(0.25, abs=0.01)


def test_smooth_weighted_round_robin_interleaves() -> None:
    assert picks("weighted-round-robin", [5, 1, 1], 7) == [0, 0, 1, 0, 2, 0, 0]
    assert picks("weighted-round-robin", [1, 2, 3], 6) == [2, 1, 0, 2, 1, 2]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_smooth_weighted_round_robin_is_exact_in_every_round(weights: list[int]) -> None:
    total = sum(weights)
    found = picks("weighted-round-robin", [float(weight) for weight in weights], 3 * total)
    for start in range(0, 3 * total, total):
        counts = Counter(found[start : start + total])
        assert [counts[i] for i in range(len(weights))] == weights


def test_round_robin_goes_round_and_skips_those_without_room() -> None:
    assert picks("round-robin", [1, 1, 1], 7) == [0, 1, 2, 0, 1, 2, 0]
    candidates = [Candidate(room=5), Candidate(room=0), Candidate(room=5)]
    chooser = policy("round-robin")
    found = [chooser.choose(candidates) for _ in range(4)]
    assert found == [candidates[0], candidates[2], candidates[0], candidates[2]]


@pytest.mark.parametrize("name", ["demand", "least-active"])
def test_ties_do_not_always_go_to_the_same_one(name: str) -> None:
    counts = Counter(picks(name, [1, 1, 1, 1], 8000))
    assert all(counts[i] > 1000 for i in range(4))


def test_least_active_takes_the_fewest_and_breaks_ties_by_weight() -> None:
    chooser = policy("least-active", 3)
    candidates = [Candidate(inflight=n, room=1) for n in (5, 3, 4)]
    assert chooser.choose(candidates) is candidates[1]
    counts = Counter(picks("least-active", [1, 3], 20_000))
    assert counts[1] / 20_000 == pytest.approx(0.75, abs=0.02)


def test_power_of_two_choices_prefers_the_less_loaded() -> None:
    chooser = policy("p2c", 3)
    light, heavy = Candidate(inflight=0, room=9), Candidate(inflight=50, room=9)
    assert all(chooser.choose([light, heavy]) is light for _ in range(100))
    strong, weak = Candidate(weight=10, inflight=20, room=9), Candidate(inflight=5, room=9)
    assert all(chooser.choose([strong, weak]) is strong for _ in range(100))


@pytest.mark.parametrize("name", POLICIES)
def test_a_seed_repeats_itself(name: str) -> None:
    assert picks(name, [1, 2, 3], 200, 42) == picks(name, [1, 2, 3], 200, 42)


@pytest.mark.parametrize("weight", [0.0, -3.0])
def test_a_weight_that_is_no_capacity_counts_as_one(weight: float) -> None:
    assert Candidate(weight=weight).weight == 1.0


def test_an_unknown_policy_names_the_choices() -> None:
    with pytest.raises(UsageError, match="unknown policy 'best': one of demand, least-active, p2c"):
        policy("best")


def race(name: str, callers: int, weights: list[float], limit: int, seed: int) -> list[float]:
    """A closed loop: each caller asks again when it is answered, after 45 to 55 ms.

    Who finds no room waits in order. Returns the mean number in flight at each, once settled.
    """
    source = random.Random(seed)
    chooser = policy(name, seed)
    candidates = [Candidate(weight=weight, room=limit) for weight in weights]
    waiting = deque(range(callers))
    running: list[tuple[float, int, Candidate]] = []
    now, until, settled = 0.0, 4.0, 1.0
    area = dict.fromkeys(map(id, candidates), 0.0)
    order = itertools.count()
    while now < until:
        while waiting and (chosen := chooser.choose(candidates)) is not None:
            waiting.popleft()
            chosen.inflight += 1
            chosen.room -= 1
            heapq.heappush(running, (now + source.uniform(0.045, 0.055), next(order), chosen))
        at, _, ended = heapq.heappop(running)
        if at > settled:
            for candidate in candidates:
                area[id(candidate)] += candidate.inflight * (at - max(now, settled))
        now = at
        ended.inflight -= 1
        ended.room += 1
        waiting.append(0)
    return [area[id(candidate)] / (now - settled) for candidate in candidates]


@pytest.mark.parametrize("seed", [1, 2])
def test_demand_settles_at_112_200_200_for_512_callers(seed: int) -> None:
    found = race("demand", 512, [1, 2, 3], 200, seed)
    for mean, ideal in zip(found, [112, 200, 200], strict=True):
        assert mean == pytest.approx(ideal, rel=0.05)


@pytest.mark.parametrize(
    ("callers", "ideal"), [(64, [11, 21, 32]), (300, [50, 100, 150]), (900, [200, 200, 200])]
)
def test_demand_follows_capacity_below_and_above_the_limits(callers: int, ideal: list[int]) -> None:
    found = race("demand", callers, [1, 2, 3], 200, 1)
    for mean, expected in zip(found, ideal, strict=True):
        assert mean == pytest.approx(expected, rel=0.05, abs=1)


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_overruns_a_limit_and_none_leaves_room_unused(name: str) -> None:
    assert race(name, 700, [1, 2, 3], 200, 1) == pytest.approx([200, 200, 200], rel=0.01)
