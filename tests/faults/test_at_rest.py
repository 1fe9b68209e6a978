"""Agents that nobody calls hardly wake up: no polling, of anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dragoman.harness import cpu
from tests.faults.chain import Program, chain, start

WATCHED_S = 4.0
# Heartbeats, the lease's renewal and the audit of a watch; what polls has ten and more.
WAKE_UPS_PER_S = 7.0


def test_agents_at_rest_wake_up_a_few_times_a_second(tmp_path: Path) -> None:
    async def work() -> dict[str, float]:
        await parts.etcd.start()
        pair = parts.pair("one")
        consumer = parts.consumer_agent("consumer")
        await start(pair.provider, pair.agent, consumer)
        await consumer.settled(1)
        # What has just started looks about.
        await asyncio.sleep(1.5)
        before = {name: wake_ups(each) for name, each in (("P", pair.agent), ("C", consumer))}
        await asyncio.sleep(WATCHED_S)
        return {
            name: (wake_ups(each) - before[name]) / WATCHED_S
            for name, each in (("P", pair.agent), ("C", consumer))
        }

    def wake_ups(program: Program) -> int:
        assert program.pid is not None
        return max(map(cpu.wake_ups, cpu.process_tree(program.pid)))

    with chain(tmp_path) as parts:
        found = asyncio.run(work())
    assert all(per_s < WAKE_UPS_PER_S for per_s in found.values()), found
