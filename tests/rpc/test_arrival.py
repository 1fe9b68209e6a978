"""A mesh frame that has begun must arrive: its session has a deadline for it, at both ends."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.errors import ProtocolError
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Client, RawPeer, Server, frame, hello, raw_client

NAME = frame("NAME", b"echo", target=1)
MIB = 1 << 20


def large(n: int) -> bytes:
    """A request with a body of n bytes."""
    return frame("REQUEST", bytes(n), target=1, id=1, value=600_000)


@pytest.mark.parametrize("n", [1, 15, 16, 96, 200_000])
def test_half_a_frame_ends_the_session_that_it_came_by(n: int) -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(hello(), NAME + large(8 * MIB)[:n])
        for _ in range(4):
            await asyncio.sleep(1)
            peer.send(b"")
        assert not peer.lost
        await asyncio.sleep(3)
        assert peer.lost
        failure = server.all_sessions[0].failure
        assert isinstance(failure, ProtocolError) and "does not arrive" in str(failure)
        server.assert_quiet()

    simulate(1, work)


def test_half_a_reply_ends_the_callers_session() -> None:
    async def work(loop: SimulatedLoop) -> None:
        peer = RawPeer()
        loop.network.listen("server", 1, lambda: peer)
        client = Client(loop)
        await loop.create_connection(lambda: client.session, "server", 1)
        await asyncio.sleep(0.05)
        peer.send(hello(), frame("CREDIT", value=1))
        await asyncio.sleep(0.05)
        client.call(1, b"x")
        await asyncio.sleep(0.05)
        peer.send(frame("REPLY", bytes(MIB), id=1)[:100])
        await asyncio.sleep(7)
        assert client.losses == 1 and "does not arrive" in str(client.session.failure)

    simulate(1, work)


def test_a_large_frame_that_comes_slowly_passes() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(hello(), NAME)
        whole = large(2 * MIB)
        for i in range(0, len(whole), 20480):
            peer.send(whole[i : i + 20480])
            await asyncio.sleep(0.5)
        await asyncio.sleep(1)
        assert not peer.lost and len(server.requests) == 1
        assert len(server.requests[0].body) == 2 * MIB

    simulate(1, work)
