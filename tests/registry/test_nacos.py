"""Dubbo's registry in Nacos, against a test double of its server: see ``fake_nacos``."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator

import msgspec
import pytest
import uvloop

from dragoman.errors import RegistryError, UsageError
from dragoman.registry import Registration, check_registry_url, open_registry
from dragoman.registry.nacos import NacosRegistry, NacosSettings
from dragoman.registry.nacos_client import PAGE
from dragoman.registry.names import EVERY
from dragoman.registry.url import parse_nacos, redact_url
from tests.load_factor import load_factor
from tests.waiting import until

from .conftest import INTERFACE, endpoint
from .fake_nacos import FakeNacos

QUICK = NacosSettings(ttl_s=0.6, poll_s=0.05, grace_s=1.0, backoff_max_s=0.1, timeout_s=1.0)


@pytest.fixture
def own_nacos() -> Iterator[FakeNacos]:
    server = FakeNacos().start()
    try:
        yield server
    finally:
        server.stop()


def opened(server: FakeNacos) -> NacosRegistry:
    return NacosRegistry([f"127.0.0.1:{server.port}"], settings=QUICK)


def java_registers(server: FakeNacos, port: int, service: str, **metadata: str) -> None:
    """As Dubbo's own registry does: the URL's parameters, category, path and protocol."""
    import json

    said = {
        "side": "provider",
        "category": "providers",
        "protocol": "dubbo",
        "path": INTERFACE,
        "interface": INTERFACE,
        "application": "shop",
        "dubbo": "2.0.2",
        "release": "2.7.23",
        "methods": "greet,hash",
        "timestamp": "1700000000000",
        **metadata,
    }
    query = urllib.parse.urlencode(
        {
            "serviceName": service,
            "ip": "127.0.0.1",
            "port": port,
            "ephemeral": "false",
            "metadata": json.dumps(said),
        }
    )
    url = f"http://127.0.0.1:{server.port}/nacos/v1/ns/instance?{query}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as reply:
        assert reply.read() == b"ok"


def test_a_url_names_hosts_path_namespace_group_and_user() -> None:
    plain = parse_nacos("h1")
    assert plain == (["h1:8848"], "/nacos", "", "DEFAULT_GROUP", "", "")
    full = parse_nacos("me:p%3Aw@h1:1,h2/ctx?namespace=dev&group=shop")
    assert full == (["h1:1", "h2:8848"], "/ctx", "dev", "shop", "me", "p:w")
    assert parse_nacos("h?username=me&password=pw")[4:] == ("me", "pw")
    for url in ("nacos://h?x=1", "nacos://h?username=me", "nacos://h:99999", "nacos://me@h"):
        with pytest.raises(UsageError, match="expected"):
            check_registry_url(url)
    assert redact_url("nacos://me:geheim@h?password=geheim") == "nacos://h"


def test_providers_that_java_registers_are_found(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        watch, everything = registry.watch(INTERFACE), registry.watch(EVERY)
        await watch.ready(5)

        def fill() -> None:
            java_registers(own_nacos, 20880, f"providers:{INTERFACE}::", weight="7")
            java_registers(
                *(own_nacos, 20880, f"providers:{INTERFACE}:1.0.0:blue"),
                version="1.0.0",
                group="blue",
            )
            java_registers(own_nacos, 20881, f"providers:{INTERFACE}::", protocol="tri")
            java_registers(own_nacos, 20882, f"providers:{INTERFACE}::", group="g" * 300)
            java_registers(own_nacos, 20883, f"consumers:{INTERFACE}::", side="consumer")

        await asyncio.to_thread(fill)
        await until(lambda: len(watch.current) == 3)
        plain, blue, tri = watch.current
        assert (plain.port, plain.weight, plain.protocol) == (20880, 7, "dubbo")
        assert (plain.methods, plain.serialization) == (("greet", "hash"), "hessian2")
        assert (blue.group, blue.version) == ("blue", "1.0.0")
        assert tri.protocol == "tri"
        assert everything.current == watch.current
        assert registry.statistics().malformed_entries == 1
        await registry.close()

    uvloop.run(scenario())


def test_the_metadata_says_path_token_and_defaults_and_one_bad_entry_harms_no_other(
    own_nacos: FakeNacos, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        watch = registry.watch(INTERFACE)
        await watch.ready(5)

        def fill() -> None:
            service = f"providers:{INTERFACE}::"
            java_registers(
                *(own_nacos, 20880, service),
                **{"path": "custom/path", "token": "sesame", "default.weight": "7"},
            )
            java_registers(own_nacos, 20881, service)
            own_nacos.hostile[service] = [
                *(7, {"ip": "127.0.0.1", "port": "x"}, {"ip": 5, "port": 1}, None),
                {"ip": "a b", "port": 20882, "metadata": {}},
                {"ip": "::1", "port": 20883, "metadata": {"x": 1}},
                {"ip": "fe80::1%eth0", "port": 20884, "metadata": {}},
            ]

        await asyncio.to_thread(fill)
        await until(lambda: len(watch.current) == 3)
        plain, other, scoped = watch.current
        assert (plain.port, plain.path) == (20880, "custom/path")
        assert (plain.token, plain.weight) == ("sesame", 7)
        assert (other.port, other.path, other.token) == (20881, "", "")
        assert (scoped.host, scoped.port) == ("fe80::1%eth0", 20884)
        await until(lambda: registry.statistics().malformed_entries == 6)
        await registry.close()

    with caplog.at_level(logging.WARNING):
        uvloop.run(scenario())
    assert "set aside: an entry of" in caplog.text and "sesame" not in caplog.text


def test_what_is_registered_is_what_java_looks_for(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        native = Registration(
            interface=INTERFACE,
            host="127.0.0.1",
            port=20880,
            weight=100,
            protocol="dubbo",
            serialization="hessian2",
            version="1.0.0",
            methods=("greet",),
            application="shop",
            release="3.3.0",
        )
        await (await registry.register(native)).ready(5)
        (service,) = await registry._client.services()
        assert service == f"providers:{INTERFACE}:1.0.0:"
        (instance,) = await registry._client.instances(service)
        said = instance.metadata
        assert (said["category"], said["protocol"], said["path"]) == (
            "providers",
            "dubbo",
            INTERFACE,
        )
        assert (said["side"], said["methods"], said["release"]) == ("provider", "greet", "3.3.0")
        assert await registry.services() == {INTERFACE: [native]}
        await registry.close()

    uvloop.run(scenario())


def test_heartbeats_keep_a_registration_and_a_lost_one_is_made_again(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = NacosRegistry(
            [f"127.0.0.1:{own_nacos.port}"],
            settings=msgspec.structs.replace(QUICK, ttl_s=1.5 * load_factor()),
        )
        handle = await registry.register(endpoint(30000))
        await handle.ready(30)
        until_s = time.monotonic() + 2.5 * load_factor()
        while time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            assert await registry.services() == {INTERFACE: [endpoint(30000)]}
        own_nacos._services.clear()
        await until(lambda: registry.statistics().leases_lost_total == 1)
        await until(lambda: handle.registered)
        assert await registry.services() == {INTERFACE: [endpoint(30000)]}
        await registry.close()

    uvloop.run(scenario())


def test_an_outage_changes_nothing_and_what_was_lost_in_it_comes_back(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        provider, consumer, mortal = opened(own_nacos), opened(own_nacos), opened(own_nacos)
        await (await provider.register(endpoint(30000))).ready(5)
        await (await mortal.register(endpoint(30001))).ready(5)
        seen: list[list[Registration]] = []
        watch = consumer.watch(INTERFACE, seen.append)
        await until(lambda: len(watch.current) == 2)
        seen.clear()
        await asyncio.to_thread(own_nacos.stop)
        await until(lambda: not consumer.healthy)
        await mortal.close()
        with pytest.raises(RegistryError):
            await consumer.services()
        assert len(watch.current) == 2
        await asyncio.to_thread(own_nacos.start)
        await until(lambda: consumer.healthy and provider.healthy)
        # The one that did not come back is dropped when the grace is over.
        await until(lambda: watch.current == [endpoint(30000)])
        assert seen == [[endpoint(30000)]]
        await provider.close()
        await consumer.close()

    uvloop.run(scenario())


def test_user_and_password_are_used_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeNacos(user="me", password="geheim").start()

    async def scenario() -> None:
        right = open_registry(server.url.replace("//", "//me:geheim@"))
        await (await right.register(endpoint(30000))).ready(5)
        assert await right.services() == {INTERFACE: [endpoint(30000)]}
        wrong = open_registry(server.url.replace("//", "//me:falsch@"))
        with pytest.raises(RegistryError, match="the login was refused"):
            await wrong.services()
        await wrong.watch(INTERFACE).close()
        assert "geheim" not in right.location
        await right.close()
        await wrong.close()

    try:
        with caplog.at_level(logging.DEBUG):
            uvloop.run(scenario())
    finally:
        server.stop()
    assert "geheim" not in caplog.text and "falsch" not in caplog.text
    assert "token-of" not in caplog.text


def fill(server: FakeNacos, interface: str, ports: Iterable[int], **metadata: str) -> None:
    """Have instances there, without asking for each."""
    said = {"category": "providers", "side": "provider", "interface": interface, **metadata}
    service = server._services.setdefault(
        ("public", "DEFAULT_GROUP", f"providers:{interface}::"), {}
    )
    for port in ports:
        service["127.0.0.1", port] = {
            "ip": "127.0.0.1",
            "port": port,
            "enabled": True,
            "ephemeral": False,
            "healthy": True,
            "metadata": said,
            "beat_s": 0.0,
        }


def test_a_list_that_comes_in_many_pieces_is_read_whole(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        fill(own_nacos, INTERFACE, range(20000, 24000), application="a" * 200)
        assert len((await registry.services())[INTERFACE]) == 4000
        await registry.close()

    uvloop.run(scenario())


@pytest.mark.parametrize("page_max", [1000, PAGE, 7])
def test_all_names_are_read_whatever_the_server_takes_for_a_page(
    own_nacos: FakeNacos, page_max: int
) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        own_nacos.page_max = page_max
        for number in range(30):
            fill(own_nacos, f"com.example.I{number:03}", [20880])
        assert len(await registry.services()) == 30
        await registry.close()

    uvloop.run(scenario())


def test_names_are_asked_for_once_however_many_interfaces_are_watched(
    own_nacos: FakeNacos,
) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        interfaces = [f"com.example.I{number:03}" for number in range(20)]
        for interface in interfaces:
            fill(own_nacos, interface, [20880])
        watches = [registry.watch(interface) for interface in interfaces]
        for watch in watches:
            await watch.ready(30)
        await until(lambda: own_nacos.names_asked >= 10, 30)
        assert own_nacos.lists_asked >= 15 * (own_nacos.names_asked - 1)
        await registry.close()

    uvloop.run(scenario())


def test_a_malformed_entry_that_is_gone_is_no_longer_counted(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        fill(own_nacos, INTERFACE, [20880], group="g" * 300)
        fill(own_nacos, "com.example.Gone", [20880, 20881], group="g" * 300)
        registry.watch(EVERY)
        await until(lambda: registry.statistics().malformed_entries == 3, 30)
        own_nacos._services["public", "DEFAULT_GROUP", f"providers:{INTERFACE}::"].clear()
        await until(lambda: registry.statistics().malformed_entries == 2, 30)
        del own_nacos._services["public", "DEFAULT_GROUP", "providers:com.example.Gone::"]
        await until(lambda: registry.statistics().malformed_entries == 0, 30)
        await registry.close()

    uvloop.run(scenario())


def test_what_cannot_be_registered_does_not_keep_the_others_from_it(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = opened(own_nacos)
        own_nacos.refused_ports.add(30000)
        refused = await registry.register(endpoint(30000))
        other = await registry.register(endpoint(30001))
        await other.ready(30)
        assert not refused.registered
        own_nacos.refused_ports.clear()
        await refused.ready(30)
        await registry.close()

    uvloop.run(scenario())


def test_who_leaves_while_being_registered_is_not_listed_afterwards(own_nacos: FakeNacos) -> None:
    async def scenario() -> None:
        registry = NacosRegistry([f"127.0.0.1:{own_nacos.port}"])
        own_nacos.gate = threading.Event()
        handle = await registry.register(endpoint(30000))
        assert await asyncio.to_thread(own_nacos.arrived.wait, 30)
        await handle.unregister()
        own_nacos.gate.set()
        await until(lambda: own_nacos.registered == 1, 30)
        key = ("public", "DEFAULT_GROUP", f"dragoman:{INTERFACE}::")
        # Sooner than it would vanish by itself.
        async with asyncio.timeout(NacosSettings().ttl_s * 0.8):
            while own_nacos._services[key]:
                await asyncio.sleep(0.01)
        await registry.close()

    uvloop.run(scenario())


def test_nobody_is_given_the_password_whom_the_server_points_to() -> None:
    told: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.readuntil(b"\r\n"))
        writer.close()

    async def scenario() -> None:
        other = await asyncio.start_server(elsewhere, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]

        async def pointing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 307 Over There\r\nContent-Length: 0\r\n"
                b"Location: http://127.0.0.1:%d/\r\n\r\n" % port
            )
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(pointing, "127.0.0.1", 0)
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        registry = NacosRegistry([place], user="me", password="geheim", settings=QUICK)
        with pytest.raises(RegistryError, match="status 307"):
            await registry.services()
        await registry.close()
        server.close()
        other.close()

    uvloop.run(scenario())
    assert told == []
