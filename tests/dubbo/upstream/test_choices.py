"""Groups and versions ``*`` and with commas, over HTTP and by the SDK, to real programs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dragoman import dubbo
from dragoman.registry import Registration
from dragoman.registry.memory import MemoryRegistry
from tests.faults.chain import HOST, Chain, chain, start
from tests.faults.http import Response, call, client


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path) as made:
        yield made


def service(own_group: str, own_version: str) -> object:
    @dubbo.service("com.example.Which", group=own_group, version=own_version)
    class Which:
        async def which(self) -> str:
            asked = dubbo.current_request()
            return f"{asked.group}:{asked.version}"

    return Which()


async def served(stack: ExitStack) -> list[Registration]:
    """A server of each group and version, as a list of them says."""
    listed = []
    for group, version in (("", ""), ("blue", "1.0"), ("green", "1.0"), ("green", "2.0")):
        server = await dubbo.serve(service(group, version), 0)
        stack.callback(lambda one: asyncio.ensure_future(one.close(drain_ms=0)), server)
        listed.append(
            Registration(
                interface="com.example.Which",
                host=HOST,
                port=server.address.port,
                protocol="dubbo",
                serialization="hessian2",
                group=group,
                version=version,
            )
        )
    return listed


CHOICES = {
    ("*", "*"): {":", "blue:1.0", "green:1.0", "green:2.0"},
    ("blue,green", "1.0"): {"blue:1.0", "green:1.0"},
    ("green", "*"): {"green:1.0", "green:2.0"},
    ("*", "2.0"): {"green:2.0"},
    ("*", ""): {":"},
}


def test_the_sdk_calls_all_that_are_meant_each_by_its_own_group_and_version() -> None:
    async def scenario() -> None:
        registry = MemoryRegistry("choices")
        with ExitStack() as stack:
            for each in await served(stack):
                await registry.register(each)
            async with dubbo.Client(registry, policy="round-robin") as caller:
                for (group, version), expected in CHOICES.items():
                    which = caller.service("com.example.Which", group=group, version=version)
                    await caller.ready(which, providers_min=len(expected))
                    assert {await which.which() for _ in range(12)} == expected
        await registry.close()

    asyncio.run(scenario())


def test_http_callers_reach_all_that_are_meant(own: Chain) -> None:
    async def scenario() -> None:
        with ExitStack() as stack:
            listed = await served(stack)
            fields = [
                f"{each.address}?protocol=dubbo&serialization=hessian2&interface={each.interface}"
                f"&group={each.group}&version={each.version}"
                for each in listed
            ]
            agent = own.consumer_agent(
                *("agent", "--policy", "round-robin"), registry=f"static://{','.join(fields)}"
            )
            await start(agent)
            async with client(agent.port) as one:

                async def ask(group: str, version: str) -> Response:
                    headers = (f"x-dragoman-group: {group}", f"x-dragoman-version: {version}")
                    asked = call("which", b'{"args":[]}', *headers, interface="com.example.Which")
                    return await one.ask(asked)

                for (group, version), expected in CHOICES.items():
                    seen: set[str] = set()
                    async with asyncio.timeout(20):
                        while seen != expected:
                            answer = await ask(group, version)
                            if answer.status == 200:
                                seen.add(answer.body.decode().strip('"'))
                    for _ in range(12):
                        answer = await ask(group, version)
                        assert answer.body.decode().strip('"') in expected
                body = b'{"args":[],"group":"green","version":"*"}'
                asked = call("which", body, interface="com.example.Which")
                assert b"green:" in (await one.ask(asked)).body
                answer = await ask("red,grey", "*")
                assert (answer.status, answer.error) == (404, "not-found")

    asyncio.run(scenario())
