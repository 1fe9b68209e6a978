"""``retry_safe`` says whether a call can have run: what never left is safe to be made again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import DeadlineError, DragomanError, LinkError
from tests.cluster.pools import run
from tests.rpc.peers import server_process
from tests.waiting import until


async def ends(calls: list[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def safe(errors: list[Any]) -> list[bool]:
    assert all(isinstance(error, DragomanError) for error in errors), errors
    return [error.retry_safe for error in errors]


@pytest.mark.parametrize("reconnect", [False, True])
def test_calls_in_line_when_the_server_is_killed_were_never_sent(reconnect: bool) -> None:
    async def work() -> None:
        with server_process() as (process, address):
            client = await rpc.connect(address, reconnect=reconnect, calls_max=1)
            calls = [client.call("hang") for _ in range(5)]
            batch = client.call_many("hang", [b"", b""])
            await until(lambda: client.statistics().calls == 1)
            process.kill()
            if reconnect:
                assert safe(await ends(calls[:1])) == [False]
                await client.close(drain_ms=0)
                assert safe(await ends(calls[1:])) == [True] * 4
            else:
                errors = await ends(calls)
                assert {isinstance(error, LinkError) for error in errors} == {True}
                assert safe(errors) == [False] + [True] * 4
            assert safe(await ends([batch])) == [True]
            # And so is what comes after it.
            assert safe(await ends([client.call("hang")])) == [True]
            with pytest.raises(LinkError) as caught:
                client.notify("hang")
            assert caught.value.retry_safe
            await client.close()

    run(work)


def test_of_a_batch_that_was_sent_in_part_the_rest_was_not() -> None:
    async def work() -> None:
        with server_process() as (process, address):
            client = await rpc.connect(address, reconnect=False, calls_max=2)
            batch = client.call_many("hang", [b""] * 5)
            await until(lambda: client.statistics().calls == 2)
            process.kill()
            with pytest.raises(rpc.BatchError) as caught:
                await batch
            assert safe([caught.value.errors[n] for n in range(5)]) == [False] * 2 + [True] * 3
            assert not caught.value.retry_safe
            await client.close()

    run(work)


def test_a_server_that_leaves_has_run_what_it_was_sent_and_nothing_else() -> None:
    async def work() -> None:
        async def hang(body: bytes) -> bytes:
            await asyncio.sleep(3600)
            return body

        server = await rpc.serve({"hang": hang}, "127.0.0.1:0", limit=2)
        client = await rpc.connect(server.address, reconnect=False)
        batch = client.call_many("hang", [b""] * 5)
        alone = client.call("hang")
        await until(lambda: server.statistics().in_progress == 2)
        closing = asyncio.ensure_future(server.close(drain_ms=200))
        with pytest.raises(rpc.BatchError) as caught:
            await batch
        assert safe([caught.value.errors[n] for n in range(5)]) == [False] * 2 + [True] * 3
        assert safe(await ends([alone])) == [True]
        await closing
        await client.close()

    run(work)


def test_a_batch_whose_time_passes_says_which_of_it_was_sent() -> None:
    async def work() -> None:
        async def hang(body: bytes) -> bytes:
            await asyncio.sleep(3600)
            return body

        async with (
            await rpc.serve({"hang": hang}, "127.0.0.1:0", limit=2) as server,
            await rpc.connect(server.address) as client,
        ):
            first = client.call_many("hang", [b""] * 4, timeout_ms=300)
            second = client.call_many("hang", [b""] * 2, timeout_ms=100)
            with pytest.raises(DeadlineError, match="no room") as late:
                await second
            assert late.value.retry_safe
            with pytest.raises(rpc.BatchError) as caught:
                await first
            said = safe([caught.value.errors[n] for n in range(4)])
            # The server's own deadline may free its places just before ours: then all were sent.
            assert said in ([False] * 2 + [True] * 2, [False] * 4)

    run(work)


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_the_kernel_did_not_take_of_a_broken_connection_was_never_sent(size: int) -> None:
    async def work() -> None:
        async with await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0") as server:
            client = await rpc.connect(server.address, reconnect=False)
            # Ours is broken before the loop can have noticed.
            break_off(server.address.port)
            call = client.call("echo", b"x" * size)
            others = [client.call("echo", b"x" * size) for _ in range(3)]
            assert safe(await ends([call, *others])) == [True] * 4
            await client.close()

    run(work)


def break_off(port: int) -> None:
    """Write no more on this process's connection to a port."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family == socket.AF_INET and sock.getpeername()[1] == port:
                    sock.shutdown(socket.SHUT_WR)
                    return
    raise AssertionError("there is none")
