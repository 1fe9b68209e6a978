"""Dubbo's registry in a ZooKeeper that is killed, wiped or stopped, or loses an entry."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop

from dragoman.errors import RegistryError
from dragoman.registry import Registration
from tests.load_factor import load_factor
from tests.registry.zookeeper_entries import PATIENT, addresses, java, opened
from tests.waiting import until

from .conftest import INTERFACE, endpoint
from .zookeeper_server import ZookeeperServer


def test_a_registration_that_somebody_deletes_is_made_again(own_zookeeper: ZookeeperServer) -> None:
    async def scenario() -> None:
        registry = opened(own_zookeeper)
        handle = await registry.register(endpoint(30000))
        await handle.ready(5)
        with java(own_zookeeper.url) as other:

            def purge() -> None:
                folder = f"/dubbo/{INTERFACE}/dragoman"
                (name,) = other.get_children(folder)
                other.delete(f"{folder}/{name}")

            await asyncio.to_thread(purge)
            await asyncio.sleep(0.2)
            assert await addresses(registry) == ["127.0.0.1:30000"]
        await registry.close()

    uvloop.run(scenario())


def test_an_outage_changes_nothing_and_ends_by_itself(own_zookeeper: ZookeeperServer) -> None:
    async def scenario() -> None:
        provider, consumer = opened(own_zookeeper), opened(own_zookeeper)
        handle = await provider.register(endpoint(30000))
        await handle.ready(5)
        seen: list[list[Registration]] = []
        watch = consumer.watch(INTERFACE, seen.append)
        await until(lambda: watch.current == [endpoint(30000)])
        own_zookeeper.kill()
        await until(lambda: not consumer.healthy)
        with pytest.raises(RegistryError):
            await consumer.services()
        await asyncio.sleep(0.5)
        assert watch.current == [endpoint(30000)]
        await asyncio.to_thread(own_zookeeper.start)
        began_s = time.monotonic()
        await until(lambda: consumer.healthy and provider.healthy)
        assert time.monotonic() - began_s < 2.0 * load_factor()
        # Changes are seen again.
        await (await provider.register(endpoint(30001))).ready(5)
        await until(lambda: watch.current == [endpoint(30000), endpoint(30001)])
        assert seen == [
            *([] if seen[0] else [[]]),
            [endpoint(30000)],
            [endpoint(30000), endpoint(30001)],
        ]
        await provider.close()
        await until(lambda: watch.current == [])
        await consumer.close()

    uvloop.run(scenario())


def test_data_that_are_lost_are_put_again_and_nobody_sees_an_empty_list(
    own_zookeeper: ZookeeperServer,
) -> None:
    async def scenario() -> None:
        provider, consumer = opened(own_zookeeper), opened(own_zookeeper)
        mortal = opened(own_zookeeper)
        await (await provider.register(endpoint(30000))).ready(5)
        await (await mortal.register(endpoint(30001))).ready(5)
        seen: list[list[Registration]] = []
        watch = consumer.watch(INTERFACE, seen.append)
        await until(lambda: len(watch.current) == 2)
        seen.clear()
        own_zookeeper.kill()
        own_zookeeper.wipe()
        await mortal.close()
        await asyncio.to_thread(own_zookeeper.start)

        async def stands() -> bool:
            try:
                return await addresses(consumer) == ["127.0.0.1:30000"]
            except RegistryError:
                return False

        began_s = time.monotonic()
        while not await stands():
            assert time.monotonic() - began_s < 5.0 * load_factor()
            await asyncio.sleep(0.02)
        assert provider.statistics().leases_lost_total == 1
        # The one that did not come back is dropped when the grace is over.
        await until(lambda: watch.current == [endpoint(30000)], 6.0)
        assert seen == [[endpoint(30000)]]
        await provider.close()
        await consumer.close()

    uvloop.run(scenario())


def test_a_session_that_runs_out_is_replaced(own_zookeeper: ZookeeperServer) -> None:
    """The server stands still for longer than sessions last, then lets them all expire."""

    async def scenario() -> None:
        provider, consumer = opened(own_zookeeper), opened(own_zookeeper)
        handle = await provider.register(endpoint(30000))
        await handle.ready(5)
        watch = consumer.watch(INTERFACE)
        await until(lambda: watch.current != [])
        own_zookeeper.pause()
        await asyncio.sleep(2.5)
        assert watch.current == [endpoint(30000)]
        own_zookeeper.resume()
        await until(lambda: provider.healthy and consumer.healthy, 10)
        await asyncio.sleep(0.3)
        assert await addresses(consumer) == ["127.0.0.1:30000"]
        assert watch.current == [endpoint(30000)]
        await provider.close()
        await until(lambda: watch.current == [], 5)
        await consumer.close()

    uvloop.run(scenario())


def test_who_unregisters_while_zookeeper_is_away_is_gone_when_it_is_back(
    own_zookeeper: ZookeeperServer,
) -> None:
    async def scenario() -> None:
        registry = opened(own_zookeeper)
        handle = await registry.register(endpoint(30000))
        await handle.ready(5)
        await (await registry.register(endpoint(30001))).ready(5)
        own_zookeeper.kill()
        await until(lambda: not registry.healthy)
        assert not await handle.unregister(0.2)
        await asyncio.to_thread(own_zookeeper.start)
        await until(lambda: registry.healthy, 10)

        async def gone() -> bool:
            return await addresses(registry) == ["127.0.0.1:30001"]

        began_s = time.monotonic()
        while not await gone():
            assert time.monotonic() - began_s < 2.0 * load_factor()
            await asyncio.sleep(0.02)
        await registry.close()

    uvloop.run(scenario())


def test_who_starts_while_zookeeper_is_away_waits_and_may_leave(
    own_zookeeper: ZookeeperServer,
) -> None:
    async def scenario() -> None:
        own_zookeeper.kill()
        registry = opened(own_zookeeper)
        watch = registry.watch(INTERFACE)
        with pytest.raises(RegistryError, match="no list of"):
            await watch.ready(0.3)
        handle = await registry.register(endpoint(30000))
        with pytest.raises(RegistryError, match="is not registered within"):
            await handle.ready(0.2)
        leaver = opened(own_zookeeper)
        began_s = time.monotonic()
        await leaver.close()
        assert time.monotonic() - began_s < 3.5 * load_factor()
        await asyncio.to_thread(own_zookeeper.start)
        await until(lambda: watch.current == [endpoint(30000)])
        await registry.close()

    uvloop.run(scenario())


def test_who_no_longer_waits_for_a_withdrawal_is_withdrawn_all_the_same(
    own_zookeeper: ZookeeperServer,
) -> None:
    async def scenario() -> None:
        registry, other = opened(own_zookeeper, PATIENT), opened(own_zookeeper, PATIENT)
        handle = await registry.register(endpoint(30000))
        await handle.ready(30)
        watch = other.watch(INTERFACE)
        await until(lambda: watch.current == [endpoint(30000)], 30)
        leaving = asyncio.create_task(handle.unregister(timeout_s=30))
        await asyncio.sleep(0)
        leaving.cancel()
        # Before what it asked for is sent, so it is up to the registrar.
        await until(lambda: watch.current == [], 30)
        await registry.close()
        await other.close()

    uvloop.run(scenario())
