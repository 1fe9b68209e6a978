"""Ends of real sessions: drain, loss, peers that fall silent or do not read."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.errors import (
    DragomanError,
    LinkLostError,
    OverloadError,
)
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Client, RawPeer, Server, frame, hello, raw_client
from dragoman.wire.mesh import KINDS

MIB = 1 << 20


def test_goodbye_lets_what_is_under_way_end_and_closes_then() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, delay_s=0.3)
        busy, idle = await Client(loop).connect(), await Client(loop).connect()
        for number in range(4):
            busy.call(number, b"%d" % number)
        await asyncio.sleep(0.1)
        for session in list(server.sessions):
            session.goodbye()
            session.goodbye()
        await asyncio.sleep(0.1)
        assert (busy.goodbyes, idle.goodbyes) == (1, 1)
        # The idle one closes at once, the busy one when it has its answers.
        assert idle.losses == 1 and busy.losses == 0
        with pytest.raises(LinkLostError, match="not open"):
            busy.call(9)
        await asyncio.sleep(0.5)
        assert [busy.end(number) for number in range(4)] == [b"0", b"1", b"2", b"3"]
        assert busy.losses == 1
        assert not server.sessions
        server.assert_quiet()

    for seed in range(5):
        simulate(seed, work)


def test_requests_that_cross_a_goodbye_are_answered() -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.network.delay_s = (0.05, 0.05)
        server = Server(loop)
        client = await Client(loop).connect()
        for session in server.sessions:
            session.goodbye()
        await asyncio.sleep(0.01)
        client.call(1, b"crossed")
        await asyncio.sleep(1)
        assert client.end(1) == b"crossed"
        assert client.losses == 1

    simulate(1, work)


def test_a_server_killed_with_calls_in_flight_ends_each_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=20)
        other = Server(loop, address=("other", 1))
        client = await Client(loop).connect()
        elsewhere = await Client(loop).connect(("other", 1))
        elsewhere.call(1, b"elsewhere")
        for number in range(10):
            client.call(number)
        await asyncio.sleep(loop.random.uniform(0, 0.1))
        for number in range(10, 15):
            client.call(number) if client.session.credits else client.ends.setdefault(number, [b""])
        # These five are written in this turn; the connection breaks before it ends.
        client.connection.reset()
        await asyncio.sleep(1)
        for number in range(15):
            end = client.end(number)
            if isinstance(end, DragomanError):
                assert isinstance(end, LinkLostError) and end.endpoint == "server:1"
                # Only what was never written is safe to try again.
                assert end.retry_safe == (number >= 10)
        assert client.losses == 1
        assert client.session.inflight == client.session.credits == 0
        assert elsewhere.end(1) == b"elsewhere"
        server.assert_quiet()
        other.assert_quiet()

    for seed in range(10):
        simulate(seed, work)


@pytest.mark.parametrize("heartbeat_s", [1.0, 5.0])
def test_a_peer_that_fell_silent_is_noticed_within_two_intervals(heartbeat_s: float) -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, heartbeat_s=heartbeat_s)
        client = await Client(loop, heartbeat_s=heartbeat_s).connect()
        # Quiet for long, but alive: heartbeats keep it.
        await asyncio.sleep(heartbeat_s * loop.random.uniform(5, 8))
        assert client.losses == 0 and len(server.sessions) == 1
        client.call(1, b"before")
        await asyncio.sleep(loop.random.uniform(0.2, heartbeat_s))
        silent_since_s = loop.time()
        client.call(2, b"never answered")
        client.connection.fall_silent()
        await client.lost.wait()
        assert loop.time() - silent_since_s <= 2 * heartbeat_s + 0.02
        assert isinstance(client.session.failure, LinkLostError)
        assert "no sign of life within two heartbeat intervals" in str(client.session.failure)
        assert client.end(1) == b"before"
        assert isinstance(client.end(2), LinkLostError) and not client.error(2).retry_safe
        await asyncio.sleep(2 * heartbeat_s + 0.02 - (loop.time() - silent_since_s))
        assert not server.sessions
        server.assert_quiet()

    for seed in range(20):
        simulate(seed, work)


def test_a_peer_that_does_not_read_is_no_longer_read_from_and_then_given_up() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=2000, delay_s=0.0)
        neighbour = await Client(loop).connect()
        greedy = await Client(loop).connect()
        loop.network.connections[1].jam(greedy.connection.client)
        # Its credits allow 1,000 calls of 100 KB; it reads none of the replies.
        for number in range(900):
            greedy.call(number, bytes(10_000))
        await asyncio.sleep(1)
        (session,) = [s for s in server.sessions if s.holder.in_use or s.paused]
        assert session.paused
        # What it sent goes on being read only as far as its replies find room.
        assert len(server.requests) < 900
        neighbour.call(1, b"unaffected")
        await asyncio.sleep(0.5)
        assert neighbour.end(1) == b"unaffected"
        await asyncio.sleep(12)
        assert session.closed
        assert "no sign of life" in str(session.failure)
        server.assert_quiet()
        neighbour.call(2, b"still there")
        await asyncio.sleep(0.5)
        assert neighbour.end(2) == b"still there"

    simulate(1, work)


def test_a_slow_reader_is_not_taken_for_dead() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=10, delay_s=0.0)
        client = await Client(loop).connect()
        connection = client.connection
        loop.network.piece_bytes_max = 200_000
        for number in range(10):
            client.call(number, bytes(1 << 20))
        await asyncio.sleep(0.2)
        # It reads a little every four seconds, for a minute and a half.
        connection.jam(connection.client)
        for _ in range(22):
            await asyncio.sleep(4)
            connection.unjam(connection.client)
            connection.jam(connection.client)
            assert client.losses == 0
        connection.unjam(connection.client)
        await asyncio.sleep(5)
        assert [len(client.end(number)) for number in range(10)] == [1 << 20] * 10
        server.assert_quiet()

    simulate(1, work)


def test_a_server_that_does_not_read_bounds_what_gathers_for_it() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=1000)
        client = await Client(loop).connect()
        client.connection.jam(client.connection.server)
        refused = 0
        for number in range(1000):
            try:
                client.call(number, bytes(MIB))
            except OverloadError:
                refused += 1
            await asyncio.sleep(0)
        # 64 MiB may gather in all; beyond half of that nothing more is taken.
        assert 1000 - refused <= 36
        client.connection.unjam(client.connection.server)
        await asyncio.sleep(3)
        assert client.session.inflight == 0
        client.call(2000, b"again")
        await asyncio.sleep(1)
        assert client.end(2000) == b"again"
        server.assert_quiet()

    simulate(1, work)


def test_half_a_close_ends_the_session() -> None:
    """A peer that will send no more is gone, although it might still read."""

    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(
            hello(),
            frame("NAME", b"echo", target=1),
            frame("REQUEST", target=1, id=1, value=1000),
        )
        await asyncio.sleep(0.02)
        peer.transport.close()
        await asyncio.sleep(1)
        assert not server.sessions
        server.assert_quiet()

    simulate(1, work)


def test_the_last_words_of_a_session_still_leave() -> None:
    async def work(loop: SimulatedLoop) -> None:
        peer = RawPeer()
        loop.network.listen("server", 1, lambda: peer)
        client = Client(loop)
        await loop.create_connection(lambda: client.session, "server", 1)
        await asyncio.sleep(0.02)
        peer.send(hello(), frame("CREDIT", value=1))
        await client.ready.wait()
        await asyncio.sleep(0.02)
        client.call(1, b"last words")
        client.session.close()
        await asyncio.sleep(0.1)
        assert peer.of("REQUEST")[0][5] == b"last words"
        assert peer.frames[-1][0] == KINDS["REQUEST"]
        assert not client.error(1).retry_safe

    simulate(1, work)
