"""What type checkers are to see of what is opened: checked by ``mypy --strict``, never run."""

from __future__ import annotations

import asyncio
from typing import Protocol, assert_type

from dragoman import broker, cluster, dubbo, rpc
from dragoman.queue import QueueStore

AT = "127.0.0.1:7000"


@rpc.service
class Accounts(Protocol):
    async def balance(self, account: str) -> int: ...


@rpc.service
class BlockingAccounts(Protocol):
    def balance(self, account: str) -> int: ...


async def both_uses(store: QueueStore) -> None:
    assert_type(await rpc.connect(AT), rpc.Client)
    async with rpc.connect(AT, timeout_ms=5) as client, rpc.serve({}, AT) as server:
        assert_type(client, rpc.Client)
        assert_type(server, rpc.Server)
    async with await rpc.connect(AT) as client:
        assert_type(client, rpc.Client)
    async with cluster.connect("s", endpoints=[AT]) as pool:
        assert_type(pool, cluster.Pool)
        assert_type(pool.service(Accounts), Accounts)
        assert_type(await rpc.with_options(pool.service(Accounts), timeout_ms=5).balance("x"), int)
    async with cluster.serve({}, AT, name="s", registry="etcd://a:1", threads=3) as registered:
        assert_type(registered, cluster.RegisteredServer)
    async with dubbo.serve([object()], AT) as provider, dubbo.Client("dubbo://a:1") as dubbed:
        assert_type(provider, dubbo.Server)
        assert_type(dubbed, dubbo.Client)
    assert_type(await dubbo.connect("dubbo://a:1"), dubbo.Client)
    async with dubbo.connect("dubbo://a:1", timeout_ms=None) as dubbed:
        assert_type(dubbed, dubbo.Client)
    async with broker.serve(store, AT) as served, broker.open_async(f"dragoman://{AT}") as other:
        assert_type(served, broker.BrokerServer)
        assert_type(await other.put("q", b"x"), int)
    assert_type(asyncio.create_task(rpc.connect(AT)), asyncio.Task[rpc.Client])


def blocking() -> None:
    with cluster.connect_sync("s", registry="etcd://a:1") as pool:
        assert_type(pool, cluster.SyncPool)
        assert_type(pool.service(BlockingAccounts).balance("x"), int)
        assert_type(pool.call("m"), bytes)
    with rpc.connect_sync(AT) as client:
        assert_type(client, rpc.SyncClient)


async def misspelt(services: object) -> None:
    await rpc.connect(AT, timeout=5)  # type: ignore[call-arg]
    await rpc.serve({}, AT, limits=5)  # type: ignore[call-arg]
    rpc.connect_sync(AT, reconnects=True)  # type: ignore[call-arg]
    await cluster.connect("s", registery="etcd://a:1")  # type: ignore[call-arg]
    cluster.connect_sync("s", registery="etcd://a:1")  # type: ignore[call-arg]
    await cluster.serve({}, AT, name="s", registry="x", thread=3)  # type: ignore[call-arg]
    await cluster.serve({}, AT, name="s", registry="x", threads="3")  # type: ignore[arg-type]
    dubbo.Client("dubbo://a:1", timeout=5)  # type: ignore[call-arg]
    dubbo.SyncClient("dubbo://a:1", timeout=5)  # type: ignore[call-arg]
    dubbo.connect_sync("dubbo://a:1", timeout=5)  # type: ignore[call-arg]
    await dubbo.serve(services, 0, limits=3)  # type: ignore[call-arg]
    dubbo.run(services, 0, limits=3)  # type: ignore[call-arg]
    dubbo.connect_sync("dubbo://a:1").service("x").with_options(time=5)  # type: ignore[call-arg]
    rpc.connect(AT).call("m")  # type: ignore[attr-defined]
