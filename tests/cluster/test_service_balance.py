"""A service on the simulated network: one provider worse than the others, by each policy."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.balance.policies import POLICIES
from dragoman.errors import DragomanError, OverloadError, RemoteError
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Server
from dragoman.testing.services import submit
from dragoman.testing.sessions import IncomingRequest
from tests.cluster.services import Callers, answer, ready, servers

policies = pytest.mark.parametrize("policy", POLICIES)


async def paced(loop: SimulatedLoop, callers: Callers, seconds: float, every_s: float) -> None:
    """Calls at a steady rate, whatever becomes of them."""
    number = len(callers.ends)
    until_s = loop.time() + seconds
    while loop.time() < until_s:
        callers.submit(number)
        number += 1
        await asyncio.sleep(every_s)
    await asyncio.sleep(1)


def share(mesh: dict[str, Server], host: str) -> float:
    return len(mesh[host].requests) / sum(len(server.requests) for server in mesh.values())


@policies
def test_a_provider_that_throws_at_once_gets_no_more_than_its_share(policy: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=100, delay_s=0.05)
        callers = await ready(loop, "abc", policy=policy)
        await paced(loop, callers, 0.5, 0.002)
        for server in mesh.values():
            server.requests.clear()
        answer(mesh["a"], RemoteError("no such order"))
        await paced(loop, callers, 3, 0.002)
        assert share(mesh, "a") <= 0.4
        # A method's exception never has its provider set aside.
        assert share(mesh, "a") >= 0.2
        assert callers.endpoint("a")["breaker_trips"] == 0

    simulate(1, work)


@policies
def test_a_provider_that_rejects_everything_is_set_aside_and_fails_no_call(policy: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=100, delay_s=0.05)
        callers = await ready(loop, "abc", policy=policy)
        await paced(loop, callers, 1, 0.002)
        answer(mesh["a"], OverloadError("thread pool is exhausted"))
        before = {host: len(server.requests) for host, server in mesh.items()}
        retried = callers.service.retried
        await paced(loop, callers, 4, 0.002)
        assert set(callers.kinds()) == {"ok"}
        assert callers.endpoint("a")["breaker_open"]
        assert len(mesh["a"].requests) - before["a"] <= 60
        assert callers.service.retried - retried <= 20 + 0.1 * 2000
        mesh["a"].work = mesh["a"].echo
        await paced(loop, callers, 1.1, 0.002)
        before = {host: len(server.requests) for host, server in mesh.items()}
        await paced(loop, callers, 1, 0.002)
        assert len(mesh["a"].requests) - before["a"] > 100
        assert not callers.endpoint("a")["breaker_open"]

    simulate(1, work)


@policies
def test_a_provider_ten_times_slower_than_two_others_takes_neither_p99_nor_throughput(
    policy: str,
) -> None:
    async def work(loop: SimulatedLoop, hosts: str) -> tuple[int, float]:
        mesh = servers(loop, "ab", limit=100, delay_s=0.01)
        mesh |= servers(loop, "c", limit=100, delay_s=0.1)
        callers = await ready(loop, hosts, policy=policy)
        took_s: list[float] = []
        stopped = False

        def again(began_s: float) -> None:
            def end(result: bytes | DragomanError) -> None:
                assert isinstance(result, bytes)
                took_s.append(loop.time() - began_s)
                if not stopped:
                    again(loop.time())

            submit(callers.service, b"m", b"x", end, end)

        for _ in range(32):
            again(loop.time())
        # How slow it is shows with its first replies.
        await asyncio.sleep(1)
        took_s.clear()
        await asyncio.sleep(5)
        stopped = True
        await asyncio.sleep(1)
        took_s.sort()
        return len(took_s), took_s[len(took_s) * 99 // 100]

    without = simulate(1, lambda loop: work(loop, "ab"))
    beside = simulate(1, lambda loop: work(loop, "abc"))
    assert beside[0] >= 0.95 * without[0], (beside, without)
    assert beside[1] <= 1.5 * without[1], (beside, without)


@policies
def test_a_slow_provider_is_used_when_the_fast_ones_are_full_and_again_when_it_is_fast(
    policy: str,
) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=4, delay_s=0.01)
        mesh |= servers(loop, "c", limit=100, delay_s=0.1)
        callers = await ready(loop, "abc", policy=policy)
        await paced(loop, callers, 2, 0.001)
        assert set(callers.kinds()) == {"ok"}
        assert len(mesh["c"].requests) > 100
        for server in mesh.values():
            server.delay_s = 0.01
            server.pool.set_limit(100)
        await paced(loop, callers, 5, 0.002)
        for server in mesh.values():
            server.requests.clear()
        await paced(loop, callers, 1, 0.002)
        assert 0.25 <= share(mesh, "c") <= 0.45

    simulate(1, work)


def test_rejections_among_replies_are_tried_elsewhere_within_the_budget() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=100, delay_s=0.01)
        callers = await ready(loop, "ab")
        count = 0

        def moody(request: IncomingRequest) -> None:
            nonlocal count
            count += 1
            if count % 20 == 0:
                mesh["a"].requests.append(request)
                request.fail(OverloadError("full"))
            else:
                mesh["a"].echo(request)

        mesh["a"].work = moody
        await paced(loop, callers, 3, 0.002)
        assert set(callers.kinds()) == {"ok"}
        assert callers.endpoint("a")["breaker_trips"] == 0
        assert len(mesh["a"].requests) > 300

    simulate(1, work)
