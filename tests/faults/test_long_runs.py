"""The longer variants: many restarts, many deaths, many slow clients."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.faults.chain import Chain, Pair, Program, chain, start
from tests.faults.http import client, form, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIMIT = 30
ROLLING_ROUNDS = 20
DEATHS = 40
SLOW_CLIENTS = 8000
SLOW_CLIENT_KIB = 16


@dataclass(frozen=True)
class Parts:
    """Three providers of LIMIT places, their agents and a consumer's agent."""

    chain: Chain
    pairs: list[Pair]
    consumer: Program


@pytest.fixture
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with chain(tmp_path_factory.mktemp("long")) as made:
        provider = ("--delay-ms", "20", "--limit", str(LIMIT))
        agent = ("--limit", str(LIMIT), "--lease-ttl-s", "2")
        pairs = [made.pair(f"long{i}", provider, agent) for i in range(3)]
        consumer = made.consumer_agent("consumer", "--timeout-ms", "2000")

        async def begin() -> None:
            await made.etcd.start()
            programs = [each for pair in pairs for each in (pair.provider, pair.agent)]
            await start(consumer, *programs)
            await consumer.settled(3)

        asyncio.run(begin())
        yield Parts(made, pairs, consumer)


def test_many_rolling_restarts_fail_nobody(parts: Parts) -> None:
    """Agents and providers in turn, all told to stop."""

    async def scenario() -> None:
        async with load(parts.consumer.port, 45) as callers:
            for i in range(ROLLING_ROUNDS):
                for pair in parts.pairs:
                    program = pair.provider if i % 3 == 2 else pair.agent
                    assert await program.stop() == 0
                    await program.start()
                    await parts.consumer.settled(3)
                assert not callers.failed, f"round {i}"
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_many_deaths_fail_only_what_was_there(parts: Parts) -> None:
    """Each kill -9, of providers, agents and etcd, fails at most the places of the dead one."""
    chosen = random.Random(11)

    async def scenario() -> None:
        async with load(parts.consumer.port, 110) as callers:
            before = 0
            for i in range(DEATHS):
                await callers.answered(100, 20.0)
                pair = chosen.choice(parts.pairs)
                kind = chosen.choice(("provider", "agent", "etcd"))
                if kind == "etcd":
                    parts.chain.etcd.kill()
                    await asyncio.sleep(chosen.random())
                    await parts.chain.etcd.start()
                else:
                    program: Program = getattr(pair, kind)
                    program.kill()
                    await callers.answered(100, 20.0)
                    await program.start()
                await parts.consumer.settled(3, timeout_s=20.0)
                failed = callers.failed.total()
                allowed = 0 if kind == "etcd" else LIMIT
                assert failed - before <= allowed, (i, kind, callers.failed)
                before = failed
            outcomes = await callers.stop()
            assert set(outcomes) <= {"ok", "502 upstream-lost"}
            assert outcomes["ok"] > 1000

    asyncio.run(scenario())


def test_thousands_of_slow_clients_cost_little_each(parts: Parts) -> None:
    """Each has sent half a head; others are served all the while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(SLOW_CLIENTS, hard - 500)
    half = form("x")[:100]

    async def scenario() -> None:
        agent = parts.chain.consumer_agent("crowded", "--header-timeout-ms", "60000")
        await agent.start()
        await agent.settled(3)
        async with client(agent.port) as one:
            assert is_hash(await one.ask(form("warm")), "warm")
        before_kib = agent.resident_kib()
        async with AsyncExitStack() as stack:
            crowd = []
            for _ in range(count):
                each = await stack.enter_async_context(client(agent.port))
                each.send(half)
                crowd.append(each)

            async def arrived() -> bool:
                return await agent.metric("dragoman_http_connections") >= count

            await until(arrived, 30.0)
            each_kib = (agent.resident_kib() - before_kib) / count
            assert each_kib <= SLOW_CLIENT_KIB, f"{each_kib:.1f} KiB for each"
            async with load(agent.port, 10) as callers:
                await callers.run(2.0)
                assert set(await callers.stop()) == {"ok"}
                assert callers.slowest_s < 0.5 * load_factor()
            for each in crowd[::100]:
                each.send(form("x")[100:])
                assert is_hash(await each.response(), "x")
        assert await agent.stop() == 0

    try:
        asyncio.run(scenario())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_minute_of_bad_clients_leaves_nothing_behind(parts: Parts) -> None:
    """Resets, halves, garbage and pipelines beside a healthy load; then all is as before."""
    chosen = random.Random(5)

    async def misbehave() -> None:
        try:
            async with client(parts.consumer.port) as one:
                data = form("x" * chosen.randrange(200)) * chosen.randrange(1, 20)
                kind = chosen.randrange(4)
                if kind == 0:
                    data = data[: chosen.randrange(len(data))]
                elif kind == 1:
                    data = chosen.randbytes(200)
                one.send(data)
                if kind == 2:
                    one.writer.write_eof()
                await asyncio.sleep(chosen.random() * 0.05)
                if kind == 3:
                    one.reset()
        except OSError:
            return

    async def scenario() -> None:
        async def many(seconds: float) -> None:
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                await asyncio.gather(*(misbehave() for _ in range(20)))

        async with load(parts.consumer.port, 10) as callers:
            await many(10)
            before_kib = parts.consumer.resident_kib()
            await many(50)
            assert parts.consumer.resident_kib() - before_kib < 4096
            assert set(await callers.stop()) == {"ok"}

        async def nothing_left() -> bool:
            names = ("dragoman_http_connections", "dragoman_http_in_progress")
            return not any([await parts.consumer.metric(name) for name in names])

        await until(nothing_left, 15.0)
        await parts.consumer.settled(3)

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_minute_of_chaos_leaves_every_account_balanced(parts: Parts, seed: int) -> None:
    """Parts die, hang and come back, several at once, under two consumers' agents. Every request
    ends once, none wrongly; in the end no place and no credit is missing."""
    chosen = random.Random(seed)
    made = parts.chain

    async def trouble(pair: Pair) -> None:
        program: Program = chosen.choice((pair.provider, pair.agent))
        kind = chosen.choice(("kill", "kill", "pause", "stop"))
        if kind == "pause":
            program.pause()
            await asyncio.sleep(chosen.random() * 2)
            program.resume()
            return
        if kind == "kill":
            program.kill()
        else:
            await program.stop()
        await asyncio.sleep(chosen.random())
        await program.start()

    async def unrest(pair: Pair, end_s: float) -> None:
        while time.monotonic() < end_s:
            await asyncio.sleep(chosen.random() * 2)
            await trouble(pair)

    async def etcd_unrest(end_s: float) -> None:
        while time.monotonic() < end_s:
            await asyncio.sleep(chosen.random() * 3)
            if chosen.random() < 0.5:
                made.etcd.pause()
                await asyncio.sleep(chosen.random() * 3)
                made.etcd.resume()
            else:
                made.etcd.kill()
                if chosen.random() < 0.3:
                    made.etcd.wipe()
                await asyncio.sleep(chosen.random() * 3)
                await made.etcd.start()

    async def scenario() -> None:
        second = made.consumer_agent("second", "--workers", "2", "--timeout-ms", "500")
        await second.start()
        async with (
            load(parts.consumer.port, 60) as callers,
            load(second.port, 40) as others,
        ):
            end_s = time.monotonic() + 60
            await asyncio.gather(*(unrest(pair, end_s) for pair in parts.pairs), etcd_unrest(end_s))
            await parts.consumer.settled(3, timeout_s=30.0)
            await second.settled(3, timeout_s=30.0)
            failed = callers.failed, others.failed
            await callers.answered(300)
            await others.answered(300)
            assert (callers.failed, others.failed) == failed, "all is well again"
            for each in (callers, others):
                outcomes = await each.stop()
                known = {"ok", "502 upstream-lost", "503 unavailable", "503 overload"}
                assert set(outcomes) <= known | {"504 deadline"}, outcomes

        async def balanced() -> bool:
            services = [*await parts.consumer.services(), *await second.services()]
            endpoints = [each for service in services for each in service["endpoints"]]
            for pair in parts.pairs:
                address = f"127.0.0.1:{pair.agent.port}"
                held = sum(e["credits"] for e in endpoints if e["address"] == address)
                (worker,) = (await pair.agent.status())["workers"]
                if worker["in_progress"] or worker["credits"]["in_use"]:
                    return False
                if not held == worker["credits"]["granted"] <= LIMIT:
                    return False
            in_progress = [
                await each.metric("dragoman_http_in_progress") for each in (parts.consumer, second)
            ]
            return not any(in_progress)

        await until(balanced, 70.0)
        for each in (parts.consumer, second):
            assert await each.stop() == 0

    asyncio.run(scenario())
