"""A process that was forked from one with clients and servers has none, and disturbs nobody."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dragoman import cluster, dubbo, rpc
from dragoman.errors import UsageError
from dragoman.registry.memory import MemoryRegistry
from tests.cluster.pools import run
from tests.queue.api.test_forking import FOREIGN, ended, in_child
from tests.rpc.peers import server_process

TCP = "127.0.0.1:0"


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match=FOREIGN):
        call()


async def refused_later(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(UsageError, match=FOREIGN):
        await call()


def in_child_of_a_thread(work: Callable[[], None]) -> Awaitable[int]:
    """Fork on another thread, since this one runs a loop; how the child has ended."""
    return asyncio.to_thread(lambda: ended(in_child(work)))


def test_a_clients_calls_are_refused_and_its_close_does_nothing() -> None:
    async def work() -> None:
        async with (
            await rpc.serve({"echo": lambda body: body}, TCP) as server,
            await rpc.connect(server.address, reconnect=False) as client,
            await cluster.connect("s", endpoints=[server.address]) as pool,
        ):
            assert await client.call("echo", b"1") == await pool.call("echo", b"1") == b"1"

            def child() -> None:
                for each in (client, pool):
                    refused(lambda each=each: each.call("echo", b"2"))
                    refused(lambda each=each: each.call_many("echo", [b"2"]))
                    refused(lambda each=each: each.notify("echo", b"2"))
                    refused(lambda each=each: each.call_soon("echo", b"2", print))
                    refused(each.statistics)
                refused(server.statistics)
                refused(lambda: server.set_limit(7))

                async def rest() -> None:
                    await refused_later(server.serve_forever)
                    for each in (client, pool, server):
                        await each.close()
                        await each.close()
                        await each.__aexit__(None, None, None)

                asyncio.run(rest())
                gc.collect()

            assert await in_child_of_a_thread(child) == 0
            assert await client.call("echo", b"3") == await pool.call("echo", b"3") == b"3"
            assert client.statistics().connections == 1
            assert server.statistics().connections == 2

    run(work)


def test_a_child_that_lives_holds_no_port_and_no_connection() -> None:
    async def work() -> None:
        server = await rpc.serve({"echo": lambda body: body}, TCP)
        client = await rpc.connect(server.address)
        ours, theirs = socket.socketpair()

        def wait() -> None:
            ours.close()
            theirs.send(b"!")
            theirs.recv(1)

        child = in_child(wait)
        try:
            # Forking is over when the child says so.
            assert ours.recv(1) == b"!"
            await client.close()
            await server.close(drain_ms=0)
            # Nobody else holds it, so it can be had.
            again = await rpc.serve({"echo": lambda body: body}, str(server.address))
            await again.close()
        finally:
            ours.close()
            theirs.close()
            assert ended(child) == 0

    run(work)


@dubbo.service("com.example.Forked")
class Forked:
    async def echo(self, text: str) -> str:
        return text


def test_a_dubbo_client_and_server_too() -> None:
    async def work() -> None:
        async with (
            await dubbo.serve(Forked(), 0) as server,
            dubbo.Client(f"dubbo://127.0.0.1:{server.address.port}") as client,
        ):
            service = client.service(Forked)
            assert await service.echo("1") == "1"

            def child() -> None:
                refused(lambda: service.echo("2"))
                refused(lambda: client.service("com.example.Other"))
                refused(server.statistics)

                async def rest() -> None:
                    await client.close()
                    await server.close()

                asyncio.run(rest())
                gc.collect()

            assert await in_child_of_a_thread(child) == 0
            assert await service.echo("3") == "3"
            assert server.statistics().connections == 1

    run(work)


def test_a_registered_servers_close_in_a_child_leaves_it_registered() -> None:
    async def work() -> None:
        registry = MemoryRegistry("forked")
        async with await cluster.serve(
            {"echo": lambda body: body}, TCP, name="s", registry=registry
        ) as server:
            assert await in_child_of_a_thread(lambda: asyncio.run(server.close())) == 0
            assert server.registered

    run(work)


def _use(client: Any) -> None:
    refused(lambda: client.call("echo", b"2"))
    refused(lambda: client.call_many("echo", [b"2"]))
    refused(lambda: client.call_future("echo", b"2"))
    refused(lambda: client.notify("echo", b"2"))
    refused(lambda: list(client.map("echo", [b"2"])))
    refused(client.statistics)
    client.close()
    client.__exit__(None, None, None)


def test_a_blocking_client_is_its_parents_in_a_process_of_multiprocessing() -> None:
    with server_process() as (_, address), rpc.connect_sync(address) as client:
        assert client.call("echo", b"1") == b"1"
        process = multiprocessing.get_context("fork").Process(target=_use, args=(client,))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        assert client.call("echo", b"3") == b"3"
        assert client.statistics().connections == 1
