"""One server that is listed for many services: one connection, one health, shared credits."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from dragoman.cluster.directory import IDLE_SHOWN_MAX, Directory
from dragoman.cluster.options import Options
from dragoman.errors import LinkLostError, UnavailableError
from dragoman.registry.registration import Registration
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.sessions import IncomingRequest
from tests.cluster.services import Callers, answer, registration, servers


def many(count: int, host: str = "a") -> list[Registration]:
    """Registrations of so many services at one address."""
    return [registration(host, interface=f"s.S{number}") for number in range(count)]


def callers_of(loop: SimulatedLoop, count: int, hosts: str = "a", **settings: Any) -> list[Callers]:
    """So many services, all at the same servers."""
    options = Options(seed=loop.seed, **settings)
    made = [Callers(loop, f"s.S{number}", options=options) for number in range(count)]
    for each in made:
        each.service.update([registration(host) for host in hosts])
    return made


def test_a_thousand_services_of_one_address_have_one_connection() -> None:
    async def work(loop: SimulatedLoop) -> None:
        (server,) = servers(loop, "a", limit=50).values()
        directory = Directory(loop, Options(seed=1))
        directory.update(many(1000))
        await asyncio.sleep(0.1)
        assert len(loop.network.connections) == 1
        assert {
            endpoint["state"] for each in await directory.status() for endpoint in each["endpoints"]
        } == {"ready"}
        # A service that comes later uses it too, at once.
        directory.update(many(1001))
        late = Callers(loop, "s.S1000")
        late.service = directory.find("s.S1000")
        late.submit(0)
        await asyncio.sleep(0.1)
        assert late.end(0) == b"0"
        assert len(loop.network.connections) == 1
        # With the last service the connection goes, not before.
        directory.update(many(1))
        await asyncio.sleep(0.1)
        assert len(server.sessions) == 1
        directory.update([])
        await asyncio.sleep(0.1)
        assert not server.sessions

    simulate(1, work)


def test_pages_show_what_is_asked_for_and_some_of_what_could_be() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", limit=50)
        directory = Directory(loop, Options(seed=1))
        directory.update(many(1000))
        await asyncio.sleep(0.1)
        last = Callers(loop, "s.S999")
        last.service = directory.find("s.S999")
        last.submit(0)
        await asyncio.sleep(0.1)
        shown = await directory.status()
        assert shown[0]["service"] == "s.S999"
        assert len(shown) == 1 + IDLE_SHOWN_MAX
        # Those that are served come before those that are not.
        dead = [registration("b", interface=f"d.D{number}") for number in range(300)]
        directory.update([*dead, *many(5), registration("a", interface="s.S999")])
        await asyncio.sleep(0.1)
        names = [each["service"] for each in await directory.status()]
        assert set(names[:6]) == {"s.S999", *(f"s.S{n}" for n in range(5))}

    simulate(1, work)


def test_a_dead_address_is_tried_once_for_all_its_services(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(loop: SimulatedLoop) -> None:
        tried = 0
        connect = loop.network.connect

        async def counted(*arguments: Any) -> Any:
            nonlocal tried
            tried += 1
            return await connect(*arguments)

        loop.network.connect = counted  # type: ignore[assignment,method-assign]
        directory = Directory(loop, Options(seed=1))
        with caplog.at_level(logging.INFO):
            directory.update(many(1000))
            await asyncio.sleep(60)
        # 50 ms, doubling to 5 s.
        assert 10 <= tried <= 40
        assert len([each for each in caplog.records if "is down" in each.getMessage()]) == 1
        callers = Callers(loop, "s.S7")
        callers.service = directory.find("s.S7")
        callers.submit(0)
        assert isinstance(callers.error(0), UnavailableError)
        # All of them come back with it.
        servers(loop, "a")
        await asyncio.sleep(6)
        callers.submit(1)
        await asyncio.sleep(0.1)
        assert callers.end(1) == b"1"
        assert all(each["endpoints"][0]["state"] == "ready" for each in await directory.status())
        assert all(each["served"] for each in await directory.status())
        directory.update([])
        assert not any(each["served"] for each in await directory.status())

    simulate(1, work)


def test_services_share_the_credits_of_a_server_in_turn() -> None:
    async def work(loop: SimulatedLoop) -> None:
        (server,) = servers(loop, "a", limit=10, delay_s=0.01).values()
        greedy, modest, late = callers_of(loop, 3, queue_max=100_000)
        await asyncio.sleep(0.1)
        for number in range(2000):
            greedy.submit(number, timeout_ms=60_000)
        for number in range(20):
            modest.submit(number)
        await asyncio.sleep(0.05)
        late.submit(0)
        await asyncio.sleep(0.1)
        # Nobody waits for all that the greedy one has in line.
        assert modest.kinds() == {"ok": 20}
        assert late.end(0) == b"0"
        assert server.most_in_progress == 10
        await asyncio.sleep(3)
        assert greedy.kinds() == {"ok": 2000}
        server.assert_quiet()

    simulate(1, work)


class Endless(dict[int, list[Any]]):
    """Ends of calls, each of which is the beginning of the next one."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__()
        self.begin = begin

    def setdefault(self, number: int, default: Any = None) -> list[Any]:
        ends = self[number] = Ends(self.begin)
        return ends


class Ends(list[Any]):
    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__()
        self.begin = begin

    def append(self, end: Any) -> None:
        super().append(end)
        self.begin()


def test_who_calls_again_on_each_reply_does_not_starve_the_others() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", limit=4, delay_s=0.01)
        busy, other = callers_of(loop, 2, queue_max=100_000)
        await asyncio.sleep(0.1)
        numbers = itertools.count()
        until_s = loop.time() + 2

        def begin() -> None:
            if loop.time() < until_s:
                busy.submit(next(numbers))

        busy.ends = Endless(begin)
        for _ in range(8):
            begin()
        await asyncio.sleep(0.1)
        for number in range(10):
            other.submit(number)
        await asyncio.sleep(0.2)
        assert other.kinds() == {"ok": 10}
        await asyncio.sleep(3)
        assert set(busy.kinds()) == {"ok"}

    simulate(1, work)


def test_what_a_server_does_not_serve_is_not_held_against_its_other_services() -> None:
    async def work(loop: SimulatedLoop) -> None:
        (server,) = servers(loop, "a", limit=10).values()
        absent, present = callers_of(loop, 2)
        await asyncio.sleep(0.1)

        def some(request: IncomingRequest) -> None:
            if request.body == b"absent":
                request.fail(UnavailableError("not exported here", retry_safe=True))
            else:
                server.echo(request)

        server.work = some
        for number in range(20):
            absent.submit(number, b"absent")
            present.submit(number)
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert absent.kinds() == {"UnavailableError": 20}
        assert present.kinds() == {"ok": 20}

    simulate(1, work)


def test_a_server_that_has_fallen_silent_is_known_to_all_its_services() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=100)
        one, other = callers_of(loop, 2, "ab")
        await asyncio.sleep(0.1)
        for number in range(10):
            one.submit(number)
        await asyncio.sleep(0.5)
        answer(mesh["a"])
        for number in range(10, 20):
            one.submit(number)
        await asyncio.sleep(2)
        assert other.endpoint("a")["breaker_open"]
        for number in range(100):
            other.submit(number, timeout_ms=300)
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        # All but a probe.
        assert other.kinds()["ok"] >= 98

    simulate(1, work)


def test_who_leaves_takes_nothing_from_the_others() -> None:
    async def work(loop: SimulatedLoop) -> None:
        (server,) = servers(loop, "a", limit=10, delay_s=0.2).values()
        going, staying = callers_of(loop, 2)
        await asyncio.sleep(0.1)
        for number in range(15):
            going.submit(number)
        for number in range(3):
            staying.submit(number)
        await going.service.close()
        going.service.abort()
        assert all(isinstance(going.error(number), LinkLostError) for number in range(10))
        assert going.kinds() == {"LinkLostError": 10, "UnavailableError": 5}
        assert going.service.calls == 0
        await asyncio.sleep(1)
        assert staying.kinds() == {"ok": 3}
        assert staying.endpoint("a")["failures"] == 0
        assert len(loop.network.connections) == 1
        server.assert_quiet()

    simulate(1, work)


def test_a_call_costs_the_same_with_a_thousand_services_at_its_server() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "ab", limit=100, delay_s=0.001)
        (alone,) = callers_of(loop, 1, "a")
        crowd = callers_of(loop, 1000, "b")
        await asyncio.sleep(0.1)

        async def cost_s(callers: Callers) -> float:
            started_s = time.process_time()
            for number in range(300):
                callers.submit(number)
                await asyncio.sleep(0.001)
            return time.process_time() - started_s

        # The least of several is what it costs; the rest is the machine's.
        alone_s, crowd_s = [], []
        for _ in range(5):
            alone_s.append(await cost_s(alone))
            alone.ends.clear()
            crowd_s.append(await cost_s(crowd[500]))
            crowd[500].ends.clear()
        assert min(crowd_s) <= 1.5 * min(alone_s)

    simulate(1, work)
