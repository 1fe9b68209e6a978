"""What is held of half a body is given back, however its connection ends."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import DragomanError
from dragoman.testing.mesh import frame, hello
from tests.rpc.peers import RUNNERS, RawSocket
from tests.waiting import until

ANY = "127.0.0.1:0"
MIB = 1 << 20


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_server_keeps_nothing_of_clients_that_left_in_the_middle(runner: str) -> None:
    half = [
        frame("REQUEST", bytes(MIB), target=1, id=1, value=5000)[: MIB // 2],
        frame("PIECE", bytes(500_000), id=1, value=MIB),
        frame("PIECE", bytes(500_000), id=1, value=MIB)[:300_000],
        frame("PIECE", bytes(500_000), id=1, value=MIB) + frame("PIECE", b"", id=2, value=MIB),
        frame("REQUEST", b"5000000", target=2, id=1, value=5000),
        frame("PIECE", bytes(9000), id=1, value=MIB) + frame("CANCEL", id=1),
        frame("PIECE", bytes(9000), id=1, value=MIB) + frame("PIECE", b"x", id=3, value=9),
    ]

    async def work() -> None:
        functions = {
            "length": lambda body: b"%d" % len(body),
            "make": lambda body: bytes(int(body)),
        }
        async with await rpc.serve(functions, ANY, limit=20) as server:
            for number, frames in enumerate(half * 3):
                peer = await RawSocket.connect(server)
                await peer.send(
                    hello(features=15),
                    frame("NAME", b"length", target=1),
                    frame("NAME", b"make", target=2),
                )
                await peer.read("CREDIT")
                await peer.send(frames)
                if number % 2:
                    await asyncio.sleep(0.02)
                peer.close()
            await until(lambda: server.statistics().clients == 0)
            now = server.statistics()
            assert (now.buffers_bytes, now.in_progress, now.granted) == (0, 0, 0)
            async with await rpc.connect(server.address) as client:
                assert await client.call("length", bytes(MIB)) == b"%d" % MIB

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_client_keeps_nothing_of_a_connection_that_broke_in_the_middle(runner: str) -> None:
    async def work() -> None:
        def make(body: bytes) -> bytes:
            return bytes(int(body))

        for seed in range(6):
            source = random.Random(seed)
            server = await rpc.serve({"make": make, "take": lambda body: b""}, ANY)
            client = await rpc.connect(server.address, reconnect=False)
            calls: list[asyncio.Future[Any]] = [
                client.call("make", b"%d" % (5 * MIB)) for _ in range(3)
            ] + [client.call("take", bytes(5 * MIB)) for _ in range(3)]
            await asyncio.sleep(source.random() * 0.02)
            if seed % 2:
                for call in calls[::2]:
                    call.cancel()
            await server.close(drain_ms=0)
            for end in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(end, bytes | DragomanError | asyncio.CancelledError), end
            await client.close(drain_ms=0)
            assert client.statistics().buffers_bytes == 0
            assert server.statistics().buffers_bytes == 0

    RUNNERS[runner](work())
