"""Real providers of Dubbo that register in a real ZooKeeper, called over HTTP without an agent of
theirs. Skips plainly where Java, Maven or its artefacts are not to be had."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from interop.java import JavaMissing, JavaProgram, build

from dragoman.harness.etcd import free_ports
from dragoman.registry import open_registry
from tests.dubbo.upstream.test_direct import ready
from tests.faults.chain import Chain, Program, chain, start
from tests.faults.http import Response, call, client
from tests.registry.zookeeper_server import ZookeeperServer

TYPES = "org.dragoman.interop.Types"
RELEASES = ("2.6", "2.7", "3.3")


class Shop:
    """A provider of each release, and one consumer agent."""

    def __init__(self, own: Chain, url: str, providers: dict[str, JavaProgram]) -> None:
        self.own = own
        self.url = url
        self.providers = providers
        self.agent: Program = own.consumer_agent("agent", registry=url)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    try:
        build()
    except JavaMissing as missing:
        pytest.skip(str(missing))
    server = ZookeeperServer(tmp_path / "zookeeper")
    server.start()
    try:
        with chain(tmp_path) as own, ExitStack() as stack:
            providers = {}
            for release, port in zip(RELEASES, free_ports(len(RELEASES)), strict=True):
                one = JavaProgram(
                    release, "Provider", port=port, host="127.0.0.1", registry=server.url
                )
                assert one.process.stdout is not None
                # When it has ended.
                stack.callback(one.process.stdout.close)
                providers[release] = stack.enter_context(one)
            for provider in providers.values():
                provider.wait_line("ready", 90)
            yield Shop(own, server.url, providers)
    finally:
        server.kill()


def asked(method: str, body: object, *fields: str) -> bytes:
    return call(method, json.dumps(body).encode(), *fields, interface=TYPES)


def value(answer: Response) -> object:
    assert answer.status == 200, (answer.status, answer.body)
    return json.loads(answer.body)


def test_real_providers_are_found_called_and_left_without_a_failure(shop: Shop) -> None:
    async def scenario() -> None:
        agent = shop.agent
        await start(agent)
        for service in (TYPES, f"blue/{TYPES}:1.0.0", f"green/{TYPES}:2.0.0"):
            await ready(agent, len(RELEASES), service)
        async with client(agent.port) as one:
            for text in ("", "hello", "grüße 😀"):
                for _ in RELEASES:
                    assert value(await one.ask(asked("text", {"args": [text]}))) == text
            exact = {"types": ["long"], "args": [2**53 + 1]}
            assert value(await one.ask(asked("primitiveLong", exact))) == 2**53 + 1
            # 3.3 publishes its signatures: a small number is a long without being called so.
            untyped = asked("primitiveLong", {"args": [7]})
            async with asyncio.timeout(20):
                while any([(await one.ask(untyped)).status != 200 for _ in RELEASES]):
                    await asyncio.sleep(0.1)
            assert value(await one.ask(untyped)) == 7
            blue = ("x-dragoman-group: blue", "x-dragoman-version: 1.0.0")
            assert value(await one.ask(asked("which", {"args": []}, *blue))) == "blue/1.0.0"

        registry = open_registry(shop.url)
        found = {each.release: each for each in (await registry.services())[TYPES]}
        assert {release[:3] for release in found} == {"", "2.7", "3.3"}
        assert all("text" in each.methods for each in found.values())
        # That of 3.3 publishes its signatures.
        methods = {each.name: each for each in await registry.metadata(TYPES)}
        assert methods["text"].parameter_types == ("java.lang.String",)
        assert methods["primitiveLong"].return_type == "long"
        await registry.close()

        failures: list[tuple[int, bytes]] = []
        count = 0
        stopping = False

        async def caller() -> None:
            nonlocal count
            async with client(agent.port) as one:
                while not stopping:
                    answer = await one.ask(asked("text", {"args": ["x"]}))
                    count += 1
                    if answer.status != 200:
                        failures.append((answer.status, answer.body))

        callers = [asyncio.create_task(caller()) for _ in range(8)]
        for release in RELEASES[:2]:
            before = count
            while count < before + 200:
                await asyncio.sleep(0.01)
            shop.providers[release].process.terminate()
            await asyncio.to_thread(shop.providers[release].process.wait, 30)
        before = count
        while count < before + 200:
            await asyncio.sleep(0.01)
        stopping = True
        await asyncio.gather(*callers)
        assert failures == []

    asyncio.run(scenario())
