"""A service on the simulated network: endpoints that die, hang, refuse and come back."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.balance.policies import POLICIES
from dragoman.errors import (
    Code,
    DeadlineError,
    DragomanError,
    LinkLostError,
    NotFoundError,
    OverloadError,
    RemoteError,
    UnavailableError,
)
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Server
from dragoman.testing.sessions import IncomingRequest
from tests.cluster.services import Callers, answer, ready, registration, servers


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
        assert set(kinds) <= {"ok", "LinkLostError"}
        # At most what was in flight there, and what had just been written.
        assert kinds["LinkLostError"] <= in_flight + 2
        assert kinds["ok"] == number - kinds["LinkLostError"]
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
        # A tenth of the requests, and the reserve of 20; set aside, both get single calls.
        assert tries <= 400 + 40 + 20
        assert callers.endpoint("a")["breaker_open"] and callers.endpoint("b")["breaker_open"]
        assert str(callers.error(399)).endswith((": not now", ": not now either"))
        mesh["b"].work = mesh["b"].echo
        await asyncio.sleep(1)
        # With one that works the budget saves what the other rejects when it is probed.
        for number in range(1000, 1200):
            callers.submit(number)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert all(callers.end(number) == b"%d" % number for number in range(1010, 1200))

    simulate(1, work)


def test_what_one_refuses_goes_elsewhere_until_it_is_set_aside() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=500)
        callers = await ready(loop, "ab")
        answer(mesh["a"], OverloadError("not now"))
        for number in range(400):
            callers.submit(number)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        assert callers.kinds() == {"ok": 400}
        assert 1 <= len(mesh["a"].requests) <= 40

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


async def warm(callers: Callers) -> None:
    """Calls that are answered, so that what is usual is known."""
    for number in range(20):
        callers.submit(number)
        await asyncio.sleep(0.06)


def slow_ones(callers: Callers, mesh: dict[str, Server], numbers: range) -> list[IncomingRequest]:
    """Calls that are not answered, at the only server."""
    slow: list[IncomingRequest] = []
    mesh["a"].work = slow.append
    for number in numbers:
        callers.submit(number, timeout_ms=60_000)
    return slow


def test_one_slow_call_keeps_nobody_out_and_waiting() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=200)
        callers = await ready(loop, "a")
        await warm(callers)
        slow = slow_ones(callers, mesh, range(100, 101))
        await asyncio.sleep(0.01)
        mesh["a"].work = mesh["a"].echo
        number = 101
        for pause_s in (0.3, 0.6, 0.7, 1.5, 5.0, 12.0):
            await asyncio.sleep(pause_s)
            # Several at once: none is a probe for which others wait.
            for _ in range(5):
                callers.submit(number)
                number += 1
            await asyncio.sleep(0.06)
        assert all(callers.end(n) == b"%d" % n for n in range(101, number))
        assert callers.endpoint("a")["breaker_trips"] == 0
        slow[0].reply(b"slow")
        await asyncio.sleep(0.1)
        assert callers.end(100) == b"slow"

    simulate(1, work)


def test_late_calls_make_the_next_a_probe_and_once_known_to_be_slow_count_no_more() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=200)
        callers = await ready(loop, "a")
        await warm(callers)
        slow_ones(callers, mesh, range(100, 103))
        await asyncio.sleep(0.65)
        mesh["a"].work = mesh["a"].echo
        assert callers.endpoint("a")["state"] == "set aside"
        began_s = loop.time()
        for number in range(110, 115):
            callers.submit(number)
        await asyncio.sleep(0.3)
        # One goes, and its answer lets the others go.
        assert all(callers.end(n) == b"%d" % n for n in range(110, 115))
        assert callers.ended_s[114] - began_s <= 0.15
        for number in range(120, 130):
            await asyncio.sleep(1.7)
            callers.submit(number)
        await asyncio.sleep(0.1)
        assert all(callers.end(n) == b"%d" % n for n in range(120, 130))
        assert callers.endpoint("a")["breaker_trips"] == 1

    simulate(1, work)


def test_one_late_call_on_a_connection_that_is_silent_too_sets_its_provider_aside() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=200)
        callers = await ready(loop, "ab", policy="round-robin")
        await warm(callers)
        slow_ones(callers, mesh, range(100, 102))
        # Nothing of what is sent to it arrives any more, heartbeats neither.
        (connection,) = [c for c in loop.network.connections if c.to[0] == "a"]
        connection.server.pause_reading()
        await asyncio.sleep(0.9)
        assert callers.endpoint("a")["state"] == "set aside"
        for number in range(110, 120):
            callers.submit(number)
        await asyncio.sleep(0.1)
        # One is a probe.
        assert sum(callers.ends[n] == [b"%d" % n] for n in range(110, 120)) >= 9

    simulate(1, work)


@pytest.mark.parametrize("error", [RemoteError("no"), NotFoundError("no such method")])
def test_a_probe_answered_by_whatever_error_of_the_callee_brings_it_back(error: Exception) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=200)
        callers = await ready(loop, "a")
        await warm(callers)
        slow_ones(callers, mesh, range(100, 103))
        await asyncio.sleep(2)
        assert callers.endpoint("a")["state"] == "set aside"
        answer(mesh["a"], error)
        for number in range(110, 210):
            callers.submit(number)
            await asyncio.sleep(0.05)
        kinds = [type(callers.error(n)) for n in range(110, 210)]
        # Those before the probe's turn came, and none after.
        first = kinds.index(type(error))
        assert first <= 25
        assert set(kinds[first:]) == {type(error)}
        assert callers.endpoint("a")["state"] == "ready"

    simulate(1, work)


def test_a_method_that_is_always_late_does_not_take_its_provider_from_the_others() -> None:
    """Three callers with short deadlines put a slow method to it again and again."""

    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "a", limit=200)
        callers = await ready(loop, "a")
        await warm(callers)

        def by_method(request: IncomingRequest) -> None:
            mesh["a"].requests.append(request)
            after_s = 2.0 if request.body.startswith(b"slow") else 0.05
            loop.call_later(after_s, lambda: None if request.answered else request.reply(b"7"))

        mesh["a"].work = by_method
        for i in range(100):
            for k in range(3):
                callers.submit(1000 + 3 * i + k, b"slow", timeout_ms=250)
            for k in range(2):
                callers.submit(100 + 2 * i + k)
                await asyncio.sleep(0.15)
        await asyncio.sleep(3)
        assert all(callers.end(n) == b"7" for n in range(100, 300))
        assert callers.endpoint("a")["breaker_trips"] == 0

    simulate(1, work)


def test_counts_add_up_and_an_average_begins_with_the_first_reply() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=2)
        callers = await ready(loop, "ab", policy="round-robin")
        assert callers.endpoint("a")["latency_ms"] is None
        mesh["b"].work = lambda request: request.fail(RemoteError("no"))
        callers.submit(0)
        callers.submit(1)
        await asyncio.sleep(0.2)
        assert callers.endpoint("a")["latency_ms"] >= 50
        answer(mesh["a"])
        for number in range(10, 20):
            callers.submit(number, timeout_ms=500 if number < 15 else 60_000)
        flying = [callers.submit(number) for number in range(20, 24)]
        for _ in range(2):
            await asyncio.sleep(0.3)
            flying.pop().cancel()
            flying.pop().cancel()
            status = callers.service.status()
            sums = ("replies", "failures", "withdrawn", "one_way", "inflight")
            assert status["requests"] == status["waiting"] + sum(status[each] for each in sums)
            for host in "ab":
                endpoint = callers.endpoint(host)
                assert endpoint["requests"] == sum(endpoint[each] for each in sums)

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
        assert LinkLostError is not None

    simulate(1, work)
