"""The SDK with a real ZooKeeper: providers and consumers find each other as Java's do."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from kazoo.client import KazooClient

from dragoman import dubbo
from dragoman.cli.main import run
from dragoman.registry import open_registry
from tests.registry.zookeeper_server import ZookeeperServer

HELLO = "com.example.Hello"


@dubbo.service(HELLO, version="1.0")
class Hello:
    async def hash(self, text: str) -> int:
        return len(text)

    async def total(self, values: list[dubbo.java.Long]) -> dubbo.java.long:
        return sum(values)


@dubbo.service(HELLO, version="2.0", group="g")
class Newer:
    async def hash(self, text: str) -> int:
        return -len(text)


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZookeeperServer]:
    server = ZookeeperServer(tmp_path_factory.mktemp("zookeeper"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def nodes(zookeeper: ZookeeperServer) -> Iterator[KazooClient]:
    """ZooKeeper as Java's programs see it."""
    client = KazooClient(hosts=f"127.0.0.1:{zookeeper.port}")
    client.start()
    yield client
    client.stop()
    client.close()


def test_services_are_registered_as_java_does_and_leave_before_they_stop(
    zookeeper: ZookeeperServer, nodes: KazooClient
) -> None:
    async def main() -> None:
        async with await dubbo.serve([Hello(), Newer()], 0, registry=zookeeper.url) as server:
            listed = nodes.get_children(f"/dubbo/{HELLO}/providers")
            urls = sorted(unquote(each) for each in listed)
            assert len(urls) == 2
            assert all(url.startswith(f"dubbo://{server.address}/{HELLO}?") for url in urls)
            said = [dict(part.split("=") for part in url.split("?")[1].split("&")) for url in urls]
            old, new = sorted(said, key=lambda each: each["version"])
            assert (old["version"], old["methods"], old["weight"]) == ("1.0", "hash,total", "100")
            assert (new["version"], new["group"], new["methods"]) == ("2.0", "g", "hash")
            assert (old["side"], old["serialization"], old["dubbo"]) == (
                "provider",
                "hessian2",
                "2.0.2",
            )
            async with dubbo.Client(zookeeper.url) as client:
                assert await client.service(Hello).hash("abc") == 3
                assert await client.service(Newer).hash("abc") == -3
                with pytest.raises(dubbo.UnavailableError):
                    await client.service(HELLO, version="3.0").hash("abc")
                assert len((await client.services())[HELLO]) == 2
        assert nodes.get_children(f"/dubbo/{HELLO}/providers") == []

    asyncio.run(main())


async def published(zookeeper: ZookeeperServer, version: str, group: str = "") -> list[Any]:
    """What is published of the service, as soon as something is."""
    async with asyncio.timeout(30):
        while True:
            registry = open_registry(zookeeper.url)
            found = await registry.metadata(HELLO, version=version, group=group)
            await registry.close()
            if found:
                return list(found)
            await asyncio.sleep(0.05)


def test_the_types_of_methods_are_published_where_java_does(
    zookeeper: ZookeeperServer, nodes: KazooClient
) -> None:
    async def main() -> None:
        async with await dubbo.serve([Hello(), Newer()], 0, registry=zookeeper.url):
            hash_, total = await published(zookeeper, "1.0")
            assert (hash_.name, hash_.parameter_types) == ("hash", ("java.lang.String",))
            assert hash_.return_type == "int"
            assert (total.name, total.parameter_types) == ("total", ("java.util.List",))
            assert total.return_type == "long"
            await published(zookeeper, "2.0", "g")
        # As Java's, it stays: other providers of the service may be there.
        path = f"/dubbo/metadata/{HELLO}/2.0/g/provider/dragoman"
        described = json.loads(nodes.get(path)[0])
        assert described["canonicalName"] == HELLO
        assert described["parameters"]["group"] == "g"
        assert [each["name"] for each in described["methods"]] == ["hash"]

    asyncio.run(main())


def test_what_was_published_is_there_again_when_zookeeper_has_lost_it(tmp_path: Path) -> None:
    async def main() -> None:
        server = ZookeeperServer(tmp_path / "first")
        server.start()
        try:
            async with await dubbo.serve(Hello(), 0, registry=server.url):
                await published(server, "1.0")
                server.kill()
                shutil.rmtree(tmp_path / "first")
                server.start()
                await published(server, "1.0")
        finally:
            server.kill()

    asyncio.run(main())


def test_a_provider_that_comes_later_is_found(zookeeper: ZookeeperServer) -> None:
    async def main() -> None:
        async with dubbo.Client(zookeeper.url, on_full="wait", timeout_ms=15_000) as client:
            waiting = client.service(Hello).hash("abc")
            await asyncio.sleep(0.2)
            async with await dubbo.serve(Hello(), 0, registry=zookeeper.url):
                assert await waiting == 3

    asyncio.run(main())


def test_the_command_line_takes_the_types_that_providers_publish(
    zookeeper: ZookeeperServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[int] = []

    async def main() -> None:
        async with await dubbo.serve(Hello(), 0, registry=zookeeper.url):
            await published(zookeeper, "1.0")
            started.append(await asyncio.to_thread(call))

    def call() -> int:
        arguments = ["call", HELLO, "hash", "77", "--registry", zookeeper.url, "--version", "1.0"]
        monkeypatch.setattr(sys, "argv", ["dragoman", *arguments])
        with pytest.raises(SystemExit) as caught:
            run()
        return int(caught.value.code or 0)

    asyncio.run(main())
    assert (started, capsys.readouterr().out) == ([0], "2\n")


def test_two_services_of_one_interface_cannot_share_a_port_in_other_registries() -> None:
    async def main() -> None:
        with pytest.raises(dubbo.UsageError, match="on a port of its own"):
            await dubbo.serve([Hello(), Newer()], 0, registry="memory://here")
        async with await dubbo.serve(Hello(), 0, registry="memory://here") as server:
            (registration,) = server.registrations
            assert (registration.weight, registration.methods) == (1, ("hash", "total"))

    asyncio.run(main())
