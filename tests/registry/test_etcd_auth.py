"""An etcd that asks for user and password: tokens are fetched, used, and fetched again."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import pytest
import uvloop

from dragoman.errors import RegistryError
from dragoman.harness.etcd import EtcdServer
from dragoman.registry import open_registry
from tests.waiting import until

from .conftest import INTERFACE, endpoint

PASSWORD = "geheim:1"


async def enable_auth(server: EtcdServer) -> None:
    async def call(path: str, **body: Any) -> None:
        async with session.post(f"{server.client_url}/v3/auth/{path}", json=body) as reply:
            assert reply.status == 200, await reply.text()

    async with aiohttp.ClientSession() as session:
        await call("user/add", name="root", password=PASSWORD)
        await call("role/add", name="root")
        await call("user/grant", user="root", role="root")
        await call("enable")


def test_everything_works_with_a_password_and_after_the_token_is_lost(
    own_etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        await own_etcd.start()
        await enable_auth(own_etcd)
        address = own_etcd.client_url.partition("://")[2]
        wrong = open_registry(f"etcd://root:falsch@{address}")
        with pytest.raises(RegistryError, match="authentication failed"):
            await wrong.services()
        await wrong.close()
        registry = open_registry(f"etcd://root:geheim%3A1@{address}")
        try:
            watch = registry.watch(INTERFACE)
            await (await registry.register(endpoint(1))).ready(5)
            await until(lambda: watch.current == [endpoint(1)] and registry.healthy)
            # Simple tokens live in the server's memory only.
            await own_etcd.restart()
            await (await registry.register(endpoint(2))).ready(5)
            await until(lambda: len(watch.current) == 2 and registry.healthy)
        finally:
            await registry.close()

    with caplog.at_level(logging.DEBUG, "dragoman"):
        uvloop.run(scenario())
    assert "geheim" not in caplog.text
    assert "falsch" not in caplog.text
