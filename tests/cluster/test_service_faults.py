"""A service on the simulated network: endpoints that die, hang, refuse and come back."""

from __future__ import annotations

import asyncio

import pytest
from tests.cluster.services import Callers, answer, ready, registration, servers
from tests.simulation.loop import SimulatedLoop, simulate

from dragoman.balance.policies import POLICIES
from dragoman.errors import (
    Code,
    DeadlineError,
    DragomanError,
    LinkLost,
    OverloadError,
    RemoteError,
    UnavailableError,
)
from dragoman.rpc.adapters import IncomingRequest


def test_endpoints_that_cannot_be_reached_fail_requests_at_once_and_come_back() -> None:
    async def work(loop: SimulatedLoop) -> None:
        callers = Callers(loop)
        callers.service.update([registration("a")])
        callers.submit(0)
        await asyncio.sleep(0.1)
        assert str(callers.error(0)) == (
            "no provider of this service can be reached: a:1: Connection refused"
        )
        callers.submit(1)
        assert isinstance(callers.error(1), UnavailableError)
        assert callers.endpoint("a")["reason"] == "Connection refused"
        servers(loop, "a")
        # The backoff is at most 5 s; the registry's next word hurries it.
        callers.service.update([registration("a")])
        await asyncio.sleep(0.1)
        callers.submit(2)
        await asyncio.sleep(0.1)
        assert callers.end(2) == b"2"

    simulate(1, work)


@pytest.mark.parametrize("policy", POLICIES)
def test_when_an_endpoint_dies_the_others_take_over(policy: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=10)
        callers = await ready(loop, "abc", policy=policy)
        number = 0

        async def load(seconds: float) -> None:
            nonlocal number
            until_s = loop.time() + seconds
            while loop.time() < until_s:
                callers.submit(number)
                number += 1
                await asyncio.sleep(0.003)

        await load(0.5)
        in_flight = mesh["b"].handler.in_progress
        loop.network.refuse("b", 1)
        for connection in loop.network.connections:
            if connection.to[0] == "b":
                connection.reset()
        await load(0.5)
        await asyncio.sleep(1)
        kinds = callers.kinds()
        assert set(kinds) <= {"ok", "LinkLost"}
        # At most what was in flight there, and what had just been written.
        assert kinds["LinkLost"] <= in_flight + 2
        assert kinds["ok"] == number - kinds["LinkLost"]
        assert callers.endpoint("b")["state"] == "down"

    for seed in range(3):
        simulate(seed, work)


def test_what_was_never_sent_is_sent_elsewhere() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "ab")
        callers = await ready(loop, "ab")
        for number in range(10):
            callers.submit(number)
        # Nothing has left yet: the turn has not ended.
        (broken,) = [c for c in loop.network.connections if c.to[0] == "a"]
        broken.reset()
        await asyncio.sleep(1)
        assert callers.kinds() == {"ok": 10}
        assert callers.service.retried > 0

    simulate(1, work)


def test_refusals_are_tried_elsewhere_within_the_budget() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=500)
        callers = await ready(loop, "ab")
        answer(mesh["a"], OverloadError("not now"))
        answer(mesh["b"], OverloadError("not now either"))
        for number in range(400):
            callers.submit(number)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert callers.kinds() == {"OverloadError": 400}
        tries = len(mesh["a"].requests) + len(mesh["b"].requests)
        # A tenth of the requests, the reserve of 20, and the first, when b was not known to refuse.
        assert 400 + 40 <= tries <= 400 + 40 + 20 + 1
        mesh["b"].work = mesh["b"].echo
        await asyncio.sleep(1)
        # With one that works the budget saves a tenth of all requests.
        before = callers.service.retried
        for number in range(1000, 1200):
            callers.submit(number)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert callers.service.retried - before >= 18

    simulate(1, work)


def test_what_one_refuses_while_another_has_room_always_goes_there() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=500)
        callers = await ready(loop, "ab")
        answer(mesh["a"], OverloadError("not now"))
        for number in range(400):
            callers.submit(number)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert callers.kinds() == {"ok": 400}
        assert len(mesh["a"].requests) > 100

    simulate(1, work)


@pytest.mark.parametrize("error", [RemoteError("it ran"), DeadlineError("late"), ValueError("no")])
def test_what_may_have_run_is_never_tried_again(error: Exception) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab")
        for server in mesh.values():
            answer(server, error)
        callers = await ready(loop, "ab")
        callers.submit(1)
        await asyncio.sleep(1)
        assert isinstance(callers.error(1), DragomanError)
        assert len(mesh["a"].requests) + len(mesh["b"].requests) == 1

    simulate(1, work)


@pytest.mark.parametrize("others", ["", "b"])
def test_a_hung_provider_is_set_aside_within_a_second_and_back_within_one(others: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a" + others, limit=200)
        callers = await ready(loop, "a" + others)
        number = 0

        async def load(seconds: float) -> None:
            nonlocal number
            until_s = loop.time() + seconds
            while loop.time() < until_s:
                callers.submit(number, timeout_ms=2000)
                number += 1
                await asyncio.sleep(0.005)

        await load(1)
        hung: list[IncomingRequest] = []
        mesh["a"].work = hung.append
        await load(1)
        assert callers.endpoint("a")["breaker_open"]
        at_ejection = len(hung)
        await load(2)
        # Only probes go there now: at most one each pause.
        assert len(hung) - at_ejection <= 6
        mesh["a"].work = mesh["a"].echo
        for request in hung:
            if not request.answered:
                request.reply(b"late")
        await load(1.1)
        assert not callers.endpoint("a")["breaker_open"]
        before = len(mesh["a"].requests)
        await load(0.5)
        assert len(mesh["a"].requests) - before > 20
        await asyncio.sleep(3)
        kinds = callers.kinds()
        assert set(kinds) <= {"ok", "DeadlineError", "UnavailableError"}
        if others:
            # The other one took everything; only what hung there was late.
            assert kinds["UnavailableError"] == 0
            assert kinds["ok"] >= number - len(hung)
        for server in mesh.values():
            assert server.pool.statistics()["in_use"] == 0

    for seed in range(3):
        simulate(seed, work)


def test_one_slow_call_does_not_set_its_provider_aside() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=200)
        callers = await ready(loop, "a")
        for number in range(50):
            callers.submit(number)
            await asyncio.sleep(0.06)
        slow: list[IncomingRequest] = []
        mesh["a"].work = slow.append
        callers.submit(100, timeout_ms=60_000)
        await asyncio.sleep(0.01)
        mesh["a"].work = mesh["a"].echo
        for number in range(101, 121):
            await asyncio.sleep(0.2)
            # Far apart, so that the slow one is all there is for most of the time.
            callers.submit(number)
            await asyncio.sleep(0.6)
            assert callers.end(number) == b"%d" % number
        slow[0].reply(b"slow")
        await asyncio.sleep(0.1)
        assert callers.end(100) == b"slow"

    simulate(1, work)


def test_who_waits_is_told_when_the_last_endpoint_goes() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", limit=1, delay_s=0.5)
        callers = await ready(loop, "a")
        for number in range(5):
            callers.submit(number)
        await asyncio.sleep(0.1)
        callers.service.update([])
        # Those who waited know at once; the one in flight ends in peace.
        assert all(isinstance(callers.error(number), UnavailableError) for number in range(1, 5))
        await asyncio.sleep(1)
        assert callers.end(0) == b"0"

    simulate(1, work)


def test_when_all_are_dead_requests_fail_at_once_without_a_storm() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "abc", limit=10)
        callers = await ready(loop, "abc")
        for host in "abc":
            loop.network.refuse(host, 1)
        for connection in loop.network.connections:
            connection.reset()
        started_s = loop.time()
        for number in range(200):
            callers.submit(number)
        await asyncio.sleep(0.01)
        assert callers.kinds() == {"UnavailableError": 200}
        assert max(callers.ended_s.values()) - started_s <= 0.01
        attempts = sum(e.link.attempts for e in callers.service.endpoints.values())
        await asyncio.sleep(60)
        # Reconnecting backs off to five seconds.
        assert sum(e.link.attempts for e in callers.service.endpoints.values()) - attempts <= 3 * 30

    simulate(1, work)


def test_a_rolling_restart_fails_nothing() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abc", limit=20)
        callers = await ready(loop, "abc")
        number = 0

        async def load(seconds: float) -> None:
            nonlocal number
            until_s = loop.time() + seconds
            while loop.time() < until_s:
                callers.submit(number)
                number += 1
                await asyncio.sleep(0.005)

        for _ in range(3):
            for host, server in mesh.items():
                # As an agent drains: no new connection, goodbye, then a new process.
                loop.network.refuse(host, 1)
                for session in list(server.sessions):
                    session.goodbye()
                await load(0.3)
                assert not server.sessions
                server.assert_quiet()
                loop.network.listen(host, 1, server.session)
                callers.service.update([registration(h) for h in "abc"])
                await load(0.3)
                assert len(server.sessions) == 1
        await asyncio.sleep(1)
        assert callers.kinds() == {"ok": number}

    for seed in range(3):
        simulate(seed, work)


def test_a_provider_that_breaks_the_protocol_is_left_for_the_others() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab")
        callers = await ready(loop, "ab")
        answer(mesh["a"])
        for number in range(6):
            callers.submit(number)
        await asyncio.sleep(0.02)
        (connection,) = [c for c in loop.network.connections if c.to[0] == "a"]
        loop.network.refuse("a", 1)
        connection.server.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.sleep(0.2)
        broken = [n for n in range(6) if isinstance(callers.end(n), DragomanError)]
        assert len(broken) == 3
        assert all(callers.error(n).code is Code.UPSTREAM_PROTOCOL for n in broken)
        for number in range(10, 20):
            callers.submit(number)
        await asyncio.sleep(0.2)
        assert all(callers.end(n) == b"%d" % n for n in range(10, 20))
        assert LinkLost is not None

    simulate(1, work)
