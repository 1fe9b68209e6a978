"""A service or a method that some servers lack, as while they are upgraded one after the other."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.balance.policies import POLICIES
from dragoman.errors import NotFoundError
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Server
from tests.cluster.services import Callers, answer, ready, servers

LACKING = NotFoundError("no such method")
policies = pytest.mark.parametrize("policy", POLICIES)


async def one(callers: Callers, number: int) -> None:
    callers.submit(number)
    await asyncio.sleep(0.5)


def asked(mesh: dict[str, Server]) -> dict[str, int]:
    return {host: len(server.requests) for host, server in mesh.items()}


@policies
def test_what_one_server_alone_has_is_found_there(policy: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "abcd", limit=100, delay_s=0.01)
        callers = await ready(loop, "abcd", policy=policy)
        for host in "abc":
            answer(mesh[host], LACKING)
        for number in range(4):
            await one(callers, number)
        assert set(callers.kinds()) == {"ok"}
        assert all(not callers.endpoint(host)["breaker_open"] for host in "abcd")

    for seed in range(5):
        simulate(seed, work)


@policies
@pytest.mark.parametrize("hosts", ["a", "ab", "abc"])
def test_what_all_lack_is_not_found_and_each_is_asked_once(policy: str, hosts: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, hosts, limit=100, delay_s=0.01)
        callers = await ready(loop, hosts, policy=policy)
        for host in hosts:
            answer(mesh[host], LACKING)
        await one(callers, 0)
        assert type(callers.error(0)) is NotFoundError
        assert asked(mesh) == dict.fromkeys(hosts, 1)

    simulate(1, work)


def test_asking_others_for_what_is_lacking_stays_within_the_budget_of_retries() -> None:
    async def work(loop: SimulatedLoop) -> None:
        mesh = servers(loop, "ab", limit=100, delay_s=0.01)
        callers = await ready(loop, "ab")
        for host in "ab":
            answer(mesh[host], LACKING)
        for number in range(2000):
            callers.submit(number)
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.5)
        assert set(callers.kinds()) == {"NotFoundError"}
        assert sum(asked(mesh).values()) <= 2000 * 1.1 + 30

    simulate(1, work)
