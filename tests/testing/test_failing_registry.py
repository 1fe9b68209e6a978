"""The registry that fails on command. That it is a registry is seen in
``tests/registry/test_conformance.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dragoman import cluster, dubbo
from dragoman.errors import RegistryError, UsageError
from dragoman.registry import Registration
from dragoman.registry.methods import Method
from dragoman.testing import DubboProvider, FailingRegistry, SimulatedLoop, simulate

BEDS = "beds"


def endpoint(port: int, **fields: int) -> Registration:
    return Registration(interface=BEDS, host="server", port=port, **fields)


def on_virtual_time(
    work: Callable[[SimulatedLoop, FailingRegistry], Awaitable[None]],
) -> None:
    async def with_registry(loop: SimulatedLoop) -> None:
        registry = FailingRegistry()
        await work(loop, registry)
        await registry.close()

    simulate(1, with_registry)


def ports(found: list[Registration]) -> list[int]:
    return [each.port for each in found]


async def listed(registry: FailingRegistry) -> list[int]:
    return ports((await registry.services()).get(BEDS, []))


def test_what_is_refused_is_made_up_for() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        seen: list[list[int]] = []
        watch = registry.watch(BEDS, lambda found: seen.append(ports(found)))
        first = await registry.register(endpoint(1))
        registry.refuse("no route to host")
        assert not registry.healthy
        second = await registry.register(endpoint(2))
        assert (first.registered, second.registered) == (True, False)
        with pytest.raises(
            RegistryError, match=r"beds at server:2 .* within 3 s: no route to host"
        ):
            await second.ready(3)
        assert not await first.unregister()
        with pytest.raises(RegistryError, match="failing://test: no route to host"):
            await registry.services()
        late = registry.watch(BEDS)
        assert not late.has_snapshot
        assert late.why_unread.endswith("no route to host")
        # Who watched keeps the last list.
        assert ports(watch.current) == [1]
        assert registry.statistics().errors_total == 4

        registry.come_back()
        assert (first.registered, second.registered) == (False, True)
        assert ports(watch.current) == ports(late.current) == await listed(registry) == [2]
        assert registry.healthy
        assert seen[:2] == [[], [1]]
        assert seen[-1] == [2]

    on_virtual_time(work)


def test_who_asks_a_registry_that_hangs_waits() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        handle = await registry.register(endpoint(1))
        registry.hang()
        asked = asyncio.ensure_future(registry.services())
        before_s = loop.time()
        assert not await handle.unregister(timeout_s=2)
        assert loop.time() - before_s == pytest.approx(2)
        await asyncio.sleep(100)
        assert not asked.done()
        registry.come_back()
        assert await asked == {}
        # From hanging to refusing: the one that waits hears of it.
        registry.hang()
        asked = asyncio.ensure_future(registry.services())
        await asyncio.sleep(1)
        registry.refuse()
        with pytest.raises(RegistryError, match="connection refused"):
            await asked
        registry.hang()
        asked = asyncio.ensure_future(registry.services())
        await asyncio.sleep(1)
        await registry.close()
        with pytest.raises(RegistryError, match="is closed"):
            await asked

    on_virtual_time(work)


def test_who_waits_is_woken_though_it_was_told_to_hang_twice() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        handle = await registry.register(endpoint(1))
        registry.hang()
        asked = asyncio.ensure_future(registry.services())
        going = asyncio.ensure_future(handle.unregister(timeout_s=60))
        await asyncio.sleep(1)
        registry.hang()
        registry.come_back()
        before_s = loop.time()
        assert await asked == {}
        assert await going
        assert loop.time() - before_s < 1

    on_virtual_time(work)


def test_an_unregistering_that_waits_is_done_when_the_registry_is_back() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        handle = await registry.register(endpoint(1))
        registry.hang()
        going = asyncio.ensure_future(handle.unregister(timeout_s=60))
        await asyncio.sleep(5)
        assert not going.done()
        registry.come_back()
        assert await going
        assert await listed(registry) == []

    on_virtual_time(work)


def test_a_lost_lease_takes_entries_away_until_they_are_put_again() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        handles = [await registry.register(endpoint(port)) for port in (1, 2)]
        watch = registry.watch(BEDS)
        registry.lose_lease("server:1")
        assert ports(watch.current) == [2]
        assert [each.registered for each in handles] == [False, True]
        assert registry.statistics().leases_lost_total == 1
        registry.come_back()
        assert ports(watch.current) == [1, 2]
        registry.lose_lease(again_s=5)
        assert watch.current == []
        await asyncio.sleep(4)
        assert watch.current == []
        await asyncio.sleep(2)
        assert ports(watch.current) == [1, 2]
        assert all(each.registered for each in handles)
        # Who has left does not come back.
        registry.lose_lease(again_s=5)
        await handles[0].unregister()
        await asyncio.sleep(6)
        assert ports(watch.current) == [2]

    on_virtual_time(work)


def test_what_is_forgotten_is_gone_without_its_owner_knowing() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        owner = registry.another()
        handle = await owner.register(endpoint(1))
        watch = registry.watch(BEDS)
        registry.forget(endpoint(1))
        assert watch.current == []
        assert handle.registered
        owner.come_back()
        assert ports(watch.current) == [1]
        await owner.close()

    on_virtual_time(work)


def test_dropped_watches_hear_nothing_and_later_ones_do() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        before = registry.watch(BEDS)
        registry.drop_watches()
        after = registry.watch(BEDS)
        await registry.register(endpoint(1))
        assert before.current == []
        assert ports(after.current) == [1]
        registry.come_back()
        assert ports(before.current) == [1]

    on_virtual_time(work)


def test_changes_come_late_in_order_and_as_often_as_told() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        seen: list[tuple[float, list[int]]] = []
        start_s = loop.time()
        watch = registry.watch(
            BEDS, lambda found: seen.append((round(loop.time() - start_s, 3), ports(found)))
        )
        registry.delay_s = 5
        await registry.register(endpoint(1))
        # What comes sooner does not overtake.
        registry.delay_s = 1
        await registry.register(endpoint(2))
        registry.delay_s = 0
        await registry.register(endpoint(3))
        assert ports(watch.current) == []
        await asyncio.sleep(10)
        assert seen == [(0, []), (5, [1]), (5, [1, 2]), (5, [1, 2, 3])]
        registry.repeats = 2
        await registry.register(endpoint(4))
        assert seen[4:] == [(10, [1, 2, 3, 4])] * 3
        # What is under way when the registry goes is lost.
        registry.delay_s = 1
        await registry.register(endpoint(5))
        registry.refuse()
        await asyncio.sleep(2)
        assert ports(watch.current) == [1, 2, 3, 4]
        registry.come_back()
        await asyncio.sleep(2)
        assert ports(watch.current) == [1, 2, 3, 4, 5]

    on_virtual_time(work)


def test_another_fails_by_itself() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        provider = registry.another()
        watch = registry.watch(BEDS)
        provider.refuse()
        handle = await provider.register(endpoint(1))
        assert await listed(registry) == []
        provider.come_back()
        assert ports(watch.current) == [1]
        # One that cannot be reached closes all the same, and its entry stays.
        provider.refuse()
        await provider.close()
        assert handle.registered
        assert ports(watch.current) == [1]
        registry.forget("server:1")
        assert watch.current == []

    on_virtual_time(work)


def test_a_place_that_is_taken_is_not_taken_back() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        old = await registry.register(endpoint(1, weight=1))
        new = registry.another()
        await new.register(endpoint(1, weight=2))
        assert not old.registered
        registry.come_back()
        assert (await registry.services())[BEDS] == [endpoint(1, weight=2)]
        await new.close()

    on_virtual_time(work)


def test_published_types_wait_for_the_registry() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        methods = (Method(name="hash", parameter_types=("java.lang.String",)),)
        registry.refuse()
        assert await registry.publish("a.B", methods, group="g")
        with pytest.raises(RegistryError):
            await registry.metadata("a.B", group="g")
        registry.come_back()
        assert await registry.metadata("a.B", group="g") == methods
        assert await registry.metadata("a.B") == ()

    on_virtual_time(work)


def test_a_pool_outlives_the_registrys_failures() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        providers = registry.another()
        async with (
            cluster.serve({"port": lambda _: b"1"}, "server:1", name=BEDS, registry=providers),
            cluster.connect(BEDS, registry=registry, on_full="fail", servers_min=1) as pool,
        ):
            assert await pool.call("port") == b"1"
            registry.drop_watches()
            # What vanishes now is not heard of, and goes on serving.
            providers.lose_lease()
            await asyncio.sleep(10)
            assert await pool.call("port") == b"1"
            registry.come_back()
            await asyncio.sleep(10)
            with pytest.raises(cluster.UnavailableError):
                await pool.call("port")
            providers.come_back()
            await asyncio.sleep(1)
            registry.hang()
            assert await pool.call("port") == b"1"
            registry.come_back()
            registry.repeats = 3
            providers.lose_lease(again_s=0.5)
            await asyncio.sleep(2)
            assert await pool.call("port") == b"1"
        await providers.close()

    on_virtual_time(work)


def test_a_consumer_of_dubbo_learns_of_a_provider_late() -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        provider = DubboProvider("a.B", {"hash": 7}, host="provider", port=20880)
        async with provider, dubbo.Client(registry, on_full="wait", timeout_ms=60_000) as client:
            service = client.service("a.B")
            registry.delay_s = 20
            await registry.register(provider.registration())
            before_s = loop.time()
            assert await service.hash("abc") == 7
            assert 20 <= loop.time() - before_s < 21

    on_virtual_time(work)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda registry: registry.lose_lease("server:9"), "lose_lease: server:9 does not stand"),
        (lambda registry: registry.forget(9), "forget: expected a Registration or host:port"),
        (lambda registry: registry.forget(endpoint(9)), "server:9 does not stand, but server:1"),
        (lambda registry: registry.refuse(""), "why: expected 1 to"),
        (lambda registry: setattr(registry, "delay_s", -1), "delay_s: expected a number"),
        (lambda registry: setattr(registry, "repeats", 1.5), "repeats: expected a whole number"),
        (lambda registry: registry.lose_lease(again_s="1"), "again_s: expected a number"),
    ],
)
def test_misuse_is_one_line(wrong: Callable[[FailingRegistry], object], words: str) -> None:
    async def work(loop: SimulatedLoop, registry: FailingRegistry) -> None:
        await registry.register(endpoint(1))
        with pytest.raises(UsageError, match=words) as caught:
            wrong(registry)
        assert "\n" not in str(caught.value)

    on_virtual_time(work)


def test_a_name_is_text() -> None:
    with pytest.raises(UsageError, match="name: expected"):
        FailingRegistry("")
