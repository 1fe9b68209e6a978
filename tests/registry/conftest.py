"""A real etcd for the session's gentle tests, and worlds in which each implementation is tried."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.harness.etcd import EtcdServer
from dragoman.registry import Registration, Registry, open_registry
from dragoman.registry.memory import MemoryRegistry
from dragoman.registry.nacos import NacosRegistry, NacosSettings
from dragoman.registry.url import parse_nacos
from dragoman.testing import FailingRegistry

from .fake_nacos import FakeNacos
from .zookeeper_server import ZookeeperServer

INTERFACE = "com.example.IHello"
_serial = itertools.count()


def endpoint(port: int, *, interface: str = INTERFACE, weight: int = 1) -> Registration:
    return Registration(interface=interface, host="127.0.0.1", port=port, weight=weight)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """A server that no test disturbs."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def etcd_url(etcd: EtcdServer) -> str:
    """The undisturbed server, with a prefix of the test's own."""
    return f"{etcd.registry_url}/test{next(_serial)}/services"


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """A server for this test alone, to be started, stopped and broken by it."""
    server = EtcdServer(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZookeeperServer]:
    """A server that no test disturbs."""
    server = ZookeeperServer(tmp_path_factory.mktemp("zookeeper"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def zookeeper_url(zookeeper: ZookeeperServer) -> str:
    """The undisturbed server, with a root of the test's own."""
    return f"{zookeeper.url}/test{next(_serial)}/dubbo"


@pytest.fixture(scope="session")
def nacos() -> Iterator[FakeNacos]:
    """A test double that no test disturbs."""
    server = FakeNacos().start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def nacos_url(nacos: FakeNacos) -> str:
    """The undisturbed double, with a namespace of the test's own."""
    return f"{nacos.url}?namespace=test{next(_serial)}"


@pytest.fixture
def own_zookeeper(tmp_path: Path) -> Iterator[ZookeeperServer]:
    """A server for this test alone, running, to be stopped and broken by it."""
    server = ZookeeperServer(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class World:
    """One implementation; registries opened in one world see the same entries."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self._failing = FailingRegistry() if kind == "failing" else None

    def open(self) -> Registry:
        if self._failing is not None:
            return self._failing.another()
        if self.kind == "nacos":
            # Which is asked again and again: often, so that tests need not wait.
            place = parse_nacos(self.url.partition("://")[2])
            settings = NacosSettings(ttl_s=3.0, poll_s=0.05)
            return NacosRegistry(place.hosts, namespace=place.namespace, settings=settings)
        return open_registry(self.url, lease_ttl_s=3)


@pytest.fixture(params=["memory", "failing", "etcd", "zookeeper", "nacos"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every implementation that takes registrations."""
    if request.param == "failing":
        yield World("failing", "")
        return
    if request.param != "memory":
        yield World(request.param, request.getfixturevalue(f"{request.param}_url"))
        return
    name = f"world{next(_serial)}"
    yield World("memory", f"memory://{name}")
    MemoryRegistry.forget(name)


@pytest.fixture(params=["memory", "failing", "etcd", "zookeeper", "nacos", "static"])
def filled_world(request: pytest.FixtureRequest) -> Iterator[tuple[World, list[Registration]]]:
    """Every implementation, already holding two endpoints of INTERFACE."""
    endpoints = [endpoint(30000, weight=2), endpoint(30001, weight=3)]
    if request.param == "static":
        url = "static://127.0.0.1:30000?weight=2,127.0.0.1:30001?weight=3"
        yield World("static", url), endpoints
        return
    if request.param == "failing":
        world = World("failing", "")
    elif request.param != "memory":
        world = World(request.param, request.getfixturevalue(f"{request.param}_url"))
    else:
        world = World("memory", f"memory://world{next(_serial)}")
    with asyncio.Runner() as runner:

        async def fill() -> Registry:
            registry = world.open()
            for each in endpoints:
                await (await registry.register(each)).ready(5)
            return registry

        registry = runner.run(fill())
        yield world, endpoints
        runner.run(registry.close())
