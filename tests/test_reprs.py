"""What a person sees of clients, pools, servers and references: where, how it stands, how much."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import uvloop

from dragoman import cluster, dubbo, rpc
from tests.queue.api.test_forking import ended, in_child
from tests.waiting import until

TCP = "127.0.0.1:0"


@dubbo.service("com.example.Shown", version="1.0.0")
class Shown:
    async def echo(self, text: str) -> str:
        return text


async def comes_to_show(text: str, shown: Any) -> None:
    await until(lambda: re.fullmatch(text, repr(shown)), 60.0, lambda: repr(shown))


def test_clients_pools_and_servers_say_where_and_how_they_are() -> None:
    async def work() -> None:
        go_on = asyncio.Event()

        async def slow(body: bytes) -> bytes:
            await go_on.wait()
            return body

        server = await rpc.serve({"slow": slow}, TCP, limit=1)
        at = str(server.address)
        assert repr(server) == f"<Server {at}, listening, 0 clients, 0 requests in progress>"
        client = await rpc.connect(at)
        pool = await cluster.connect("s", endpoints=[at])
        calls = [client.call("slow"), client.call("slow"), pool.call("slow")]
        await comes_to_show(f"<Client {at}, connected, 1 calls, 1 waiting>", client)
        await comes_to_show("<Pool s, 1 of 1 servers connected, 0 calls, 1 waiting>", pool)
        await comes_to_show(f"<Server {at}, listening, 2 clients, 1 requests in progress>", server)
        opened.extend((client, pool, server))
        assert await asyncio.to_thread(lambda: ended(in_child(seen_by_a_child))) == 0
        go_on.set()
        await asyncio.gather(*calls)
        await server.close()
        assert repr(server) == f"<Server {at}, closed>"
        await comes_to_show(f"<Client {at}, not connected \\(.+\\), 0 calls, 0 waiting>", client)
        await comes_to_show("<Pool s, 0 of 1 servers connected, 0 calls, 0 waiting>", pool)
        for each in (client, pool):
            await each.close()
        assert repr(client) == f"<Client {at}, closed>"
        assert repr(pool) == "<Pool s, closed>"

    opened: list[Any] = []

    def seen_by_a_child() -> None:
        assert opened
        for each in opened:
            assert "of another process" in repr(each)

    uvloop.run(work())


def test_a_registered_server_says_as_what() -> None:
    async def work() -> None:
        async with cluster.serve({}, TCP, name="s", registry="memory://r") as server:
            inner = f"<Server {server.address}, listening, 0 clients, 0 requests in progress>"
            assert repr(server) == f"<RegisteredServer of s, registered, {inner}>"
            assert not server.closed
        assert server.closed
        assert "closed" in repr(server)

    uvloop.run(work())


def test_synchronous_clients_say_the_same() -> None:
    async def work() -> None:
        async with rpc.serve({}, TCP) as server, dubbo.serve(Shown(), 0) as provider:
            await asyncio.to_thread(blocking, str(server.address), str(provider.address))

    def blocking(at: str, provider: str) -> None:
        client = rpc.connect_sync(at)
        pool = cluster.connect_sync("s", endpoints=[at])
        dubbed = dubbo.connect_sync(f"dubbo://{provider}")
        assert repr(client) == f"<SyncClient {at}, connected, 0 calls, 0 waiting>"
        assert repr(pool) == "<SyncPool s, 1 of 1 servers connected, 0 calls, 0 waiting>"
        assert repr(dubbed) == f"<SyncClient dubbo://{provider}, open, 0 services, 0 calls>"
        for each in (client, pool, dubbed):
            each.close()
            assert repr(each).endswith(", closed>")

    uvloop.run(work())


def test_dubbos_clients_servers_and_references_too() -> None:
    async def work() -> None:
        async with dubbo.serve(Shown(), 0) as server:
            where = f"<Server of com.example.Shown on {server.address}, "
            assert repr(server) == f"{where}listening, 0 clients, 0 calls in progress>"
            client = dubbo.Client(f"dubbo://{server.address}")
            stub = client.service(Shown)
            reference = client.service("com.example.Shown", version="1.0.0")
            assert await stub.echo("x") == "x"
            assert repr(client) == f"<Client dubbo://{server.address}, open, 1 services, 0 calls>"
            for each, kind in ((stub, "stub of"), (reference, "reference to")):
                assert re.fullmatch(
                    f"<{kind} [^ ]*com.example.Shown[^ ]*, 1 of 1 servers connected, 0 calls,"
                    " 0 waiting>",
                    repr(each),
                )
            assert set(dir(stub)) == {"echo", "with_options"}
            await client.close()
            assert repr(client) == f"<Client dubbo://{server.address}, closed>"
        assert repr(server) == f"{where}closed>"

    uvloop.run(work())


def test_no_password_is_shown() -> None:
    async def work() -> None:
        async with dubbo.Client("etcd://ann:secret@127.0.0.1:1") as client:
            assert "secret" not in repr(client)
            assert "etcd://127.0.0.1:1" in repr(client)

    uvloop.run(work())


def test_statistics_and_their_like_take_the_class_or_the_interface() -> None:
    async def work() -> None:
        async with (
            dubbo.serve(Shown(), 0) as server,
            dubbo.Client(f"dubbo://{server.address}") as client,
        ):
            stub = client.service(Shown)
            await client.ready(Shown, timeout_ms=60_000)
            assert await stub.echo("x") == "x"
            assert client.statistics(Shown) == client.statistics(stub)
            assert client.statistics(Shown).replies == 1
            assert await client.echo(Shown, "y") == "y"
            assert await client.methods(Shown) == await client.methods(stub)
            # Of another version, and so another pool.
            assert client.statistics("com.example.Shown").replies == 0
            for odd in (Shown(), None, 5):
                with pytest.raises(
                    dubbo.UsageError, match=r"expected what Client\.service\(\) gave"
                ):
                    client.statistics(odd)
            with pytest.raises(dubbo.UsageError, match="int"):
                client.statistics(int)
            await asyncio.to_thread(blocking, f"dubbo://{server.address}")

    def blocking(source: str) -> None:
        with dubbo.connect_sync(source) as client:
            client.ready(Shown, timeout_ms=60_000)
            assert client.echo(Shown, "y") == "y"
            assert client.statistics(Shown).replies == 1
            assert client.methods(Shown) == ()
        with pytest.raises(dubbo.UsageError, match="the client is closed"):
            client.statistics(Shown)

    uvloop.run(work())
