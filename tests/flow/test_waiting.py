"""The waiting queue: by deadline, bounded, shedding an exact proportion."""

from __future__ import annotations

import gc
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman.flow.waiting import Waiter, WaitingQueue


class Someone(Waiter):
    """A waiter with a name."""

    def __init__(self, name: int) -> None:
        self.name = name


def fill(queue: WaitingQueue, due: list[int]) -> list[Someone]:
    """Offer one waiter for each deadline; those that were let in."""
    found = []
    for i, due_us in enumerate(due):
        someone = Someone(i)
        if queue.offer(someone, due_us):
            found.append(someone)
    return found


def names(queue: WaitingQueue) -> list[int]:
    found = []
    while (waiter := queue.next()) is not None:
        assert isinstance(waiter, Someone)
        found.append(waiter.name)
    return found


@given(st.lists(st.integers(-(2**62), 2**62)))
def test_the_earliest_deadline_comes_first_and_equals_in_order_of_arrival(due: list[int]) -> None:
    queue = WaitingQueue(10_000)
    fill(queue, due)
    assert names(queue) == [i for _, i in sorted((due_us, i) for i, due_us in enumerate(due))]


@given(st.lists(st.integers(0, 5), max_size=60), st.data())
def test_whoever_withdraws_is_gone_and_the_order_stays(due: list[int], data: st.DataObject) -> None:
    queue = WaitingQueue(10_000)
    waiters = fill(queue, due)
    leaving = data.draw(st.sets(st.sampled_from(waiters)) if waiters else st.just(set()))
    for waiter in leaving:
        queue.remove(waiter)
        queue.remove(waiter)
    assert len(queue) == queue.live == len(due) - len(leaving)
    stay = [(due_us, i) for i, due_us in enumerate(due) if waiters[i] not in leaving]
    assert names(queue) == [i for _, i in sorted(stay)]


@given(st.lists(st.one_of(st.integers(0, 9), st.just("next"), st.just("remove")), max_size=200))
def test_any_order_of_use_agrees_with_a_sorted_list(actions: list[int | str]) -> None:
    queue = WaitingQueue(1000)
    model: list[tuple[int, int]] = []
    waiters: dict[int, Someone] = {}
    for i, action in enumerate(actions):
        if action == "next":
            got = queue.next()
            want = min(model, default=None)
            if want is None:
                assert got is None
            else:
                model.remove(want)
                assert got is waiters[want[1]]
        elif action == "remove":
            if model:
                gone = model.pop(len(model) // 2)
                queue.remove(waiters[gone[1]])
        else:
            assert isinstance(action, int)
            waiters[i] = Someone(i)
            assert queue.offer(waiters[i], action)
            model.append((action, i))
        assert queue.live == len(model)


@pytest.mark.parametrize("maximum", [1, 2, 3, 10, 1000])
def test_nobody_is_let_in_beyond_the_bound(maximum: int) -> None:
    queue = WaitingQueue(maximum)
    inside = len(fill(queue, [0] * (20 * maximum + 100)))
    assert inside == queue.live == maximum
    assert queue.shed == 20 * maximum + 100 - maximum
    # One leaves, and one comes in again at last.
    queue.next()
    before = queue.shed
    assert fill(queue, [0] * (maximum + 1))
    assert queue.live == maximum
    assert queue.shed > before or maximum == 1


def test_a_queue_of_nothing_lets_nobody_in() -> None:
    queue = WaitingQueue(0)
    assert fill(queue, [0] * 10) == []
    assert queue.shed == 10
    assert queue.next() is None


def test_up_to_half_everybody_is_let_in() -> None:
    queue = WaitingQueue(100)
    assert len(fill(queue, [0] * 50)) == 50
    assert queue.shed == 0


@pytest.mark.parametrize("live", range(50, 100, 7))
def test_beyond_half_the_proportion_turned_away_is_exact(live: int) -> None:
    """(live - half) of (maximum - half), to one: errors are carried over, not drawn."""
    queue = WaitingQueue(100)
    waiters = iter(range(10**9))
    while queue.live < live:
        queue.offer(Someone(next(waiters)), 0)
    before = queue.shed
    tried = 1000
    for _ in range(tried):
        if queue.offer(Someone(next(waiters)), 0):
            queue.next()
    assert abs((queue.shed - before) - tried * (live - 50) / 50) <= 1


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative: -1"):
        WaitingQueue(-1)


def test_waiters_are_let_go_with_their_queue() -> None:
    queue = WaitingQueue(10)
    someone = Someone(1)
    before = sys.getrefcount(someone)
    queue.offer(someone, 1)
    assert sys.getrefcount(someone) == before + 1
    queue.next()
    assert sys.getrefcount(someone) == before
    queue.offer(someone, 1)
    del queue
    gc.collect()
    # The waiter names its queue, the queue holds its waiters: the one who takes it out breaks the
    # ring.
    assert sys.getrefcount(someone) >= before
