"""What can happen to the registry, on a real etcd that is killed, stopped, wiped and cut off.

What every test here watches: the list is never empty while providers live, no key is ever without a
lease, and what was lost stands again within 1 s of etcd answering.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from dragoman.errors import RegistryError
from dragoman.harness.etcd import EtcdServer
from dragoman.registry import Registration
from dragoman.registry.etcd import DEFAULT_PREFIX, EtcdRegistry
from dragoman.registry.etcd_lease import LeaseSettings
from dragoman.registry.etcd_watch import WatchSettings
from dragoman.registry.gateway import EtcdGateway, KeyValue, LeaseNotFound, range_end
from tests.load_factor import load_factor
from tests.waiting import until

from .conftest import INTERFACE, endpoint
from .proxy import proxy_to

# As the defaults, with shorter waits where a test would have to sit them out.
WATCH = WatchSettings(audit_s=0.4, settle_s=0.2, reconcile_s=2.0, grace_s=1.2)
TTL_S = 1
ROOT = Path(__file__).resolve().parents[2]
PREFIX_BYTES = f"{DEFAULT_PREFIX}/".encode()


def registry_at(*urls: str, prefix: str = DEFAULT_PREFIX) -> EtcdRegistry:
    return EtcdRegistry(
        list(urls), prefix=prefix, watch=WATCH, lease=LeaseSettings(ttl_s=TTL_S), timeout_s=0.7
    )


async def keys_of(gateway: EtcdGateway) -> list[KeyValue]:
    return (await gateway.range(PREFIX_BYTES, range_end(PREFIX_BYTES))).kvs


@asynccontextmanager
async def opened(*urls: str, prefix: str = DEFAULT_PREFIX) -> AsyncIterator[EtcdRegistry]:
    registry = registry_at(*urls, prefix=prefix)
    try:
        yield registry
    finally:
        await registry.close()


class Mesh:
    """One provider's registry with two endpoints, one consumer's that watches them."""

    def __init__(self, url: str) -> None:
        self.provider = registry_at(url)
        self.consumer = registry_at(url)
        self.seen: list[list[int]] = []
        self.watch = self.consumer.watch(INTERFACE, self._note)

    def _note(self, snapshot: list[Registration]) -> None:
        self.seen.append([each.port for each in snapshot])

    async def settle(self) -> None:
        for port in (1, 2):
            await (await self.provider.register(endpoint(port))).ready(5)
        await until(lambda: self.ports == [1, 2] and self.consumer.healthy)
        self.seen.clear()

    @property
    def ports(self) -> list[int]:
        return [each.port for each in self.watch.current]

    async def stands_again(self, gateway: EtcdGateway, within_s: float) -> None:
        """Both keys are in etcd, under a lease, ``within_s`` of now."""
        began_s = time.monotonic()
        while True:
            kvs = await keys_of(gateway)
            assert all(kv.lease for kv in kvs), "a key without a lease would stay for ever"
            if len(kvs) == 2:
                return
            assert time.monotonic() - began_s < within_s * load_factor()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def mesh(url: str) -> AsyncIterator[Mesh]:
    world = Mesh(url)
    try:
        await world.settle()
        yield world
    finally:
        await world.provider.close()
        await world.consumer.close()


@asynccontextmanager
async def gateway_to(server: EtcdServer) -> AsyncIterator[EtcdGateway]:
    gateway = EtcdGateway([server.client_url])
    try:
        yield gateway
    finally:
        await gateway.close()


def test_etcd_down_at_start_is_waited_for(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with opened(own_etcd.client_url) as registry:
            watch = registry.watch(INTERFACE)
            handle = await registry.register(endpoint(1))
            with pytest.raises(RegistryError, match=r"no list of .* 0.2 s: .*cannot connect"):
                await watch.ready(0.2)
            with pytest.raises(RegistryError, match=r"not registered within 0.1 s: .*connect"):
                await handle.ready(0.1)
            assert not watch.has_snapshot
            assert not registry.healthy
            with pytest.raises(RegistryError, match="cannot connect"):
                await registry.services()
            await own_etcd.start()
            await handle.ready(1.5)
            await watch.ready(1.5)
            await until(lambda: watch.current == [endpoint(1)], 1)
            await until(lambda: registry.healthy, 1)

    uvloop.run(scenario())


def test_the_list_serves_on_while_etcd_is_killed_and_converges_after(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world:
            own_etcd.kill()
            await until(lambda: not world.consumer.healthy)
            await asyncio.sleep(1.0)
            assert world.ports == [1, 2]
            await own_etcd.start()
            await (await world.provider.register(endpoint(3))).ready(2)
            await until(lambda: world.ports == [1, 2, 3] and world.consumer.healthy, 2)
            assert world.seen == [[1, 2, 3]]
            assert world.provider.statistics().leases_lost_total == 0

    uvloop.run(scenario())


def test_etcd_that_comes_back_empty_is_filled_again_unseen(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world, gateway_to(own_etcd) as gateway:
            own_etcd.kill()
            own_etcd.wipe()
            await own_etcd.start()
            await world.stands_again(gateway, 1.0)
            await until(lambda: world.consumer.healthy, 2)
            await asyncio.sleep(WATCH.grace_s + 0.3)
            # The revision went back, the keys were gone for a while: no consumer saw any of it.
            assert world.seen == []
            assert world.provider.statistics().leases_lost_total == 1
            # And the watch follows the new data.
            await (await world.provider.register(endpoint(3))).ready(2)
            await until(lambda: world.ports == [1, 2, 3], 2)

    uvloop.run(scenario())


def test_etcd_that_hangs_longer_than_every_lease_costs_no_endpoint(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world, gateway_to(own_etcd) as gateway:
            own_etcd.pause()
            await until(lambda: not world.consumer.healthy)
            await asyncio.sleep(TTL_S + 1.0)
            assert world.ports == [1, 2]
            own_etcd.resume()
            await until(lambda: world.consumer.healthy and world.provider.healthy, 2)
            await world.stands_again(gateway, 1.0)
            await asyncio.sleep(WATCH.grace_s)
            assert world.seen == []

    uvloop.run(scenario())


def test_a_revoked_lease_is_replaced_within_a_second(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world, gateway_to(own_etcd) as gateway:
            await gateway.lease_revoke(world.provider._lease.lease)
            await world.stands_again(gateway, 1.0)
            assert world.provider.statistics().leases_lost_total == 1
            assert world.seen == []

    uvloop.run(scenario())


def test_a_deleted_key_is_put_again_within_a_second(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world, gateway_to(own_etcd) as gateway:
            key = endpoint(1).key(DEFAULT_PREFIX).encode()
            await gateway.txn([], [{"request_delete_range": {"key": key}}])
            await world.stands_again(gateway, 1.0)
            assert world.provider.statistics().leases_lost_total == 0
            assert world.seen == []

    uvloop.run(scenario())


def test_a_lease_is_kept_alive_beyond_its_time(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with mesh(own_etcd.client_url) as world:
            await asyncio.sleep(TTL_S * 1.5)
            assert world.provider.statistics().leases_lost_total == 0
            assert world.seen == []

    uvloop.run(scenario())


def test_a_put_under_a_lease_that_is_gone_is_refused(etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with gateway_to(etcd) as gateway:
            put = {"request_put": {"key": b"/gone", "value": b"", "lease": "12345"}}
            with pytest.raises(LeaseNotFound):
                await gateway.txn([], [put])
            assert (await gateway.range(b"/gone")).kvs == []

    uvloop.run(scenario())


REGISTER = """
import asyncio, sys
from dragoman.registry import Registration, open_registry
async def main():
    registry = open_registry(sys.argv[1], lease_ttl_s=int(sys.argv[2]))
    handle = await registry.register(Registration(interface=sys.argv[3], host="127.0.0.1", port=9))
    await handle.ready(5)
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@asynccontextmanager
async def registering_process(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        REGISTER,
        url,
        str(TTL_S),
        INTERFACE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_a_stopped_process_is_registered_again_within_a_second_of_going_on(
    own_etcd: EtcdServer,
) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with (
            opened(own_etcd.client_url) as consumer,
            gateway_to(own_etcd) as gateway,
            registering_process(own_etcd.registry_url) as process,
        ):
            watch = consumer.watch(INTERFACE)
            await until(lambda: len(watch.current) == 1)
            process.send_signal(signal.SIGSTOP)
            await until(lambda: watch.current == [], TTL_S + 2 + WATCH.grace_s)
            process.send_signal(signal.SIGCONT)
            await until(lambda: len(watch.current) == 1, 1.0)
            (kv,) = await keys_of(gateway)
            assert kv.lease

    uvloop.run(scenario())


def test_the_key_of_a_killed_process_is_gone_within_its_lease_and_2_s(
    own_etcd: EtcdServer,
) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with (
            gateway_to(own_etcd) as gateway,
            registering_process(own_etcd.registry_url) as process,
        ):
            process.kill()
            async with asyncio.timeout(TTL_S + 2):
                while await keys_of(gateway):
                    await asyncio.sleep(0.05)

    uvloop.run(scenario())


def test_a_compaction_while_the_watch_was_away_hides_no_deletion(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with (
            opened(own_etcd.client_url) as provider,
            proxy_to(own_etcd.client_port) as proxy,
            gateway_to(own_etcd) as gateway,
            opened(proxy.url) as consumer,
        ):
            handle = await provider.register(endpoint(1))
            await handle.ready(5)
            await (await provider.register(endpoint(2))).ready(5)
            watch = consumer.watch(INTERFACE)
            await until(lambda: len(watch.current) == 2 and consumer.healthy)
            proxy.refuse()
            await handle.unregister()
            reply = await gateway.range(b"/x")
            await gateway.compact(reply.header.revision)
            assert len(watch.current) == 2
            proxy.heal()
            await until(lambda: watch.current == [endpoint(2)], WATCH.grace_s + 2)
            assert consumer.statistics().compactions_total == 1

    uvloop.run(scenario())


def test_a_watch_that_hangs_is_found_out_and_replaced(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with (
            opened(own_etcd.client_url) as provider,
            proxy_to(own_etcd.client_port) as proxy,
            opened(proxy.url) as consumer,
        ):
            watch = consumer.watch(INTERFACE)
            await until(lambda: watch.has_snapshot and consumer.healthy)
            assert proxy.freeze_watches() == 1
            await (await provider.register(endpoint(1))).ready(5)
            await until(lambda: watch.current == [endpoint(1)], 2)
            assert consumer.statistics().repairs_total == 1
            await until(lambda: consumer.healthy)

    uvloop.run(scenario())


def test_a_split_network_keeps_the_list_and_heals(own_etcd: EtcdServer) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        async with (
            opened(own_etcd.client_url) as provider,
            proxy_to(own_etcd.client_port) as proxy,
            opened(proxy.url) as consumer,
        ):
            await (await provider.register(endpoint(1))).ready(5)
            watch = consumer.watch(INTERFACE)
            await until(lambda: watch.current == [endpoint(1)] and consumer.healthy)
            proxy.freeze_all()
            await until(lambda: not consumer.healthy, 3)
            proxy.refuse()
            await (await provider.register(endpoint(2))).ready(5)
            await asyncio.sleep(0.5)
            assert watch.current == [endpoint(1)]
            # Tried again and again, but not in a storm.
            assert proxy.accepted_total < 30
            proxy.heal()
            await until(lambda: watch.current == [endpoint(1), endpoint(2)], 2)

    uvloop.run(scenario())


def test_malformed_entries_are_set_aside_and_hide_no_good_one(etcd: EtcdServer) -> None:
    async def scenario() -> None:
        prefix = "/malformed"
        bad = {
            f"{INTERFACE}/127.0.0.1:30000": b"\xff\xfenot JSON",
            f"{INTERFACE}/127.0.0.1:30001": b'{"weight": -1}',
            f"{INTERFACE}/127.0.0.1:30002": b"[" * 16000,
            f"{INTERFACE}/127.0.0.1": b"{}",
            f"{INTERFACE}/a/b:1": b"{}",
            f"{INTERFACE}/": b"{}",
            f"{INTERFACE}/127.0.0.1:30003": b" " * 20000,
        }
        async with (
            gateway_to(etcd) as gateway,
            opened(etcd.client_url, prefix=prefix) as registry,
        ):
            watch = registry.watch(INTERFACE)

            async def put(key: str, value: bytes) -> None:
                await gateway.txn(
                    [], [{"request_put": {"key": f"{prefix}/{key}".encode(), "value": value}}]
                )

            for key, value in bad.items():
                await put(key, value)
            await (await registry.register(endpoint(30009))).ready(5)
            # Without a value, as other writers of the contest's layout leave it.
            await put(f"{INTERFACE}/127.0.0.1:30008", b"")
            await until(lambda: len(watch.current) == 2)
            assert [each.port for each in watch.current] == [30008, 30009]
            await until(lambda: registry.statistics().malformed_entries == len(bad))
            assert [each.port for each in (await registry.services())[INTERFACE]] == [30008, 30009]
            await put(f"{INTERFACE}/127.0.0.1:30001", b'{"weight": 1, "later": [1]}')
            await until(lambda: len(watch.current) == 3)
            assert registry.statistics().malformed_entries == len(bad) - 1

    uvloop.run(scenario())


def test_a_dead_member_of_the_list_is_passed_over(etcd: EtcdServer) -> None:
    async def scenario() -> None:
        async with opened("http://127.0.0.1:1", etcd.client_url, prefix="/members") as registry:
            watch = registry.watch(INTERFACE)
            await (await registry.register(endpoint(1))).ready(2)
            await until(lambda: watch.current == [endpoint(1)], 2)
            await until(lambda: registry.healthy)

    uvloop.run(scenario())


def test_a_cluster_that_loses_its_leader_keeps_everything(tmp_path: Path) -> None:
    async def scenario(servers: list[EtcdServer]) -> None:
        for server in servers:
            server.launch()
        for server in servers:
            await server.wait_healthy()
        async with opened(*(server.client_url for server in servers)) as registry:
            seen: list[list[Registration]] = []
            watch = registry.watch(INTERFACE, seen.append)
            await (await registry.register(endpoint(1))).ready(5)
            await until(lambda: watch.current == [endpoint(1)] and registry.healthy)
            seen.clear()
            servers[0].kill()
            await (await registry.register(endpoint(2))).ready(5)
            await until(lambda: watch.current == [endpoint(1), endpoint(2)], 5)
            await until(lambda: registry.healthy)
            # No quorum: nothing can be asked, and nothing is lost.
            servers[1].kill()
            await until(lambda: not registry.healthy, 6)
            assert watch.current == [endpoint(1), endpoint(2)]
            await servers[1].start()
            await until(lambda: registry.healthy, 6)
            assert seen == [[endpoint(1), endpoint(2)]]

    servers = [EtcdServer(tmp_path / f"m{i}") for i in range(3)]
    peers = [f"m{i}=http://127.0.0.1:{server.peer_port}" for i, server in enumerate(servers)]
    for i, server in enumerate(servers):
        server.extra_args = (f"--name=m{i}", f"--initial-cluster={','.join(peers)}")
    try:
        uvloop.run(scenario(servers))
    finally:
        for server in servers:
            server.kill()
