"""What every registry does, whichever it is."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
import uvloop

from dragoman.errors import RegistryError, UsageError
from dragoman.observe.metrics import Snapshot, render
from dragoman.registry import Registration
from dragoman.registry.changes import Change
from dragoman.registry.names import EVERY
from dragoman.registry.report import add_registry_metrics
from tests.waiting import until

from .conftest import INTERFACE, World, endpoint

Filled = tuple[World, list[Registration]]


def test_the_first_snapshot_is_the_whole_sorted_list(filled_world: Filled) -> None:
    world, endpoints = filled_world

    async def scenario() -> None:
        registry = world.open()
        seen: list[list[Registration]] = []
        watch = registry.watch(INTERFACE, seen.append)
        await watch.ready(5)
        assert watch.has_snapshot
        assert seen == [endpoints]
        assert watch.current == endpoints
        assert registry.healthy or world.kind in ("etcd", "zookeeper", "nacos")
        await registry.close()
        await registry.close()

    uvloop.run(scenario())


def test_services_lists_every_endpoint(filled_world: Filled) -> None:
    world, endpoints = filled_world

    async def scenario() -> None:
        registry = world.open()
        services = await registry.services()
        (listed,) = services.values()
        assert [each.address for each in listed] == [each.address for each in endpoints]
        assert [each.weight for each in listed] == [2, 3]
        await registry.close()

    uvloop.run(scenario())


def test_a_snapshot_given_away_may_be_changed_without_harm(filled_world: Filled) -> None:
    world, endpoints = filled_world

    async def scenario() -> None:
        registry = world.open()
        watch = registry.watch(INTERFACE, lambda snapshot: snapshot.clear())
        await watch.ready(5)
        watch.current.clear()
        assert watch.current == endpoints
        await registry.close()

    uvloop.run(scenario())


def test_a_watcher_that_raises_is_logged_and_keeps_watching(
    filled_world: Filled, caplog: pytest.LogCaptureFixture
) -> None:
    world, endpoints = filled_world

    def fail(snapshot: list[Registration]) -> None:
        raise ValueError("the watcher's own fault")

    async def scenario() -> None:
        registry = world.open()
        watch = registry.watch(INTERFACE, fail)
        await watch.ready(5)
        assert watch.current == endpoints
        await registry.close()

    with caplog.at_level(logging.ERROR):
        uvloop.run(scenario())
    assert re.search(
        r"failed on a snapshot: ValueError \(test_conformance.py:\d+ in fail", caplog.text
    )
    assert "the watcher's own fault" not in caplog.text, "it may be anybody's secret"


def test_an_interface_that_nobody_serves_has_an_empty_first_snapshot(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        seen: list[list[Registration]] = []
        watch = registry.watch("com.example.INobody", seen.append)
        await watch.ready(5)
        assert seen == [[]]
        assert await registry.services() == {}
        await registry.close()

    uvloop.run(scenario())


def test_a_registration_reaches_watchers_and_leaves_them(world: World) -> None:
    async def scenario() -> None:
        provider, consumer = world.open(), world.open()
        seen: list[list[Registration]] = []
        watch = consumer.watch(INTERFACE, seen.append)
        await watch.ready(5)
        first, second = endpoint(30000), endpoint(30001, weight=3)
        handle = await provider.register(first)
        await handle.ready(5)
        assert handle.registered
        await until(lambda: watch.current == [first])
        await (await provider.register(second)).ready(5)
        await until(lambda: watch.current == [first, second])
        assert await handle.unregister()
        assert not handle.registered
        assert await handle.unregister()
        # A goodbye takes effect at once, without the grace of an entry that only vanished.
        await until(lambda: watch.current == [second], 0.5)
        await provider.close()
        await until(lambda: watch.current == [], 0.5)
        assert seen == [[], [first], [first, second], [second], []]
        await consumer.close()

    uvloop.run(scenario())


def test_a_registration_at_the_same_address_replaces_the_earlier_one(world: World) -> None:
    async def scenario() -> None:
        provider, consumer = world.open(), world.open()
        watch = consumer.watch(INTERFACE)
        await (await provider.register(endpoint(30000, weight=1))).ready(5)
        await (await provider.register(endpoint(30000, weight=5))).ready(5)
        await until(lambda: [each.weight for each in watch.current] == [5])
        await provider.close()
        await until(lambda: watch.current == [])
        await consumer.close()

    uvloop.run(scenario())


def test_a_predecessor_that_leaves_late_does_not_take_its_successor_along(world: World) -> None:
    async def scenario() -> None:
        old, new, consumer = world.open(), world.open(), world.open()
        watch = consumer.watch(INTERFACE)
        await (await old.register(endpoint(30000, weight=1))).ready(5)
        await (await new.register(endpoint(30000, weight=2))).ready(5)
        await old.close()
        assert [each.weight for each in (await consumer.services())[INTERFACE]] == [2]
        await until(lambda: [each.weight for each in watch.current] == [2])
        await new.close()
        await consumer.close()

    uvloop.run(scenario())


def test_watches_of_different_interfaces_do_not_mix(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        # The one's name is the beginning of the other's.
        short, long = registry.watch("com.example.I"), registry.watch("com.example.IHello")
        await short.ready(5)
        await (await registry.register(endpoint(1, interface="com.example.I"))).ready(5)
        await (await registry.register(endpoint(2, interface="com.example.IHello"))).ready(5)
        await until(lambda: [each.port for each in short.current] == [1])
        await until(lambda: [each.port for each in long.current] == [2])
        assert list(await registry.services()) == ["com.example.I", "com.example.IHello"]
        await registry.close()

    uvloop.run(scenario())


def test_every_interface_can_be_watched_at_once(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        watch = registry.watch(EVERY)
        await watch.ready(5)
        assert watch.current == []
        first = await registry.register(endpoint(1, interface="com.example.IOne"))
        await (await registry.register(endpoint(2, interface="com.example.ITwo"))).ready(5)
        await until(lambda: [each.port for each in watch.current] == [1, 2])
        await first.unregister()
        await until(lambda: [each.interface for each in watch.current] == ["com.example.ITwo"])
        await registry.close()

    uvloop.run(scenario())


def test_a_closed_watch_is_told_nothing_more(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        seen: list[list[Registration]] = []
        watch = registry.watch(INTERFACE, seen.append)
        await watch.ready(5)
        await watch.close()
        await watch.close()
        other = registry.watch(INTERFACE)
        await (await registry.register(endpoint(30000))).ready(5)
        await until(lambda: other.current != [])
        assert seen == [[]]
        await registry.close()

    uvloop.run(scenario())


def test_a_closed_registry_refuses_and_leaves_no_task(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        await registry.watch(INTERFACE).ready(5)
        await (await registry.register(endpoint(30000))).ready(5)
        await registry.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(RegistryError, match="is closed"):
            await registry.register(endpoint(30000))
        with pytest.raises(RegistryError, match="is closed"):
            registry.watch(INTERFACE)

    uvloop.run(scenario())


def test_a_bad_interface_name_is_refused(filled_world: Filled) -> None:
    world, _ = filled_world

    async def scenario() -> None:
        registry = world.open()
        with pytest.raises(UsageError, match="expected a name such as"):
            registry.watch("a/b")
        await registry.close()

    uvloop.run(scenario())


def test_statistics_count_what_stands(world: World) -> None:
    async def scenario() -> None:
        registry = world.open()
        watch = registry.watch(INTERFACE)
        await (await registry.register(endpoint(30000))).ready(5)
        await until(lambda: watch.current != [] and registry.healthy)
        statistics = registry.statistics()
        assert (statistics.watches, statistics.endpoints) == (1, 1)
        assert (statistics.registrations, statistics.registered) == (1, 1)
        snapshot = Snapshot()
        add_registry_metrics(snapshot, statistics)
        assert snapshot.get("dragoman_registry_endpoints") == 1
        assert b"dragoman_registry_errors_total 0.0" in render(snapshot)
        await registry.close()
        assert not registry.healthy

    uvloop.run(scenario())


def test_all_services_are_followed_entry_by_entry(world: World) -> None:
    async def scenario() -> None:
        provider, consumer = world.open(), world.open()
        handle = await provider.register(endpoint(30001))
        await handle.ready(5)
        there: set[int] = set()
        complete: list[set[int]] = []

        def take(changes: list[Change]) -> None:
            for before, now in changes:
                assert (before is not None) == (before is not None and before.port in there)
                there.difference_update([before.port] if before is not None else [])
                there.update([now.port] if now is not None else [])

        watch = consumer.watch_services(take, lambda: complete.append(set(there)))
        await until(lambda: complete != [] and there == {30001})
        assert watch.has_snapshot
        await (await provider.register(endpoint(30002))).ready(5)
        await until(lambda: there == {30001, 30002})
        await until(lambda: consumer.statistics().endpoints == 2)
        assert await handle.unregister()
        await until(lambda: there == {30002})
        await watch.close()
        await provider.close()
        await consumer.close()

    uvloop.run(scenario())
