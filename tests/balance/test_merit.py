"""Who is worse than the others, and is shunned under every policy."""

from __future__ import annotations

import pytest

from dragoman.balance.merit import judged
from dragoman.balance.policies import POLICIES, Candidate, policy


def served(candidate: Candidate, us: float, count: int = 40) -> list[tuple[Candidate, float]]:
    return [(candidate, us)] * count


def test_who_takes_several_times_as_long_as_most_is_shunned_until_it_is_quick_again() -> None:
    a, b, c = (Candidate(room=1) for _ in "abc")
    assert judged([a, b, c], served(a, 5e3) + served(b, 6e3) + served(c, 50e3)) == [c]
    assert judged([a, b, c], served(c, 5e3, 6)) == []


def test_half_of_all_being_slow_is_how_things_are() -> None:
    a, b, c = (Candidate(room=1) for _ in "abc")
    assert judged([a, b, c], served(a, 5e3) + served(b, 50e3) + served(c, 50e3)) == []


def test_some_slow_calls_among_many_make_nobody_slow() -> None:
    a, b = (Candidate(room=1) for _ in "ab")
    mixed = [*served(a, 1e3, 19), (a, 5e6)] * 5
    assert judged([a, b], mixed + served(b, 1e3)) == []


def test_what_is_answered_late_all_at_once_makes_nobody_slow() -> None:
    a, b = (Candidate(room=1) for _ in "ab")
    assert judged([a, b], served(a, 5e3) + served(b, 5e3)) == []
    assert judged([a, b], served(a, 3e6, 100), apart_us=10) == []


def test_times_below_a_millisecond_are_not_compared() -> None:
    a, b = (Candidate(room=1) for _ in "ab")
    assert judged([a, b], served(a, 100) + served(b, 1000)) == []


def test_rejections_in_a_row_have_whoever_says_so_shunned() -> None:
    a, b = (Candidate(room=1) for _ in "ab")
    assert judged([a, b], rejected=[a, a]) == []
    assert judged([a, b], rejected=[a]) == [a]


@pytest.mark.parametrize("name", POLICIES)
def test_a_shunned_candidate_is_not_picked_and_a_charged_one_no_more_than_its_load(
    name: str,
) -> None:
    a, b = (Candidate(room=1000) for _ in "ab")
    assert judged([a, b], rejected=[a, a, a]) == [a]
    chosen = policy(name, seed=1)
    assert {chosen.choose([a, b]) is b for _ in range(100)} == {True}
    if name in ("demand", "least-active", "p2c"):
        c, d = (Candidate(room=1000) for _ in "cd")
        c.charged, d.inflight = 20, 10
        picks = [chosen.choose([c, d]) for _ in range(50)]
        assert picks == [d] * 50
