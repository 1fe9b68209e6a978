"""ZooKeeper and Nacos with ten thousand entries of one interface: they are read, followed and
deleted without a long piece of work on the loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import uvloop
from kazoo.client import KazooClient

from dragoman.registry import open_registry
from dragoman.registry.changes import Change
from tests.slices import Slices
from tests.waiting import until

from .fake_nacos import FakeNacos

COUNT = 10_000
INTERFACE = "com.example.Many"
LONGEST_MS = 20.0


async def follow(url: str, put: Callable[[], None], delete: Callable[[], None]) -> float:
    """The longest piece of work while the entries come and go."""
    registry = open_registry(url)
    there: set[str] = set()

    def take(changes: list[Change]) -> None:
        for before, now in changes:
            if before is not None:
                there.discard(before.address)
            if now is not None:
                there.add(now.address)

    watch = registry.watch_services(take)
    await asyncio.to_thread(put)
    gc.disable()
    async with Slices() as slices:
        await until(lambda: len(there) == COUNT, 120.0)
        await asyncio.sleep(1.5)  # it is read again
        assert registry.statistics().endpoints == COUNT
        await asyncio.to_thread(delete)
        await until(lambda: len(there) == 0, 120.0)
    gc.enable()
    await watch.close()
    await registry.close()
    return slices.longest_ms


def test_ten_thousand_entries_in_nacos_hold_nobody_up() -> None:
    server = FakeNacos().start()
    name = f"providers:{INTERFACE}::"
    entries: list[object] = [
        {
            "ip": f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
            "port": 20880,
            "metadata": {"interface": INTERFACE, "path": INTERFACE, "methods": "a,b,c"},
        }
        for n in range(COUNT)
    ]

    def put() -> None:
        server._services["public", "DEFAULT_GROUP", name] = {}
        server.hostile[name] = entries

    def delete() -> None:
        server.hostile[name] = []

    try:
        longest_ms = uvloop.run(follow(server.url, put, delete))
    finally:
        server.stop()
    assert longest_ms <= LONGEST_MS, longest_ms


def test_ten_thousand_entries_in_zookeeper_hold_nobody_up(zookeeper_url: str) -> None:
    parts = urlsplit(zookeeper_url)
    folder = f"{parts.path}/{INTERFACE}/providers"
    urls = [
        f"dubbo://10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}:20880/{INTERFACE}?methods=a"
        for n in range(COUNT)
    ]
    paths = [f"{folder}/{quote(url, safe='')}" for url in urls]
    client = KazooClient(parts.netloc)
    client.start()

    def all_of(act: str) -> None:
        for first in range(0, COUNT, 500):
            transaction = client.transaction()
            for path in paths[first : first + 500]:
                getattr(transaction, act)(path)
            assert not [each for each in transaction.commit() if isinstance(each, Exception)]

    def put() -> None:
        client.ensure_path(folder)
        all_of("create")

    try:
        longest_ms = uvloop.run(follow(zookeeper_url, put, lambda: all_of("delete")))
    finally:
        client.stop()
        client.close()
    assert longest_ms <= LONGEST_MS, longest_ms
