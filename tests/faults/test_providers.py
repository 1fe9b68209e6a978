"""Three providers under load: one hangs, dies, comes back; all die. Who is in flight may fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.faults.chain import Pair, Program, start
from tests.faults.conftest import Mesh
from tests.faults.http import client, form
from tests.faults.load import Load, load
from tests.load_factor import load_factor
from tests.waiting import until

GROUP = "trio"
LIMIT = 30
CALLERS = 45  # two of three providers suffice


class Trio:
    """Three providers of LIMIT places and 20 ms, and a consumer agent with deadlines of 1 s."""

    def __init__(self, mesh: Mesh) -> None:
        chain = mesh.chain
        provider = ("--delay-ms", "20", "--limit", str(LIMIT))
        agent = ("--group", GROUP, "--limit", str(LIMIT), "--lease-ttl-s", "2")
        self.mesh = mesh
        self.pairs: list[Pair] = [chain.pair(f"trio{i}", provider, agent) for i in range(3)]
        self.consumer: Program = chain.consumer_agent("trio-consumer", "--timeout-ms", "1000")

    async def start(self) -> None:
        await start(*(each for pair in self.pairs for each in (pair.provider, pair.agent)))
        await self.consumer.start()
        await self.whole()

    async def whole(self, timeout_s: float = 10.0) -> None:
        await self.consumer.settled(3, GROUP, timeout_s)

    def load(self, callers: int = CALLERS) -> AbstractAsyncContextManager[Load]:
        return load(self.consumer.port, callers, f"x-dragoman-group: {GROUP}")

    async def endpoint(self, pair: Pair) -> dict[str, object]:
        for service in await self.consumer.services():
            if service["service"].startswith(f"{GROUP}/"):
                for each in service["endpoints"]:
                    if each["address"] == f"127.0.0.1:{pair.agent.port}":
                        return dict(each)
        return {}


@pytest.fixture(scope="module")
def trio(mesh: Mesh) -> Iterator[Trio]:
    made = Trio(mesh)
    asyncio.run(made.start())
    yield made
    for pair in made.pairs:
        pair.agent.kill()
        pair.provider.kill()
    made.consumer.kill()


def test_a_hung_provider_is_set_aside_and_comes_back(trio: Trio) -> None:
    async def scenario() -> None:
        pair = trio.pairs[0]
        async with trio.load() as callers:
            await callers.answered(200)
            assert not callers.failed
            pair.provider.pause()

            async def aside() -> bool:
                return bool((await trio.endpoint(pair))["breaker_open"])

            try:
                assert await until(aside, 3.0) < 1.2
                sent = (await trio.endpoint(pair))["requests"]
                await asyncio.sleep(1.2)
                # Probes only: one a pause.
                assert int(str((await trio.endpoint(pair))["requests"])) - int(str(sent)) <= 4
                assert set(callers.failed) == {"504 deadline"}
                assert callers.failed.total() <= LIMIT + 4
                before = callers.outcomes["ok"]
                await callers.answered(200, 2.0)
                assert callers.outcomes["ok"] > before
            finally:
                pair.provider.resume()

            async def back() -> bool:
                return not (await trio.endpoint(pair))["breaker_open"]

            assert await until(back, 5.0) < 1.6
            failed = callers.failed.total()
            sent = (await trio.endpoint(pair))["replies"]
            await callers.answered(300)
            assert int(str((await trio.endpoint(pair))["replies"])) > int(str(sent)) + 20
            outcomes = await callers.stop()
            assert outcomes.total() - outcomes["ok"] <= failed + 4
            assert outcomes["wrong"] == outcomes["lost"] == 0
        await trio.whole()

    asyncio.run(scenario())


@pytest.mark.parametrize("part", ["provider", "agent"])
def test_who_was_in_flight_at_the_dead_fails_and_nobody_else(trio: Trio, part: str) -> None:
    async def scenario() -> None:
        pair = trio.pairs[1]
        victim: Program = getattr(pair, part)
        # More callers than places: some always wait.
        async with trio.load(3 * LIMIT + 20) as callers:
            await callers.answered(400)
            assert not callers.failed
            victim.kill()
            killed_s = time.monotonic()
            await callers.answered(400)
            outcomes = dict(callers.failed)
            assert set(outcomes) <= {"502 upstream-lost"}, outcomes
            assert sum(outcomes.values()) <= LIMIT
            assert all(at_s - killed_s < 0.3 * load_factor() for at_s, _ in callers.failures)
            # On the same port it is used again.
            await victim.start()

            async def used() -> bool:
                endpoint = await trio.endpoint(pair)
                return endpoint.get("state") == "ready" and not endpoint["breaker_open"]

            assert await until(used, 8.0) < 2.5
            replies = int(str((await trio.endpoint(pair))["replies"]))
            await callers.answered(600)
            assert int(str((await trio.endpoint(pair))["replies"])) > replies + 50
            await callers.stop()
            assert dict(callers.failed) == outcomes, "only the dead one's"
        await trio.whole()

    asyncio.run(scenario())


def test_all_dead_is_503_at_once(trio: Trio) -> None:
    async def scenario() -> None:
        for pair in trio.pairs:
            pair.provider.kill()
        async with client(trio.consumer.port) as one:
            took_s = []
            for _ in range(30):
                began_s = time.monotonic()
                answer = await one.ask(form("x", f"x-dragoman-group: {GROUP}"))
                took_s.append(time.monotonic() - began_s)
                assert (answer.status, answer.error) == (503, "unavailable")
                assert answer.headers["retry-after"] == "1"
                await asyncio.sleep(0.01)
            assert sorted(took_s)[15] < 0.01 * load_factor()
        requests = sum(
            [await pair.agent.metric("dragoman_provider_requests_total") for pair in trio.pairs]
        )
        async with trio.load(20) as callers:
            await callers.run(0.3)
            await callers.stop()
            assert set(callers.outcomes) == {"503 unavailable"}
            assert callers.outcomes.total() > 100
        more = sum(
            [await pair.agent.metric("dragoman_provider_requests_total") for pair in trio.pairs]
        )
        assert more - requests <= 20, "probes, but no storm"
        for pair in trio.pairs:
            pair.provider.launch()
        await asyncio.gather(*(pair.provider.wait_ready() for pair in trio.pairs))
        async with trio.load() as callers:
            await until(lambda: callers.outcomes["ok"] > 0, 8.0)
            await trio.whole()
            failed = callers.failed.total()
            await callers.answered(300)
            await callers.stop()
            assert callers.failed.total() == failed
        await trio.whole()

    asyncio.run(scenario())


def test_a_provider_agent_told_to_stop_fails_nobody(trio: Trio) -> None:
    async def scenario() -> None:
        pair = trio.pairs[2]
        async with trio.load() as callers:
            await callers.answered(200)
            began_s = time.monotonic()
            assert await pair.agent.stop() == 0
            assert time.monotonic() - began_s < 3.0 * load_factor()
            assert await trio.endpoint(pair) == {}, "it is no longer registered"
            await callers.answered(200)
            await pair.agent.start()
            await trio.whole()
            await callers.answered(200)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_a_rolling_restart_of_all_agents_fails_nobody(trio: Trio) -> None:
    async def scenario() -> None:
        async with trio.load() as callers:
            for pair in trio.pairs:
                await callers.answered(100)
                assert await pair.agent.stop() == 0
                await pair.agent.start()
                await trio.whole()
            await callers.answered(100)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_providers_told_to_stop_fail_nobody(trio: Trio) -> None:
    """The provider says that it is about to stop; its agent sends it nothing more."""

    async def scenario() -> None:
        async with trio.load() as callers:
            for pair in trio.pairs:
                await callers.answered(100)
                assert await pair.provider.stop() == 0
                await pair.provider.start()
                await trio.whole()
            await callers.answered(100)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_another_consumers_agent_that_dies_or_hangs_disturbs_nobody(trio: Trio, how: str) -> None:
    """Its credits are free at once when it dies; while it hangs the others have theirs."""

    async def scenario() -> None:
        other = trio.mesh.chain.consumer_agent(f"other-{how}", "--timeout-ms", "1000")
        await other.start()
        await other.settled(3, GROUP)
        group = f"x-dragoman-group: {GROUP}"
        async with load(other.port, 60, group) as theirs, trio.load(30) as callers:
            await callers.answered(100)
            if how == "killed":
                other.kill()
            else:
                other.pause()
            await callers.answered(300)
            assert set(await callers.stop()) == {"ok"}
            assert callers.slowest_s < 0.7 * load_factor()
            if how == "stopped":
                other.resume()
                await theirs.answered(100)
                assert set(await theirs.stop()) <= {"ok", "504 deadline"}
            theirs.stopping = True
        other.kill()

        async def free() -> bool:
            counts = [
                await pair.agent.metric("dragoman_provider_in_progress") for pair in trio.pairs
            ]
            return sum(counts) == 0

        await until(free)
        await trio.whole()

    asyncio.run(scenario())
