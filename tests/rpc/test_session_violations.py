"""What a peer must not send: its session ends with a clear reason, and nobody else is affected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from dragoman.errors import Code, LinkLostError, ProtocolError
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Client, RawPeer, Server, frame, hello, raw_client
from dragoman.wire.mesh import KINDS

NAME = frame("NAME", b"echo", target=1)


def request(id: int, *, target: int = 1, value: int = 1000, body: bytes = b"x") -> bytes:
    return frame("REQUEST", body, target=target, id=id, value=value)


# What a client sends after its HELLO (limit 2: it holds two credits), and why the server ends it.
FROM_CLIENT: dict[str, tuple[bytes, str]] = {
    "a second HELLO": (hello(), "a second HELLO"),
    "a method that was never named": (request(1), "method id 1, which was never named"),
    "more requests than credits": (
        NAME + request(1) + request(2) + request(3),
        "request without a credit",
    ),
    "an id that is in use": (NAME + request(1) + request(1), "request id 1 is in use"),
    "a method id out of turn": (frame("NAME", b"echo", target=2), "method id 2 named, 1 was next"),
    "a method named twice": (NAME + NAME, "method id 1 named, 2 was next"),
    "a return of what was not held": (frame("RETURN", value=3), "3 credits given back"),
    "a REPLY": (frame("REPLY", id=1), "mesh frame type 4 from a client"),
    "an ERROR": (frame("ERROR", id=1, target=1), "mesh frame type 5 from a client"),
    "a CREDIT": (frame("CREDIT", value=1), "mesh frame type 7 from a client"),
    "a RECLAIM": (frame("RECLAIM", value=1), "mesh frame type 9 from a client"),
    "a request after its GOODBYE": (
        NAME + frame("GOODBYE") + request(1),
        "request without a credit",
    ),
    "an ORDER": (frame("ORDER", id=1, body=b"k"), "ORDER, which this server does not offer"),
    "a request without reply": (
        NAME + frame("REQUEST", target=1, id=1, value=1, flags=1),
        "without reply, which this server does not offer",
    ),
    "an unknown type": (bytes([0, 0, 0, 0, 99] + [0] * 11), "unknown mesh frame type 99"),
    "an unknown flag": (NAME + frame("REQUEST", target=1, id=1, value=1, flags=2), "unknown flags"),
    "a request without a timeout": (NAME + request(1, value=0), "value must not be 0|not be 0"),
    "a body over the limit": (NAME + request(1, body=bytes(5000)), "5000 bytes, at most 4096"),
}


@pytest.mark.parametrize("name", FROM_CLIENT)
def test_a_client_that_breaks_the_protocol_loses_its_session_and_nobody_elses(name: str) -> None:
    sent, why = FROM_CLIENT[name]

    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=4, body_bytes_max=4096)
        neighbour = await Client(loop).connect()
        peer = await raw_client(loop)
        peer.send(hello())
        await asyncio.sleep(0.05)
        assert peer.kinds() == ["HELLO", "CREDIT"]
        assert peer.of("CREDIT")[0][4] == 2
        neighbour.call(1, b"before")
        peer.send(sent)
        await asyncio.sleep(0.2)
        assert peer.lost
        (broken,) = [session for session in server.all_sessions if session.closed]
        assert isinstance(broken.failure, ProtocolError)
        assert re.search(why, str(broken.failure))
        neighbour.call(2, b"after")
        await asyncio.sleep(0.2)
        assert (neighbour.end(1), neighbour.end(2)) == (b"before", b"after")
        # All credits are the neighbour's now.
        assert neighbour.session.credits == 4
        server.assert_quiet()

    for seed in (1, 2):
        simulate(seed, work)


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (hello(magic=b"HTTP"), "not a dragoman mesh peer: wrong magic in HELLO"),
        (hello(lowest=2, highest=9), "peer speaks mesh versions 2 to 9, not 1"),
        (hello(lowest=0, highest=0), "peer speaks mesh versions 0 to 0, not 1"),
        (frame("PING"), "mesh frame type 11 before HELLO"),
        (NAME, "mesh frame type 2 before HELLO"),
        (request(1, body=b""), "mesh frame type 3 before HELLO"),
        (request(1), "a body of 1 bytes, at most 0 allowed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "unknown mesh frame type 47"),
    ],
)
def test_what_does_not_begin_with_a_right_hello_is_refused_by_both_ends(
    first: bytes, why: str
) -> None:
    async def to_server(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(first)
        await asyncio.sleep(0.1)
        assert peer.lost and peer.frames == []
        assert str(server.all_sessions[0].failure).endswith(why)
        assert not server.sessions
        server.assert_quiet()

    async def to_client(loop: SimulatedLoop) -> None:
        peer = RawPeer()
        loop.network.listen("server", 1, lambda: peer)
        client = Client(loop)
        await loop.create_connection(lambda: client.session, "server", 1)
        await asyncio.sleep(0.05)
        assert peer.kinds() == ["HELLO"]
        peer.send(first)
        await client.lost.wait()
        assert str(client.session.failure).endswith(why)
        assert not client.ready.is_set()
        assert client.losses == 1

    simulate(1, to_server)
    simulate(1, to_client)


@pytest.mark.parametrize("features", [0, 1, 0x80000000, 0xFFFFFFFF])
def test_features_and_versions_that_only_the_peer_knows_are_no_obstacle(features: int) -> None:
    async def work(loop: SimulatedLoop) -> None:
        Server(loop)
        peer = await raw_client(loop)
        peer.send(hello(features=features, lowest=0, highest=65535), frame("PING", value=7))
        await asyncio.sleep(0.05)
        assert peer.kinds() == ["HELLO", "CREDIT", "PONG"]
        assert peer.of("PONG")[0][4] == 7

    simulate(1, work)


# What a server sends after HELLO and five credits, while call 1 is under way.
FROM_SERVER: dict[str, tuple[bytes, str]] = {
    "a second HELLO": (hello(), "a second HELLO"),
    "a REQUEST": (request(1), "mesh frame type 3 from a server"),
    "a NAME": (NAME, "mesh frame type 2 from a server"),
    "a CANCEL": (frame("CANCEL", id=1), "mesh frame type 6 from a server"),
    "a DEMAND": (frame("DEMAND", value=1), "mesh frame type 8 from a server"),
    "a RETURN": (frame("RETURN", value=1), "mesh frame type 10 from a server"),
    "absurd credit": (frame("CREDIT", value=(1 << 24) + 1), "16777217 credits granted"),
    "absurd credit little by little": (
        frame("CREDIT", value=1 << 24) * 3,
        "16777216 credits granted to a holder of",
    ),
    "absurd credit with a reply": (frame("REPLY", id=1, value=0xFFFFFFFF), "4294967295 credits"),
    "an unknown type": (bytes([0, 0, 0, 0, 99] + [0] * 11), "unknown mesh frame type 99"),
    "an unknown flag": (frame("REPLY", id=1, flags=1), "unknown flags 0x01"),
    "a reply without an id": (frame("REPLY", b"x"), "id must not be 0"),
    "a body over the limit": (frame("REPLY", bytes(5000), id=1), "5000 bytes, at most 4096"),
}


async def with_raw_server(
    loop: SimulatedLoop, act: Callable[[RawPeer, Client], object], credits: int = 5
) -> tuple[RawPeer, Client]:
    """A client ready at a raw server."""
    peer = RawPeer()
    loop.network.listen("server", 1, lambda: peer)
    client = Client(loop, body_bytes_max=4096)
    await loop.create_connection(lambda: client.session, "server", 1)
    await asyncio.sleep(0.02)
    peer.send(hello(), frame("CREDIT", value=credits))
    await client.ready.wait()
    await asyncio.sleep(0.02)
    act(peer, client)
    await asyncio.sleep(0.05)
    return peer, client


@pytest.mark.parametrize("name", FROM_SERVER)
def test_a_server_that_breaks_the_protocol_ends_the_calls_under_way_once(name: str) -> None:
    sent, why = FROM_SERVER[name]

    async def work(loop: SimulatedLoop) -> None:
        def act(peer: RawPeer, client: Client) -> None:
            client.call(1, b"a")
            client.call(2, b"b")
            loop.call_later(0.02, peer.send, sent)

        peer, client = await with_raw_server(loop, act)
        await client.lost.wait()
        assert isinstance(client.session.failure, ProtocolError)
        assert why in str(client.session.failure)
        for number in (1, 2):
            error = client.error(number)
            assert error.code is Code.UPSTREAM_PROTOCOL
            # They had been sent: nobody knows whether they ran.
            assert not error.retry_safe
        assert client.session.inflight == client.session.credits == 0
        await asyncio.sleep(0.1)
        assert peer.lost

    simulate(1, work)


def test_unknown_late_and_duplicate_replies_are_counted_and_dropped() -> None:
    async def work(loop: SimulatedLoop) -> None:
        def act(peer: RawPeer, client: Client) -> None:
            client.call(1, b"a")

        peer, client = await with_raw_server(loop, act)
        (sent,) = peer.of("REQUEST")
        peer.send(
            frame("REPLY", b"unknown", id=77, value=5),
            frame("REPLY", b"right", id=sent[3], value=1),
            frame("REPLY", b"duplicate", id=sent[3], value=1),
            frame("ERROR", b"late", id=sent[3], target=7, value=1),
        )
        await asyncio.sleep(0.05)
        assert client.end(1) == b"right"
        assert client.session.frames_dropped == 3
        # Credits that come with them are not believed either.
        assert client.session.credits == 5
        assert not client.session.closed

    simulate(1, work)


def test_an_unknown_error_code_is_an_internal_error() -> None:
    async def work(loop: SimulatedLoop) -> None:
        def act(peer: RawPeer, client: Client) -> None:
            client.call(1, b"a")
            loop.call_later(
                0.02, lambda: peer.send(frame("ERROR", b"\xff?", id=1, target=999, flags=1))
            )

        _, client = await with_raw_server(loop, act)
        error = client.error(1)
        assert error.code is Code.INTERNAL
        assert str(error) == "\ufffd?"
        assert error.retry_safe

    simulate(1, work)


def test_a_peer_that_says_nothing_is_closed_and_is_sent_nothing_but_hello() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        await asyncio.sleep(5.1)
        assert peer.lost and peer.frames == []
        assert "no HELLO within a heartbeat interval" in str(server.all_sessions[0].failure)
        silent = RawPeer()
        loop.network.listen("server", 2, lambda: silent)
        client = Client(loop)
        await loop.create_connection(lambda: client.session, "server", 2)
        await asyncio.sleep(5.1)
        assert client.losses == 1
        assert silent.kinds() == ["HELLO"]

    simulate(1, work)


@pytest.mark.parametrize("cut", range(0, 61, 4))
def test_a_connection_that_breaks_inside_a_frame_dispatches_nothing_partial(cut: int) -> None:
    data = hello() + NAME + request(1, body=b"12345678")

    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(data[: len(data) - 1 - cut])
        await asyncio.sleep(0.05)
        peer.transport.close()
        await asyncio.sleep(0.05)
        assert server.requests == []
        assert not server.sessions
        assert isinstance(server.all_sessions[0].failure, LinkLostError)
        server.assert_quiet()

    simulate(1, work)


def test_every_type_has_a_name() -> None:
    assert sorted(KINDS.values()) == list(range(1, 17))
