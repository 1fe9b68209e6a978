"""etcd dies, comes back, hangs and forgets under load: no request notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.chain import Chain, Pair, Program, chain, start
from tests.faults.http import client, exchange, form, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

OPTIONS = ("--lease-ttl-s", "2", "--limit", "30")


class Parts:
    """A chain of its own, since its etcd is broken: two providers and a consumer's agent."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.pairs: list[Pair] = [
            chain.pair(name, ("--delay-ms", "20"), OPTIONS) for name in ("one", "two")
        ]
        self.late = chain.provider_agent("late-agent", self.pairs[0].provider, *OPTIONS)
        self.consumer: Program = chain.consumer_agent("consumer")

    async def start_while_etcd_is_away(self) -> None:
        programs = [each for pair in self.pairs for each in (pair.provider, pair.agent)]
        for each in (*programs, self.consumer):
            each.launch()

    async def up(self) -> None:
        """Whatever earlier tests have left: all of it runs."""
        if self.chain.etcd.pid is None:
            await self.chain.etcd.start()
        programs = [each for pair in self.pairs for each in (pair.provider, pair.agent)]
        await start(*(each for each in (*programs, self.late, self.consumer) if not each.runs))
        await self.consumer.settled(3)

    async def registered(self, program: Program) -> bool:
        services = await self.consumer.services()
        addresses = [each["address"] for service in services for each in service["endpoints"]]
        return f"127.0.0.1:{program.port}" in addresses


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with chain(tmp_path_factory.mktemp("outages")) as made:
        yield Parts(made)


async def status_of(program: Program) -> tuple[int, str]:
    async with client(program.port) as one:
        answer = await one.ask(form("x"))
        return answer.status, answer.error


def test_agents_that_start_before_etcd_wait_for_it(parts: Parts) -> None:
    """They say why they are not ready, turn requests away at once, and find each other later."""

    async def scenario() -> None:
        await parts.start_while_etcd_is_away()
        agents = [parts.consumer, *(pair.agent for pair in parts.pairs)]

        async def up(agent: Program) -> bool:
            try:
                return bool((await agent.status())["workers"])
            except OSError:
                return False

        for agent in agents:
            await until(lambda agent=agent: up(agent), 20.0)
        await asyncio.sleep(0.3)
        for agent in agents:
            assert agent.returncode is None
            ready = await exchange(agent.admin, "GET", "/readyz")
            assert ready.status == 503 and b"regist" in ready.body, ready
        assert await status_of(parts.consumer) == (503, "unavailable")
        await parts.chain.etcd.start()
        await asyncio.gather(*(agent.wait_ready() for agent in agents))
        await parts.consumer.settled(2)
        async with client(parts.consumer.port) as one:
            assert is_hash(await one.ask(form("x")), "x")

    asyncio.run(scenario())


def test_etcd_killed_and_started_again_fails_nobody(parts: Parts) -> None:
    """Down for longer than the leases live; an agent that starts meanwhile is used afterwards."""

    async def scenario() -> None:
        async with load(parts.consumer.port, 30) as callers:
            await callers.answered(100)
            parts.chain.etcd.kill()
            parts.late.launch()
            await asyncio.sleep(2.5)
            await parts.consumer.settled(2)
            assert not callers.failed
            await parts.chain.etcd.start()
            assert await until(lambda: parts.registered(parts.late), 10.0) < 4.0
            await parts.late.wait_ready()
            await parts.consumer.settled(3)
            await callers.answered(200)
            # Longer than the leases that were lost would have lived.
            await asyncio.sleep(1.0)
            await parts.consumer.settled(3)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_agent_killed_is_forgotten_within_its_lease(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.up()
        parts.late.kill()

        async def forgotten() -> bool:
            return not await parts.registered(parts.late)

        # The lease runs out within TTL + 2 s, and the entry is served for a grace of 3 s more.
        assert await until(forgotten, 10.0) < 7.0
        await parts.consumer.settled(2)
        await parts.late.start()

    asyncio.run(scenario())


def test_etcd_that_hangs_or_forgets_everything_fails_nobody(parts: Parts) -> None:
    async def scenario() -> None:
        etcd = parts.chain.etcd
        async with load(parts.consumer.port, 30) as callers:
            etcd.pause()
            await asyncio.sleep(1.0)
            etcd.resume()
            await callers.answered(50)
            etcd.kill()
            etcd.wipe()
            await etcd.start()
            await asyncio.sleep(0.2)
            await callers.answered(100)
            await parts.consumer.settled(3)
            # They are really there again, not only remembered: a newcomer finds them.
            newcomer = parts.chain.consumer_agent("newcomer")
            await newcomer.start()
            await newcomer.settled(3)
            await newcomer.stop()
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_a_provider_agent_told_to_stop_while_etcd_is_away_fails_nobody(parts: Parts) -> None:
    """It cannot unregister: its goodbye must do."""

    async def scenario() -> None:
        pair = parts.pairs[0]
        async with load(parts.consumer.port, 20) as callers:
            await callers.answered(100)
            parts.chain.etcd.kill()
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            assert await pair.agent.stop() == 0
            assert loop.time() - began_s < 6.0 * load_factor()
            await callers.answered(100)
            pair.agent.launch()

            async def all_three() -> bool:
                services = await parts.consumer.services()
                return [each["state"] for each in services[0]["endpoints"]] == ["ready"] * 3

            await until(all_three, 10.0)
            await callers.answered(100)
            await parts.chain.etcd.start()
            await pair.agent.wait_ready()
            await parts.consumer.settled(3)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


@pytest.mark.slow
def test_etcd_away_for_a_minute_fails_nobody_and_all_meet_again_soon(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.up()
        parts.late.kill()
        async with load(parts.consumer.port, 30) as callers:
            parts.chain.etcd.kill()
            await asyncio.sleep(60)
            await parts.chain.etcd.start()
            parts.late.launch()
            await until(lambda: parts.registered(parts.late), 10.0)
            await parts.consumer.settled(3)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())
