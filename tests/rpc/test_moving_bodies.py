"""Bytes that move are a sign of life: a large body on a slow way does not cost its connection."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product

import pytest

from dragoman import rpc
from dragoman.errors import LinkLostError
from tests.cluster.pools import run
from tests.rpc.peers import server_process

TCP = "127.0.0.1:0"
PIECE = 4096


@asynccontextmanager
async def slow_way(port: int, *, bytes_s: int) -> AsyncIterator[int]:
    """A proxy that takes whatever it is given at once, and passes it on at ``bytes_s`` each way."""
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken = bytearray()
        more = asyncio.Event()

        async def take() -> None:
            while piece := await reader.read(1 << 20):
                taken.extend(piece)
                more.set()

        tasks.add(asyncio.ensure_future(take()))
        try:
            while True:
                if not taken:
                    more.clear()
                    await more.wait()
                writer.write(taken[:PIECE])
                del taken[:PIECE]
                await asyncio.sleep(PIECE / bytes_s)
        finally:
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for way in (pass_on(reader, back), pass_on(there, writer)):
            tasks.add(asyncio.ensure_future(way))

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


async def lives(way: str, patient: str) -> None:
    """A body that takes two seconds ``way`` outlasts beats of 300 ms of those not ``patient``."""
    body = bytes(600_000)
    beat = {"server": 300, "client": 300}
    if patient != "neither":
        beat[patient] = 60_000
    handlers = {"take": lambda body: b"taken", "give": lambda _: body}
    async with (
        await rpc.serve(handlers, TCP, heartbeat_ms=beat["server"]) as server,
        slow_way(server.address.port, bytes_s=300_000) as port,
        await rpc.connect(
            f"127.0.0.1:{port}", heartbeat_ms=beat["client"], reconnect=False
        ) as client,
    ):
        if way == "there":
            assert await client.call("take", body) == b"taken"
        else:
            assert await client.call("give") == body


def test_a_connection_lives_while_a_body_moves() -> None:
    async def work() -> None:
        # At once, since each waits for its bytes.
        cases = list(product(("there", "back"), ("server", "client", "neither")))
        ended = await asyncio.gather(*(lives(*case) for case in cases), return_exceptions=True)
        assert dict(zip(cases, ended, strict=True)) == dict.fromkeys(cases)

    run(work, timeout_s=60)


def test_a_connection_on_which_nothing_moves_is_given_up() -> None:
    async def work() -> None:
        with server_process() as (process, address):
            client = await rpc.connect(address, heartbeat_ms=200, reconnect=False)
            process.send_signal(signal.SIGSTOP)
            # The kernels take what they can hold, and then nothing moves.
            with pytest.raises(LinkLostError, match="no sign of life"):
                await client.call("echo", bytes(40_000_000))
            await client.close()

    run(work, timeout_s=60)
