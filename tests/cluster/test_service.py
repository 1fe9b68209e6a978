"""A service on the simulated network: who gets the next request, who waits, who is turned away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman.errors import (
    DeadlineError,
    DragomanError,
    LimitError,
    OverloadError,
    RemoteError,
    UnavailableError,
    UsageError,
)
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.services import call, submit
from tests.cluster.services import Callers, answer, ready, registration, servers


def test_requests_before_the_registry_and_the_first_connection_wait() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", limit=3)
        callers = Callers(loop)
        for number in range(10):
            callers.submit(number)
        await asyncio.sleep(1)
        assert not any(callers.ends.values())
        callers.service.update([registration("a")])
        callers.submit(10)
        await asyncio.sleep(1)
        assert all(callers.end(number) == b"%d" % number for number in range(11))

    simulate(1, work)


def test_a_service_without_endpoints_is_unavailable_at_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        callers = Callers(loop)
        callers.submit(0)
        callers.service.update([])
        callers.submit(1)
        # No time has passed.
        assert [type(callers.end(n)) for n in (0, 1)] == [UnavailableError] * 2
        assert str(callers.error(1)) == "no provider of this service is registered"

    simulate(1, work)


def test_a_full_queue_sheds_a_proportion_and_then_all_at_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=10)
        answer(mesh["a"])
        callers = await ready(loop, "a", queue_max=100)
        for number in range(10 + 50):
            callers.submit(number, timeout_ms=60_000)
        assert not any(callers.ends.values())
        for number in range(60, 1000):
            callers.submit(number, timeout_ms=60_000)
        turned_away = [number for number, ends in callers.ends.items() if ends]
        assert len(turned_away) == 1000 - 110
        # Some of the first fifty beyond half of the bound still came in.
        assert 10 <= sum(number < 110 for number in turned_away) <= 40
        assert all(isinstance(callers.error(number), OverloadError) for number in turned_away)
        assert callers.service.shed == 1000 - 110
        assert callers.service.status()["waiting"] == 100

    simulate(1, work)


def test_who_waits_is_served_by_deadline() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=1)
        callers = await ready(loop, "a")
        callers.submit(0)
        timeouts = [4000, 1000, 3000, 1000, 2000]
        for number, timeout_ms in enumerate(timeouts, start=1):
            callers.submit(number, timeout_ms=timeout_ms)
        await asyncio.sleep(2)
        assert callers.kinds() == {"ok": 6}
        assert [request.body for request in mesh["a"].requests] == [
            b"0",
            b"2",
            b"4",
            b"5",
            b"3",
            b"1",
        ]
        # What is left of the time travels with the request.
        left = {int(request.body): request.timeout_ms for request in mesh["a"].requests}
        assert 900 < left[2] <= 950 + 5
        assert 4000 - 6 * 60 <= left[1] <= 4000 - 5 * 50

    simulate(1, work)


def test_deadlines_pass_in_the_queue_and_in_flight() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=1)
        answer(mesh["a"])
        callers = await ready(loop, "a")
        start_s = loop.time()
        callers.submit(0, timeout_ms=300)
        callers.submit(1, timeout_ms=200)
        await asyncio.sleep(1)
        for number, timeout_s in ((0, 0.3), (1, 0.2)):
            assert isinstance(callers.error(number), DeadlineError)
            assert 0 <= callers.ended_s[number] - start_s - timeout_s <= 0.011
        assert str(callers.error(1)) == "deadline passed while waiting for a free provider"
        assert str(callers.error(0)) == "deadline passed"
        assert callers.service.expired == 2
        (request,) = mesh["a"].requests
        assert request.unwanted
        # Its late answer frees its place for the next.
        mesh["a"].work = mesh["a"].echo
        callers.submit(2)
        await asyncio.sleep(0.1)
        assert callers.ends[2] == []
        request.session.goodbye  # noqa: B018 - the session is still there
        mesh["a"].pool.set_limit(2)
        await asyncio.sleep(0.2)
        assert callers.end(2) == b"2"

    simulate(1, work)


def test_endpoints_come_and_go_while_requests_wait_and_are_in_flight() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=2, delay_s=0.2)
        callers = await ready(loop, "a")
        for number in range(20):
            callers.submit(number)
        await asyncio.sleep(0.1)
        assert mesh["a"].handler.in_progress == 2
        # The one that serves is replaced by two others: its two requests still end well.
        callers.service.update([registration("b"), registration("c")])
        await asyncio.sleep(2)
        assert callers.kinds() == {"ok": 20}
        assert len(mesh["a"].requests) == 2
        assert len(mesh["b"].requests) + len(mesh["c"].requests) == 18
        assert not mesh["a"].sessions
        # And back again, at once, several times.
        for hosts in ("a", "ab", "", "abc", "c", "a"):
            callers.service.update([registration(host) for host in hosts])
        callers.submit(100)
        await asyncio.sleep(1)
        assert callers.end(100) == b"100"
        assert len(mesh["a"].sessions) == 1
        assert not mesh["b"].sessions and not mesh["c"].sessions
        for server in mesh.values():
            server.assert_quiet()

    for seed in range(3):
        simulate(seed, work)


def test_a_weight_that_changes_changes_the_split() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=1000, delay_s=1.0)
        callers = await ready(loop, "ab")
        callers.service.update([registration("a", weight=1), registration("b", weight=3)])
        for number in range(400):
            callers.submit(number)
            await asyncio.sleep(0.0005)
        await asyncio.sleep(0.2)
        assert len(loop.network.connections) == 2
        assert mesh["b"].handler.in_progress == pytest.approx(300, rel=0.05)

    simulate(1, work)


def test_a_withdrawn_request_ends_nowhere_and_frees_its_place() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=1, delay_s=0.2)
        callers = await ready(loop, "a")
        flying, waiting, third = (callers.submit(number) for number in range(3))
        await asyncio.sleep(0.05)
        waiting.cancel()
        waiting.cancel()
        flying.cancel()
        assert flying.done and waiting.done and not third.done
        await asyncio.sleep(1)
        assert callers.ends[0] == callers.ends[1] == []
        assert callers.end(2) == b"2"
        third.cancel()
        assert [request.body for request in mesh["a"].unwanted] == [b"0"]
        assert len(mesh["a"].requests) == 2
        mesh["a"].assert_quiet()

    simulate(1, work)


def test_a_request_that_is_too_large_or_misnamed_fails_alone() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", body_bytes_max=1000)
        callers = await ready(loop, "a")
        callers.submit(0, bytes(1001))
        callers.submit(1, bytes(1000))
        with pytest.raises(UsageError, match="1 to 1024 bytes, not 0"):
            callers.submit(2, method=b"")
        with pytest.raises(UsageError, match="timeout_ms must be 1 to"):
            callers.submit(2, timeout_ms=0)
        await asyncio.sleep(0.2)
        assert isinstance(callers.error(0), LimitError)
        assert callers.end(1) == bytes(1000)
        assert callers.service.status()["waiting"] == 0

    simulate(1, work)


def test_awaiting_a_call_gives_its_result_or_raises_and_may_be_cancelled() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=5)
        callers = await ready(loop, "a")
        assert await call(callers.service, b"m", b"hello") == b"hello"
        answer(mesh["a"], RemoteError("said no"))
        with pytest.raises(RemoteError, match="said no"):
            await call(callers.service, b"m", b"")
        answer(mesh["a"])
        with pytest.raises(DeadlineError):
            await call(callers.service, b"m", b"", timeout_ms=100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await call(callers.service, b"m", b"cancelled")
        await asyncio.sleep(0.1)
        assert mesh["a"].unwanted[-1].body == b"cancelled"

    simulate(1, work)


def test_closing_a_service_ends_what_waits_and_lets_what_flies_end() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=1, delay_s=0.2)
        callers = await ready(loop, "a")
        callers.submit(0)
        callers.submit(1)
        await asyncio.sleep(0.05)
        await callers.service.close()
        assert isinstance(callers.error(1), UnavailableError)
        await asyncio.sleep(1)
        assert callers.end(0) == b"0"
        assert not mesh["a"].sessions
        mesh["a"].assert_quiet()

    simulate(1, work)


def test_512_callers_settle_at_112_200_200() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=200)
        callers = await ready(loop, "abc", [1, 2, 3])
        stopped = False
        done = 0

        def again(end: bytes | DragomanError | None) -> None:
            nonlocal done
            assert not isinstance(end, DragomanError), end
            done += 1
            if not stopped:
                submit(callers.service, b"m", b"x", again, again)

        for _ in range(512):
            again(None)
        await asyncio.sleep(0.5)
        totals = [0, 0, 0]
        for _ in range(100):
            await asyncio.sleep(0.007)
            for i, server in enumerate(mesh.values()):
                totals[i] += server.handler.in_progress
        stopped = True
        for total, ideal in zip(totals, (112, 200, 200), strict=True):
            # Replies and requests under way are at none of them.
            assert total / 100 == pytest.approx(ideal, rel=0.08)
        await asyncio.sleep(1)
        for server in mesh.values():
            assert server.most_in_progress <= 200
            server.assert_quiet()

    simulate(1, work)


def test_many_consumers_share_many_providers_and_none_overruns_or_starves() -> None:
    """N-to-N: four consumers with different demand, two providers, far too few credits."""

    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=10, delay_s=0.05)
        consumers = [await ready(loop, "ab", queue_max=1000) for _ in range(4)]
        served = [0] * 4
        stopped = False

        def loop_for(which: int) -> Any:
            def again(end: bytes | DragomanError | None) -> None:
                assert not isinstance(end, DragomanError), end
                served[which] += end is not None
                if not stopped:
                    service = consumers[which].service
                    submit(service, b"m", b"x", again, again, timeout_ms=60_000)

            return again

        for which, demand in enumerate((1, 3, 40, 200)):
            for _ in range(demand):
                loop_for(which)(None)
        await asyncio.sleep(2)
        before = list(served)
        await asyncio.sleep(10)
        stopped = True
        rates = [(now - then) / 10 for now, then in zip(served, before, strict=True)]
        assert all(server.most_in_progress <= 10 for server in mesh.values())
        # 20 places, 50 ms and the network's 2 ms: about 385 a second for all.
        assert sum(rates) >= 300
        # The small ones get most of what they ask for, the large ones share the rest alike.
        assert rates[0] >= 10 and rates[1] >= 30
        assert rates[2] == pytest.approx(rates[3], rel=0.25)
        await asyncio.sleep(20)
        for server in mesh.values():
            server.assert_quiet()

    simulate(1, work)
