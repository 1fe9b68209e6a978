"""The whole way: ZooKeeper, providers registered as Java does it, the consumer agent, HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from kazoo.client import KazooClient

from tests.dubbo.upstream.test_direct import ready, said
from tests.faults.chain import HOST, INTERFACE, Chain, Program, chain, start
from tests.faults.http import call, client, form, is_hash
from tests.faults.load import load
from tests.registry.zookeeper_server import ZookeeperServer
from tests.waiting import until


class Shop:
    """Providers that register themselves, in a ZooKeeper of their own."""

    def __init__(self, own: Chain, server: ZookeeperServer) -> None:
        self.own = own
        self.server = server
        self._java = KazooClient(hosts=f"{HOST}:{server.port}", timeout=8.0)
        self._java.start()

    def register(self, provider: Program, more: str = "&serialization=fastjson") -> str:
        """Make a provider's node; its path."""
        url = (
            f"dubbo://{HOST}:{provider.port}/{INTERFACE}?anyhost=true&application=shop"
            f"&dubbo=2.0.2&interface={INTERFACE}&methods=hash&pid=1&release=2.7.23"
            f"&side=provider&timestamp={time.time_ns() // 1000000}{more}"
        )
        path = f"/dubbo/{INTERFACE}/providers/{quote(url, safe='')}"
        self._java.create(path, ephemeral=True, makepath=True)
        return path

    def unregister(self, path: str) -> None:
        """Delete a provider's node."""
        self._java.delete(path)

    def close(self) -> None:
        """Leave; the nodes go with the session."""
        self._java.stop()
        self._java.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    server = ZookeeperServer(tmp_path / "zookeeper")
    server.start()
    try:
        with chain(tmp_path) as own:
            made = Shop(own, server)
            yield made
            made.close()
    finally:
        server.kill()


def test_http_reaches_providers_that_registered_themselves(shop: Shop) -> None:
    async def scenario() -> None:
        own = shop.own
        first, second = (own.provider(name, "--delay-ms", "5") for name in ("first", "second"))
        agent = own.consumer_agent("agent", registry=shop.server.url)
        await start(first, second, agent)
        async with client(agent.port) as one:
            # Nothing there yet.
            assert said(await one.ask(form("x"))) == (404, "not-found")
            await asyncio.to_thread(shop.register, first)
            await ready(agent, 1, INTERFACE)
            assert is_hash(await one.ask(form("x")), "x")
            answer = await one.ask(call("hash", b'{"args":["hello"]}'))
            assert (answer.status, answer.body) == (200, b"99162322")
            path = await asyncio.to_thread(shop.register, second)
            await ready(agent, 2, INTERFACE)

        async with load(agent.port, 30) as callers:
            await callers.answered(300)
            # As Java's providers stop: they leave the registry, then say so, then finish.
            await asyncio.to_thread(shop.unregister, path)
            assert await second.stop() == 0
            await callers.answered(300)
            await second.start()
            await asyncio.to_thread(shop.register, second)
            await ready(agent, 2, INTERFACE)
            await callers.answered(300)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_no_request_fails_while_zookeeper_is_away(shop: Shop) -> None:
    async def scenario() -> None:
        own = shop.own
        provider = own.provider("one", "--delay-ms", "5")
        agent = own.consumer_agent("agent", registry=shop.server.url)
        await start(provider, agent)
        await asyncio.to_thread(shop.register, provider)
        await ready(agent, 1, INTERFACE)
        async with load(agent.port, 20) as callers:
            shop.server.kill()
            await callers.answered(500)

            async def away() -> bool:
                return await agent.metric("dragoman_registry_healthy") == 0

            await until(away, 10)
            await callers.answered(300)
            await asyncio.to_thread(shop.server.start)

            async def back() -> bool:
                return await agent.metric("dragoman_registry_healthy") == 1

            await until(back, 10)
            await callers.answered(300)
            assert set(await callers.stop()) == {"ok"}

    asyncio.run(scenario())


def test_an_agent_and_its_provider_may_be_found_in_zookeeper_too(shop: Shop) -> None:
    async def scenario() -> None:
        own = shop.own
        provider = own.provider("one", "--delay-ms", "5")
        beside = own.provider_agent("beside", provider, registry=shop.server.url)
        agent = own.consumer_agent("agent", registry=shop.server.url)
        await start(provider, beside, agent)
        await ready(agent, 1, INTERFACE)
        async with client(agent.port) as one:
            assert is_hash(await one.ask(form("x")), "x")
        assert await beside.stop() == 0

    asyncio.run(scenario())


def test_a_provider_whose_serialization_is_not_spoken_is_named_as_such(shop: Shop) -> None:
    async def scenario() -> None:
        own = shop.own
        provider = own.provider("one", "--delay-ms", "5")
        agent = own.consumer_agent("agent", registry=shop.server.url)
        await start(provider, agent)
        path = await asyncio.to_thread(shop.register, provider, "&serialization=kryo")

        async def reason() -> str:
            for service in await agent.services():
                for each in service["unusable"]:
                    return str(each["reason"])
            return ""

        await until(reason)
        async with client(agent.port) as one:
            answer = await one.ask(form("x"))
            assert said(answer) == (503, "unavailable")
            assert b"kryo" in answer.body
            await asyncio.to_thread(shop.unregister, path)
            await asyncio.to_thread(shop.register, provider)
            await ready(agent, 1, INTERFACE)
            assert is_hash(await one.ask(form("x")), "x")

    asyncio.run(scenario())
