"""Dubbo's registry in a real ZooKeeper that others read and write too."""

from __future__ import annotations

import asyncio
import logging
import logging.config

import pytest
import uvloop
from kazoo.security import make_digest_acl

from dragoman.errors import RegistryError
from dragoman.registry import Registration, check_registry_url, open_registry
from dragoman.registry.methods import Method
from dragoman.registry.names import EVERY
from dragoman.registry.url import parse_zookeeper
from dragoman.registry.zookeeper import ZookeeperRegistry
from tests.registry.zookeeper_entries import (
    PATIENT,
    addresses,
    java,
    node,
    opened,
    provider_url,
    root_of,
)
from tests.waiting import until

from .conftest import INTERFACE, endpoint
from .zookeeper_server import ZookeeperServer


def test_a_url_names_hosts_root_and_user() -> None:
    assert parse_zookeeper("h1") == (["h1:2181"], "/dubbo", "", "")
    full = parse_zookeeper("ro%40ot:p%3Aw@h1:1,h2/shop/?backup=h3:3,h4")
    assert full == (["h1:1", "h2:2181", "h3:3", "h4:2181"], "/shop", "ro@ot", "p:w")
    for url in ("zookeeper://h:99999", "zookeeper://h/a b", "zookeeper://h?x=1", "zookeeper://u@h"):
        with pytest.raises(Exception, match="expected"):
            check_registry_url(url)


def test_providers_that_others_register_are_found_and_bad_ones_set_aside(
    zookeeper_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        root = root_of(zookeeper_url)
        watch = registry.watch(INTERFACE)
        everything = registry.watch(EVERY)
        await watch.ready(5)
        with java(zookeeper_url) as other:

            def put(url: str, category: str = "providers") -> str:
                path = node(root, url, category)
                other.create(path, ephemeral=True, makepath=True)
                return path

            first = await asyncio.to_thread(put, provider_url(20880, "&weight=7"))
            await asyncio.to_thread(put, provider_url(20881).replace("dubbo://", "tri://"))
            await asyncio.to_thread(put, provider_url(20882, "&disabled=true"))
            await asyncio.to_thread(put, "consumer://127.0.0.1/x?side=consumer")
            await asyncio.to_thread(put, provider_url(20884, "&group=" + "g" * 300))
            await asyncio.to_thread(put, provider_url(20883), "consumers")
            await until(lambda: len(watch.current) == 2)
            native, tri = watch.current
            assert (native.port, native.weight, native.protocol) == (20880, 7, "dubbo")
            assert (native.serialization, native.methods) == ("hessian2", ("hash",))
            assert tri.protocol == "tri"
            await until(lambda: everything.current == watch.current)
            await until(lambda: registry.statistics().malformed_entries == 2)
            assert await addresses(registry) == ["127.0.0.1:20880", "127.0.0.1:20881"]

            change = f"override://127.0.0.1:20880/{INTERFACE}?category=configurators&weight=30"
            override = await asyncio.to_thread(put, change, "configurators")
            await until(lambda: watch.current[0].weight == 30)
            await asyncio.to_thread(other.delete, override)
            await until(lambda: watch.current[0].weight == 7)
            await asyncio.to_thread(other.delete, first)
            await until(lambda: [each.port for each in watch.current] == [20881])
        await until(lambda: watch.current == [])
        await registry.close()

    with caplog.at_level(logging.WARNING):
        uvloop.run(scenario())
    assert "256 characters in field group" in caplog.text


def test_an_override_changes_only_the_providers_that_its_conditions_are_about(
    zookeeper_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        registry = open_registry(f"{zookeeper_url}?application=caller")
        root = root_of(zookeeper_url)
        watch = registry.watch(INTERFACE)
        await watch.ready(5)
        with java(zookeeper_url) as other:

            def put(url: str, category: str = "providers") -> None:
                other.create(node(root, url, category), ephemeral=True, makepath=True)

            def change(place: str, said: str) -> None:
                put(
                    f"override://{place}/{INTERFACE}?category=configurators&{said}", "configurators"
                )

            def fill() -> None:
                put(provider_url(20880, "&zone=a&default.weight=50"))
                put(provider_url(20881, "&zone=b&default.weight=50&token=sesame"))
                put(provider_url(20882).replace(f"/{INTERFACE}?", "/custom/path?"))
                put(provider_url(20883).replace("127.0.0.1", "::1"))
                change("0.0.0.0", "weight=7&~zone=a")
                change("0.0.0.0", "weight=8&application=other")
                change("0.0.0.0", "weight=9&side=provider")
                change("10.1.2.3", "weight=10")
                change("0.0.0.0:20883", "weight=-3")
                change("0.0.0.0", "weight=x")

            await asyncio.to_thread(fill)
            await until(lambda: [each.weight for each in watch.current] == [7, 50, 100])
            await until(lambda: registry.statistics().malformed_entries == 1)
            assert [each.port for each in watch.current] == [20880, 20881, 20882]
            assert [each.token for each in watch.current] == ["", "sesame", ""]
            assert [each.path for each in watch.current] == ["", "", "custom/path"]
            assert (await registry.services())[INTERFACE] == watch.current
            # A change of what is registered is seen beside overrides that stay.
            await asyncio.to_thread(put, provider_url(20884, "&zone=a"))
            await until(lambda: [each.weight for each in watch.current] == [7, 50, 100, 7])
            await asyncio.to_thread(change, "127.0.0.1", "weight=11&application=caller&priority=1")
            await until(lambda: {each.weight for each in watch.current} == {11})
        await registry.close()

    with caplog.at_level(logging.WARNING):
        uvloop.run(scenario())
    assert "weight=x: expected a number" in caplog.text
    assert "sesame" not in caplog.text


def test_what_is_registered_is_what_java_looks_for(zookeeper_url: str) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        native = Registration(
            interface=INTERFACE,
            host="127.0.0.1",
            port=20880,
            weight=100,
            protocol="dubbo",
            serialization="hessian2",
            methods=("greet", "hash"),
            application="shop",
            release="3.3.0",
        )
        await (await registry.register(native)).ready(5)
        await (await registry.register(endpoint(30000))).ready(20)
        root = root_of(zookeeper_url)
        with java(zookeeper_url) as other:

            def look() -> tuple[list[str], list[str], bool]:
                folder = f"{root}/{INTERFACE}"
                (name,) = providers = other.get_children(f"{folder}/providers")
                stat = other.exists(f"{folder}/providers/{name}")
                agents = other.get_children(f"{folder}/dragoman")
                return providers, agents, bool(stat.ephemeralOwner)

            (name,), (agent,), ephemeral = await asyncio.to_thread(look)
            assert ephemeral
            assert name.startswith("dubbo%3A%2F%2F127.0.0.1%3A20880%2Fcom.example.IHello%3F")
            # What Dubbo's consumers cannot call is not where they look.
            assert agent.startswith("mesh%3A%2F%2F127.0.0.1%3A30000%2F")
        assert (await registry.services())[INTERFACE] == [native, endpoint(30000)]
        await registry.close()

    uvloop.run(scenario())


def test_methods_are_known_where_providers_publish_them(zookeeper_url: str) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        root = root_of(zookeeper_url)
        description = (
            b'{"canonicalName":"com.example.IHello","codeSource":"x","methods":['
            b'{"annotations":[],"name":"hash","parameterTypes":["java.lang.String"],'
            b'"parameters":[],"returnType":"int"}],"types":[{"type":"int"}],"parameters":{}}'
        )
        assert await registry.metadata("com.example.INobody") == ()
        # A provider that has not published yet may do so at any moment.
        assert await registry.metadata(INTERFACE) == ()
        with java(zookeeper_url) as other:

            def publish() -> None:
                base = f"{root}/metadata/{INTERFACE}"
                other.create(f"{base}/provider/broken", b"{nothing", makepath=True)
                other.create(f"{base}/provider/shop", description, makepath=True)
                other.create(f"{base}/1.0.0/blue/provider/shop", description, makepath=True)

            await asyncio.to_thread(publish)
        expected = (Method(name="hash", parameter_types=("java.lang.String",), return_type="int"),)
        assert await registry.metadata(INTERFACE) == expected
        assert await registry.metadata(INTERFACE, group="blue", version="1.0.0") == expected
        assert await registry.metadata(INTERFACE, group="red") == ()
        # What is below the root beside interfaces is none.
        watch = registry.watch(EVERY)
        await watch.ready(5)
        assert watch.current == []
        await registry.close()

    uvloop.run(scenario())


def test_credentials_are_used_and_never_told(
    own_zookeeper: ZookeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        url = f"zookeeper://me:geheim@127.0.0.1:{own_zookeeper.port}"
        registry = open_registry(url)
        assert "geheim" not in registry.location
        await (await registry.register(endpoint(30000))).ready(60)
        stranger = opened(own_zookeeper, PATIENT)
        with pytest.raises(RegistryError, match="access is denied"):
            await stranger.services()
        await stranger.close()
        friend = ZookeeperRegistry(
            [f"127.0.0.1:{own_zookeeper.port}"], user="me", password="geheim", settings=PATIENT
        )
        assert await addresses(friend) == ["127.0.0.1:30000"]
        await friend.close()
        await registry.close()

    # As a program that wants to see everything may have it.
    loud = {"level": "DEBUG"}
    logging.config.dictConfig(
        {"version": 1, "disable_existing_loggers": False, "loggers": {"dragoman": loud}}
    )
    try:
        with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="kazoo"):
            uvloop.run(scenario())
    finally:
        logging.getLogger("dragoman").setLevel(logging.NOTSET)
    assert "geheim" not in caplog.text


@pytest.mark.parametrize("version", ["..", "1.0/../..", "."])
def test_a_version_that_makes_no_path_is_an_error_of_the_registry(
    zookeeper_url: str, version: str
) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        with pytest.raises(RegistryError, match=r"ZooKeeper: .*a path that can be none"):
            await registry.metadata(INTERFACE, version=version)
        await registry.close()

    uvloop.run(scenario())


def test_looking_again_and_again_at_what_does_not_change_piles_nothing_up(
    zookeeper_url: str,
) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        assert isinstance(registry, ZookeeperRegistry)
        watch = registry.watch(INTERFACE)
        await watch.ready(30)
        folders = registry._folders
        lists = folders.lists_total
        for _ in range(20):
            folders._read_all_again()
            await until(lambda: folders.synced, 30)
        assert folders.lists_total >= lists + 20
        kazoo = registry._client._kazoo
        for kept in (*kazoo._child_watchers.values(), *kazoo._data_watchers.values()):
            assert len(kept) == 1
        # And what is kept is told.
        await (await registry.register(endpoint(30000))).ready(30)
        await until(lambda: watch.current == [endpoint(30000)], 30)
        await registry.close()

    uvloop.run(scenario())


def test_a_place_that_is_refused_does_not_keep_others_from_theirs(zookeeper_url: str) -> None:
    async def scenario() -> None:
        registry = open_registry(zookeeper_url)
        guarded = f"{root_of(zookeeper_url)}/com.example.Guarded/dragoman"
        with java(zookeeper_url) as other:
            acl = [make_digest_acl("somebody", "else", all=True)]
            await asyncio.to_thread(other.ensure_path, guarded)
            await asyncio.to_thread(other.set_acls, guarded, acl)
        refused = await registry.register(endpoint(30000, interface="com.example.Guarded"))
        handle = await registry.register(endpoint(30001))
        await handle.ready(30)
        assert not refused.registered
        assert "access is denied" in registry.reason
        await registry.close()

    uvloop.run(scenario())
