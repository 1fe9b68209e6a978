"""Many addresses, most of them dead: a budget of attempts, and who comes first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dragoman.cluster.dialing import BURSTS, DEAD, NEW, RATES
from dragoman.cluster.directory import EMPTY_MAX, EMPTY_S, Directory
from dragoman.cluster.options import Options
from dragoman.errors import NotFoundError, UnavailableError
from dragoman.registry.registration import Registration
from dragoman.testing import SimulatedLoop, simulate
from tests.cluster.services import Callers, registration, servers


def dead(count: int) -> list[Registration]:
    """So many services, each at a dead address of its own."""
    return [registration(f"dead{n}", interface=f"d.D{n}") for n in range(count)]


def attempts_of(loop: SimulatedLoop) -> Counter[str]:
    """Counts the attempts to connect to each host from now on."""
    tried: Counter[str] = Counter()
    connect = loop.network.connect

    async def counted(factory: Any, host: str, port: int) -> Any:
        tried[host] += 1
        return await connect(factory, host, port)

    loop.network.connect = counted  # type: ignore[assignment,method-assign]
    return tried


def test_dead_addresses_are_tried_within_a_budget() -> None:
    async def work(loop: SimulatedLoop) -> None:
        tried = attempts_of(loop)
        directory = Directory(loop, Options())
        directory.update(dead(3000))
        await asyncio.sleep(1)
        assert tried.total() <= BURSTS[NEW] + RATES[NEW] + BURSTS[DEAD] + RATES[DEAD] + 10
        await asyncio.sleep(29)
        # Each had its turn, and then they share what is left.
        assert len(tried) == 3000
        before = tried.total()
        await asyncio.sleep(30)
        assert RATES[DEAD] * 30 * 0.5 <= tried.total() - before <= RATES[DEAD] * 30 + BURSTS[DEAD]
        # However often the registry repeats itself.
        before = tried.total()
        listed = dead(3000)
        for _ in range(100):
            directory.update(listed)
            await asyncio.sleep(0.1)
        # The first time it was new.
        assert tried.total() - before <= 3000 + (RATES[NEW] + RATES[DEAD]) * 10
        directory.update([])
        await asyncio.sleep(1)
        before = tried.total()
        await asyncio.sleep(10)
        assert tried.total() == before

    simulate(1, work)


def test_a_good_server_comes_back_at_once_beside_thousands_of_dead_ones() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a")
        directory = Directory(loop, Options())
        directory.update([registration("a", interface="g.G")])
        await asyncio.sleep(0.1)
        directory.update([registration("a", interface="g.G"), *dead(5000)])
        await asyncio.sleep(0.5)
        for connection in loop.network.connections:
            connection.reset()
        await asyncio.sleep(0.3)
        assert directory.find("g.G").serving

    simulate(1, work)


def test_a_server_that_calls_wait_for_is_connected_to_before_others() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a")
        directory = Directory(loop, Options())
        directory.update([*dead(5000), registration("a", interface="z.Z")])
        callers = Callers(loop, "z.Z")
        callers.service = directory.find("z.Z")
        callers.submit(0)
        await asyncio.sleep(0.3)
        assert callers.end(0) == b"0"

    simulate(1, work)


def test_services_without_endpoints_are_forgotten() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers(loop, "a", delay_s=EMPTY_S * 2)
        directory = Directory(loop, Options())
        good = registration("a", interface="g.G")
        directory.update([good, *dead(EMPTY_MAX * 3)])
        callers = Callers(loop, "g.G")
        callers.service = directory.find("g.G")
        await asyncio.sleep(0.1)
        callers.submit(0, timeout_ms=300_000)
        directory.update([])
        # Who asks a moment later hears that nobody serves it now.
        late = Callers(loop, "d.D5")
        late.service = directory.find("d.D5")
        late.submit(0)
        assert isinstance(late.error(0), UnavailableError)
        await asyncio.sleep(10)
        assert len(directory.services) <= EMPTY_MAX
        await asyncio.sleep(EMPTY_S)
        # But for the one that has a call under way.
        assert list(directory.services) == [b"g.G"]
        await asyncio.sleep(EMPTY_S * 3)
        assert callers.end(0) == b"0"
        assert not directory.services
        directory.update([good])
        assert directory.find("g.G")

    simulate(1, work)


@pytest.mark.parametrize("interface", ["*", "g.G:1.0", "**"])
def test_no_name_in_a_registry_stands_for_other_services(interface: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        directory = Directory(loop, Options())
        directory.update([registration("a", interface=interface)])
        for asked in (("x.X", "", ""), ("g.G", "", "1.0"), ("*", "", "")):
            with pytest.raises(NotFoundError):
                directory.find(*asked)

    simulate(1, work)


def test_static_endpoints_may_serve_whatever_is_asked_for() -> None:
    async def work(loop: SimulatedLoop) -> None:
        directory = Directory(loop, Options(), catch_all=True)
        directory.update([registration("a", interface="*")])
        assert directory.find("x.X").name == "*"

    simulate(1, work)
