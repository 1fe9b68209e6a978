"""The timer wheel, on simulated time (and once on a real loop)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.testing import SimulatedLoop, simulate
from dragoman.timers import Timed, Wheel, call_at_us, cancel, clock_us, move

GRAIN_US = 5000
ROUND_US = 4096 * GRAIN_US


def wheel_with(loop: SimulatedLoop, delays_us: list[int], fired: dict[int, int]) -> list[Timed]:
    """Timers that note in ``fired`` when they fired, by their number."""
    wheel = Wheel(loop)
    now = clock_us(wheel)

    def note(number: int) -> Any:
        return lambda: fired.setdefault(number, clock_us(wheel))

    timers = [call_at_us(wheel, now + delay, note(i)) for i, delay in enumerate(delays_us)]
    assert wheel.armed == len(timers)
    return timers


@given(st.lists(st.integers(-GRAIN_US, 3 * ROUND_US), max_size=40), st.integers(0, 4999))
@settings(max_examples=50, deadline=None)
def test_every_timer_fires_once_never_early_and_within_two_grains(
    delays_us: list[int], phase_us: int
) -> None:
    async def work(loop: SimulatedLoop) -> None:
        await asyncio.sleep(phase_us / 1e6)
        fired: dict[int, int] = {}
        start_us = round(loop.time() * 1e6)
        timers = wheel_with(loop, delays_us, fired)
        await asyncio.sleep((max(delays_us, default=0) + 4 * GRAIN_US) / 1e6)
        assert sorted(fired) == list(range(len(timers)))
        for number, delay in enumerate(delays_us):
            late_us = fired[number] - (start_us + max(delay, 0))
            assert -1 <= late_us <= 2 * GRAIN_US

    simulate(1, work)


def test_a_cancelled_timer_never_fires_and_its_neighbours_do() -> None:
    async def work(loop: SimulatedLoop) -> None:
        fired: dict[int, int] = {}
        # All in one slot, so that they are neighbours.
        timers = wheel_with(loop, [10_000] * 5, fired)
        for number in (0, 2, 4):
            cancel(timers[number])
            cancel(timers[number])
        await asyncio.sleep(1)
        assert sorted(fired) == [1, 3]
        cancel(timers[1])

    simulate(1, work)


def test_a_timer_that_is_moved_fires_at_its_new_time_only() -> None:
    async def work(loop: SimulatedLoop) -> None:
        wheel = Wheel(loop)
        start = clock_us(wheel)
        fired: list[int] = []
        timer = call_at_us(wheel, start + 50_000, lambda: fired.append(clock_us(wheel) - start))
        move(wheel, timer, start + 900_000)
        await asyncio.sleep(0.5)
        move(wheel, timer, start + 700_000)
        assert wheel.armed == 1
        await asyncio.sleep(2)
        assert len(fired) == 1 and 700_000 <= fired[0] <= 710_000
        # It may be armed again after it has fired.
        move(wheel, timer, start + 3_000_000)
        await asyncio.sleep(2)
        assert len(fired) == 2 and wheel.armed == 0

    simulate(1, work)


def test_a_callback_may_cancel_move_and_arm_others_of_its_own_slot() -> None:
    for order in range(4):

        async def work(loop: SimulatedLoop, order: int = order) -> None:
            wheel = Wheel(loop)
            due = clock_us(wheel) + 20_000
            fired: list[str] = []
            timers: dict[str, Timed] = {}

            def first() -> None:
                fired.append("first")
                cancel(timers["cancelled"])
                move(wheel, timers["moved"], due + 300_000)
                timers["new"] = call_at_us(wheel, due, lambda: fired.append("new"))

            callbacks = [
                ("first", first),
                ("cancelled", lambda: fired.append("cancelled")),
                ("moved", lambda: fired.append("moved")),
                ("last", lambda: fired.append("last")),
            ]
            # A slot fires its latest member first: try "first" in each place before the others.
            for name, callback in callbacks[order:] + callbacks[:order]:
                timers[name] = call_at_us(wheel, due, callback)
            await asyncio.sleep(0.1)
            assert fired.count("first") == fired.count("last") == fired.count("new") == 1
            assert fired.index("new") > fired.index("first")
            if "cancelled" in fired:
                assert fired.index("cancelled") < fired.index("first")
            before = fired.count("moved")
            await asyncio.sleep(1)
            assert fired.count("moved") == before + 1
            assert wheel.armed == 0

        simulate(1, work)


def test_a_callback_may_arm_itself_again_for_ever() -> None:
    async def work(loop: SimulatedLoop) -> None:
        wheel = Wheel(loop)
        times: list[int] = []

        def again() -> None:
            times.append(clock_us(wheel))
            call_at_us(wheel, times[-1], again)

        call_at_us(wheel, clock_us(wheel), again)
        await asyncio.sleep(1)
        assert 90 <= len(times) <= 201
        wheel.close()
        await asyncio.sleep(1)
        assert len(times) <= 201

    simulate(1, work)


def test_after_a_long_pause_of_the_process_everything_due_fires_at_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        fired: dict[int, int] = {}
        delays_us = [1_000, 5_000_000, ROUND_US - 1, ROUND_US + 7_000_000, 5 * ROUND_US]
        wheel_with(loop, delays_us, fired)
        await asyncio.sleep(0)
        # Stopped for three rounds, as by SIGSTOP: the clock jumps between two turns.
        loop.now_s += 3 * ROUND_US / 1e6
        await asyncio.sleep(0.02)
        assert sorted(fired) == [0, 1, 2, 3]
        await asyncio.sleep(2 * ROUND_US / 1e6)
        assert sorted(fired) == [0, 1, 2, 3, 4]

    simulate(1, work)


def test_a_callback_that_raises_is_reported_and_stops_no_other() -> None:
    async def work(loop: SimulatedLoop) -> None:
        wheel = Wheel(loop)
        fired: list[int] = []
        due = clock_us(wheel) + 10_000
        for number in range(3):
            call_at_us(wheel, due, lambda number=number: fired.append(1 // (number - 1)))
        call_at_us(wheel, due + 50_000, lambda: fired.append(99))
        await asyncio.sleep(0.2)
        assert sorted(fired) == [-1, 1, 99]
        assert [type(fault["exception"]) for fault in loop.faults] == [ZeroDivisionError]
        loop.faults.clear()

    simulate(1, work)


def test_an_empty_wheel_turns_nothing() -> None:
    loop = SimulatedLoop(1)
    wheel = Wheel(loop)
    timer = call_at_us(wheel, clock_us(wheel) + 10_000, lambda: None)
    cancel(timer)
    loop.step(3600)
    assert wheel.armed == 0
    loop.close()


def test_what_a_timer_holds_is_let_go_when_it_has_fired_or_was_cancelled() -> None:
    class Thing:
        alive = 0

        def __init__(self) -> None:
            Thing.alive += 1

        def __del__(self) -> None:
            Thing.alive -= 1

        def nothing(self) -> None:
            pass

    async def work(loop: SimulatedLoop) -> None:
        wheel = Wheel(loop)
        call_at_us(wheel, clock_us(wheel) + 10_000, Thing().nothing)
        cancel(call_at_us(wheel, clock_us(wheel) + 10_000, Thing().nothing))
        gc.collect()
        assert Thing.alive == 1
        await asyncio.sleep(0.1)
        gc.collect()
        assert Thing.alive == 0

    simulate(1, work)


def test_the_wheel_keeps_its_promises_on_a_real_loop() -> None:
    async def work() -> None:
        wheel = Wheel(asyncio.get_running_loop())
        start = clock_us(wheel)
        fired: list[tuple[int, int]] = []
        for delay in (0, 3_000, 20_000, 41_000):
            call_at_us(
                wheel,
                start + delay,
                lambda delay=delay: fired.append((delay, clock_us(wheel) - start)),
            )
        while wheel.armed:
            await asyncio.sleep(0.01)
        assert sorted(delay for delay, _ in fired) == [0, 3_000, 20_000, 41_000]
        assert all(at >= delay for delay, at in fired)

    uvloop.run(work())
