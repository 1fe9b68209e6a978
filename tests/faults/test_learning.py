"""A provider whose limit nobody states: ``--limit auto`` learns it."""

from __future__ import annotations

import asyncio

from tests.faults.chain import start
from tests.faults.conftest import Mesh
from tests.faults.load import load
from tests.waiting import until

GROUP = "learnt"
PLACES = 20


def test_the_limit_is_learnt_from_rejections(mesh: Mesh) -> None:
    chain = mesh.chain
    pair = chain.pair(
        GROUP,
        ("--delay-ms", "10", "--limit", str(PLACES)),
        ("--group", GROUP, "--limit", "auto"),
    )
    consumer = chain.consumer_agent(f"{GROUP}-consumer", "--timeout-ms", "2000")

    async def scenario() -> None:
        await start(pair.provider, pair.agent, consumer)
        await consumer.settled(1, GROUP)
        async with load(consumer.port, 2 * PLACES, f"x-dragoman-group: {GROUP}") as callers:

            async def learnt() -> bool:
                return await pair.agent.metric("dragoman_provider_limit") <= PLACES + 1

            await until(learnt, 10.0, pair.agent.tail)
            await callers.answered(400)
            rejected = await pair.agent.metric("dragoman_provider_rejections_total")
            await callers.answered(1000)
            limit = await pair.agent.metric("dragoman_provider_limit")
            more = await pair.agent.metric("dragoman_provider_rejections_total") - rejected
        # It goes on probing, ever more rarely.
        assert PLACES // 2 <= limit <= PLACES + 1
        assert more <= 20

    try:
        asyncio.run(scenario())
    finally:
        for program in (consumer, pair.agent, pair.provider):
            program.kill()
