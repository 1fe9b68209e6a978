"""Registrations in etcd are watched over by streams: little is asked, and what happens is seen at
once, also where streams cannot be had, hang, or tell of others.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop

from dragoman.harness.etcd import EtcdServer
from dragoman.registry.etcd import EtcdRegistry
from dragoman.registry.etcd_lease import LeaseSettings
from dragoman.registry.etcd_sentinel import STREAMS_MAX
from dragoman.registry.gateway import EtcdGateway, WatchReply
from tests.load_factor import load_factor
from tests.waiting import until

from .conftest import endpoint

# Long enough that neither a renewal nor a look in between explains what is seen.
TTL_S = 60
_prefixes = (f"/sentinel{number}/services" for number in itertools.count())


@asynccontextmanager
async def registered(etcd: EtcdServer, ports: int, **times: float) -> AsyncIterator[EtcdRegistry]:
    """A registry with so many entries, which all stand."""
    registry = EtcdRegistry(
        [etcd.client_url],
        prefix=next(_prefixes),
        lease=LeaseSettings(ttl_s=TTL_S, **times),  # type: ignore[arg-type]
    )
    try:
        for port in range(1, ports + 1):
            await (await registry.register(endpoint(port))).ready(10)
        yield registry
    finally:
        await registry.close()


class Asked:
    """Counts how often it is asked whether the lease holds the keys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        ask = EtcdGateway.lease_keys

        async def counted(gateway: EtcdGateway, lease: int) -> list[bytes]:
            self.times += 1
            return await ask(gateway, lease)

        monkeypatch.setattr(EtcdGateway, "lease_keys", counted)

    async def in_peace(self, seconds: float) -> int:
        """How often in so many seconds, once it has been quiet for half of one."""
        async with asyncio.timeout(10 * load_factor()):
            while True:
                before = self.times
                await asyncio.sleep(0.5)
                if self.times == before:
                    break
        before = self.times
        await asyncio.sleep(seconds)
        return self.times - before


async def put_again_within_s(etcd: EtcdServer, key: bytes) -> float:
    """Delete an entry; how long until it is there again."""
    gateway = EtcdGateway([etcd.client_url])
    try:
        await gateway.txn([], [{"request_delete_range": {"key": key}}])
        began_s = time.monotonic()
        async with asyncio.timeout(10 * load_factor()):
            while not (await gateway.range(key, b"")).kvs:
                await asyncio.sleep(0.005)
        return time.monotonic() - began_s
    finally:
        await gateway.close()


def test_nothing_is_asked_while_nothing_happens(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)

    async def work() -> None:
        async with registered(etcd, 3):
            assert await asked.in_peace(2.5) == 0

    uvloop.run(work())


@pytest.mark.parametrize("entries", [1, STREAMS_MAX])
def test_an_entry_that_is_deleted_is_put_again_at_once(etcd: EtcdServer, entries: int) -> None:
    async def work() -> None:
        async with registered(etcd, entries) as registry:
            for handle in registry._lease.handles():
                assert await put_again_within_s(etcd, handle.key) < 0.5 * load_factor()

    uvloop.run(work())


def test_the_end_of_the_lease_is_seen_at_once(etcd: EtcdServer) -> None:
    async def work() -> None:
        async with registered(etcd, 2) as registry:
            gateway = EtcdGateway([etcd.client_url])
            await gateway.lease_revoke(registry._lease.lease)
            await gateway.close()
            await until(lambda: registry.statistics().leases_lost_total == 1, 1.0)
            await until(lambda: registry.statistics().registered == 2, 1.0)

    uvloop.run(work())


def test_who_registers_more_than_it_can_watch_asks_as_before(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)

    async def work() -> None:
        async with registered(etcd, STREAMS_MAX + 1, check_s=0.1) as registry:
            before = asked.times
            await until(lambda: asked.times > before + 10)
            assert await put_again_within_s(etcd, registry._lease.handles()[-1].key) < load_factor()

    uvloop.run(work())


def test_streams_that_keep_silent_are_found_out_by_the_renewal_and_made_anew(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 0
    watch = EtcdGateway.watch

    async def deaf(
        gateway: EtcdGateway, key: bytes, end: bytes, revision: int
    ) -> AsyncIterator[WatchReply]:
        nonlocal starts
        starts += 1
        async for reply in watch(gateway, key, end, revision):
            yield reply
            await asyncio.Event().wait()

    monkeypatch.setattr(EtcdGateway, "watch", deaf)

    async def work() -> None:
        async with registered(etcd, 1) as registry:
            lease = registry._lease
            await until(lambda: lease._sentinel.watches(lease._handles))
            await asyncio.sleep(0.2)
            before = starts
            lease._renew_at_s = asyncio.get_running_loop().time() + 0.5
            lease._wake.set()
            assert await put_again_within_s(etcd, lease.handles()[0].key) < 2 * load_factor()
            await until(lambda: starts > before)

    uvloop.run(work())


def test_an_entry_that_another_has_taken_is_left_alone_without_asking_on_and_on(
    etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)

    async def work() -> None:
        async with registered(etcd, 2) as registry:
            other = EtcdRegistry([etcd.client_url], prefix=registry._lease._prefix)
            await (await other.register(endpoint(1))).ready(5)
            await until(lambda: registry.statistics().conflicts_total == 1)
            assert await asked.in_peace(1.5) <= 2
            # When it goes, ours stands again.
            await other.close()
            await until(lambda: registry.statistics().registered == 2, 2.0)

    uvloop.run(work())


def test_etcd_that_comes_back_is_watched_again(own_etcd: EtcdServer) -> None:
    async def work() -> None:
        await own_etcd.start()
        async with registered(own_etcd, 1) as registry:
            lease = registry._lease
            await until(lambda: lease._sentinel.watches(lease._handles))
            own_etcd.kill()
            await until(lambda: not lease._sentinel.watches(lease._handles))
            await own_etcd.start()
            await until(lambda: lease._sentinel.watches(lease._handles), 10)
            assert registry.statistics().registered == 1

    uvloop.run(work())


def test_what_is_withdrawn_is_watched_no_more(etcd: EtcdServer) -> None:
    async def work() -> None:
        async with registered(etcd, 2) as registry:
            lease = registry._lease
            await until(lambda: lease._sentinel.watches(lease._handles))
            first, second = lease.handles()
            await first.unregister(timeout_s=5)
            await until(lambda: list(lease._sentinel._tasks) == [second.key])
            await second.unregister(timeout_s=5)
            await until(lambda: not lease._sentinel._tasks)

    uvloop.run(work())
