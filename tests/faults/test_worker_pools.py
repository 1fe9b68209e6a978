"""Agents of several workers: they share work, a killed one is replaced, and all stop in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.faults.chain import Chain, Program, chain, start
from tests.faults.http import client, form, is_hash
from tests.faults.load import load
from tests.load_factor import load_factor
from tests.waiting import until


class WorkerPools:
    """Agents of two workers each, on an etcd of their own."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.provider = chain.provider("provider", "--delay-ms", "20", "--limit", "60")
        self.agent = chain.provider_agent(
            "agent",
            self.provider,
            "--limit",
            "60",
            "--workers",
            "2",
            "--lease-ttl-s",
            "2",
            "--listen",
            f"127.0.0.1:{pair_of_ports()}",
        )
        self.consumer = chain.consumer_agent("consumer", "--workers", "2")

    async def workers(self, program: Program) -> list[int]:
        """The pids of those that are ready."""
        workers = (await program.status())["workers"]
        return [each["pid"] for each in workers if each["not_ready"] is None]


def pair_of_ports() -> int:
    """A port that is free, as is the next."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no two free ports in a row")


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPools]:
    with chain(tmp_path_factory.mktemp("pools")) as made:
        pools = WorkerPools(made)

        async def begin() -> None:
            await made.etcd.start()
            await start(pools.provider, pools.agent, pools.consumer)
            await until(lambda: whole(pools), 15.0)

        asyncio.run(begin())
        yield pools


async def whole(pools: WorkerPools) -> bool:
    services = await pools.consumer.services()
    endpoints = [each["state"] for service in services for each in service["endpoints"]]
    return (
        len(await pools.workers(pools.consumer)) == 2
        and len(await pools.workers(pools.agent)) == 2
        and endpoints == ["ready"] * 4
    )


def test_two_workers_share_the_work(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(400)
            assert set(await callers.stop()) == {"ok"}
        for worker in (await pools.consumer.status())["workers"]:
            (service,) = worker["services"]
            assert service["requests"] > 0
            assert all(each["requests"] > 0 for each in service["endpoints"])

    asyncio.run(scenario())


def test_a_consumers_worker_that_is_killed_is_replaced(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            victim = (await pools.workers(pools.consumer))[0]
            os.kill(victim, signal.SIGKILL)
            await callers.answered(200)
            await until(lambda: whole(pools), 15.0)
            assert victim not in await pools.workers(pools.consumer)
            await callers.answered(200)
            outcomes = await callers.stop()
            assert set(outcomes) == {"ok", "lost"}
            assert outcomes["lost"] <= 40, "at most a request for each connection it had"
            assert (await pools.consumer.metric("dragoman_worker_restarts_total")) == 1

    asyncio.run(scenario())


def test_a_providers_worker_that_is_killed_is_replaced(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            victim = (await pools.workers(pools.agent))[1]
            os.kill(victim, signal.SIGKILL)
            await callers.answered(200)
            await until(lambda: whole(pools), 15.0)
            failed = callers.failed
            await callers.answered(200)
            await callers.stop()
            assert set(failed) <= {"502 upstream-lost"}
            assert failed.total() <= 30, "a worker's share of the limit"
            assert callers.failed == failed

    asyncio.run(scenario())


def test_a_hang_up_ends_neither_supervisor_nor_workers(pools: WorkerPools) -> None:
    async def scenario() -> None:
        workers = await pools.workers(pools.consumer) + await pools.workers(pools.agent)
        said = [hang_ups(each) for each in (pools.consumer, pools.agent)]
        async with load(pools.consumer.port, 40) as callers:
            await callers.answered(200)
            for pid in (*workers, pools.consumer.pid, pools.agent.pid):
                os.kill(pid, signal.SIGHUP)
            for each, before in zip((pools.consumer, pools.agent), said, strict=True):
                await until(lambda each=each, n=before: hang_ups(each) == n + 3, 30.0)
            await callers.answered(200)
            assert set(await callers.stop()) == {"ok"}
        assert workers == await pools.workers(pools.consumer) + await pools.workers(pools.agent)

    asyncio.run(scenario())


def hang_ups(program: Program) -> int:
    """How many SIGHUPs it says it has had: one by each of its processes."""
    return program.text().count("SIGHUP ignored")


def test_both_pools_told_to_stop_fail_nobody(pools: WorkerPools) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            asked = []
            for i in range(20):
                one = await stack.enter_async_context(client(pools.consumer.port))
                one.send(form(str(i)))
                asked.append(one)
            await asyncio.sleep(0.005)
            began_s = time.monotonic()
            pools.consumer.signal(signal.SIGTERM)
            for i, one in enumerate(asked):
                assert is_hash(await one.response(), str(i))
            assert await pools.consumer.ended() == 0
            assert await pools.agent.stop() == 0
            assert time.monotonic() - began_s < 5.0 * load_factor()

    asyncio.run(scenario())
