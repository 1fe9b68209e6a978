"""Peers that send well-formed frames in no sensible order, and bytes that are no frames.

Whatever they send: the session goes on or ends with a reason, nothing raises, no sum is out of its
place, and the calls under way end once.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from dragoman.errors import OverloadError, ProtocolError
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import NAMES, Client, RawPeer, Server, frame, hello, raw_client
from dragoman.wire.mesh import KINDS

FROM_CLIENT = ("REQUEST", "REQUEST", "REQUEST", "CANCEL", "DEMAND", "PING")
FROM_SERVER = ("REPLY", "REPLY", "ERROR", "CREDIT", "RECLAIM", "PING", "PONG", "GOODBYE")


def some_frame(source: random.Random, names: tuple[str, ...], step: int) -> bytes:
    """A frame that might be right: small ids, small numbers."""
    name = source.choice(names)
    if source.random() < 0.01:
        name = source.choice(list(NAMES.values()))
    small = source.randrange
    fields = {
        "NAME": {"target": small(1, 4)},
        "REQUEST": {"target": small(1, 3), "id": step, "value": small(1, 200)},
        "REPLY": {"id": small(1, 40), "value": small(2)},
        "ERROR": {"id": small(1, 40), "value": small(2), "target": small(1, 15)},
        "CANCEL": {"id": small(1, step + 2)},
        "CREDIT": {"value": small(1, 5)},
        "DEMAND": {"value": small(50)},
        "RECLAIM": {"value": small(1, 5)},
        "RETURN": {"value": small(3)},
        "PING": {"value": small(9)},
        "PONG": {"value": small(9)},
    }.get(name, {})
    body = b"x" * small(1, 60) if name in ("NAME", "REQUEST", "REPLY", "ERROR") else b""
    if name == "HELLO":
        return hello()
    data = frame(name, body, **fields)
    if source.random() < 0.01:
        place = source.randrange(len(data))
        data = data[:place] + bytes([source.randrange(256)]) + data[place + 1 :]
    return data


async def against_server(loop: SimulatedLoop) -> bool:
    """A strange client; whether the session survived it."""
    source = loop.random
    loop.network.piece_bytes_max = source.choice((None, 3, 50))
    server = Server(loop, limit=20, delay_s=source.choice((0.0, 0.02, 0.3)))
    neighbour = await Client(loop).connect()
    peer = await raw_client(loop)
    peer.send(hello(), frame("NAME", b"one", target=1), frame("NAME", b"two", target=2))
    await asyncio.sleep(0.1)
    requests = 0
    for step in range(1, 60):
        if peer.lost:
            break
        credits = sum(f[4] for f in peer.frames if NAMES[f[0]] in ("CREDIT", "REPLY", "ERROR"))
        credits -= sum(f[4] for f in peer.of("RECLAIM")) + requests
        # Mostly it keeps to its credits.
        names = FROM_CLIENT if credits > 0 or source.random() < 0.01 else FROM_CLIENT[3:]
        data = some_frame(source, names, step)
        requests += data[4] == KINDS["REQUEST"]
        peer.send(data)
        if source.random() < 0.3:
            await asyncio.sleep(source.choice((0, 0.01, 0.1)))
        if step % 7 == 0 and neighbour.session.credits:
            neighbour.call(step, b"%d" % step)
    survived = not peer.lost
    await asyncio.sleep(1)
    if not peer.lost:
        peer.transport.abort()
    await asyncio.sleep(1)
    for number in neighbour.ends:
        assert neighbour.end(number) == b"%d" % number
    assert len(server.sessions) == 1
    # Once alone again, the neighbour holds everything.
    assert neighbour.session.credits == 20
    server.assert_quiet()
    return survived


async def against_client(loop: SimulatedLoop) -> bool:
    """A strange server; whether the session survived it."""
    source = loop.random
    loop.network.piece_bytes_max = source.choice((None, 3, 50))
    peer = RawPeer()
    loop.network.listen("server", 1, lambda: peer)
    client = Client(loop)
    await loop.create_connection(lambda: client.session, "server", 1)
    await asyncio.sleep(0.05)
    peer.send(hello(), frame("CREDIT", value=20))
    await client.ready.wait()
    for step in range(60):
        if client.session.closed or client.session.goodbye_received:
            break
        try:
            client.call(step, b"%d" % step, timeout_ms=source.choice((None, 50)))
        except OverloadError:
            del client.ends[step]
        if step in client.calls and source.random() < 0.1:
            client.calls.pop(step).cancel()
            del client.ends[step]
        peer.send(*[some_frame(source, FROM_SERVER, step) for _ in range(source.randint(1, 3))])
        if source.random() < 0.5:
            await asyncio.sleep(source.choice((0, 0.01, 0.1)))
        assert client.session.credits >= 0
        assert client.session.inflight >= 0
    survived = not client.session.closed
    await asyncio.sleep(1)
    client.session.close()
    await asyncio.sleep(0.1)
    assert all(len(ends) == 1 for ends in client.ends.values())
    assert client.session.inflight == client.session.credits == 0
    assert client.losses == 1
    return survived


@pytest.mark.parametrize("which", [against_server, against_client])
@pytest.mark.parametrize("first", [0, 1000])
def test_a_strange_peer_harms_only_its_own_session(which: object, first: int) -> None:
    assert callable(which)
    survived = sum(simulate(seed, which) for seed in range(first, first + 60))
    # Both outcomes happen, or this test looks at nothing.
    assert 0 < survived < 60


@pytest.mark.slow
@pytest.mark.parametrize("which", [against_server, against_client])
def test_thousands_of_strange_peers_harm_only_their_own_sessions(which: object) -> None:
    assert callable(which)
    for seed in range(10_000, 15_000):
        simulate(seed, which)


def test_bytes_that_are_no_frames_end_the_session_with_a_reason() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        for _ in range(30):
            peer = await raw_client(loop)
            if loop.random.random() < 0.5:
                peer.send(hello())
            # Never a length that a body could still have.
            peer.send(loop.random.randbytes(300) + b"\xff" * 64)
            await asyncio.sleep(0.1)
            peer.transport.abort()
        await asyncio.sleep(6)
        assert not server.sessions
        assert any(isinstance(s.failure, ProtocolError) for s in server.all_sessions)
        assert all(s.failure is not None for s in server.all_sessions)
        server.assert_quiet()

    simulate(1, work)
