"""Every bound of clients and servers, and peers that will not keep to theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import DeadlineError, LimitError, LinkLostError, OverloadError, UsageError
from dragoman.testing import SimulatedLoop, at_rest, simulate
from dragoman.testing.mesh import frame, hello
from tests.rpc.peers import RUNNERS, RawSocket, rss_bytes, settle
from tests.waiting import until

ANY = "127.0.0.1:0"
AT = "server:1"
NAME = frame("NAME", b"m", target=1)


async def echo(body: bytes) -> bytes:
    return body


async def slow(body: bytes) -> bytes:
    await asyncio.sleep(0.1)
    return body


def request(id: int, body: bytes = b"x", **fields: int) -> bytes:
    return frame("REQUEST", body, target=1, id=id, value=5000, **fields)


@pytest.mark.parametrize("on_full", ["wait", "fail"])
@pytest.mark.parametrize("bound", ["calls", "bytes", "credits"])
def test_a_full_client_waits_or_fails_as_it_was_told(on_full: Any, bound: str) -> None:
    async def work(loop: SimulatedLoop) -> None:
        limits: dict[str, int] = {"calls": {"calls_max": 3}, "bytes": {"bytes_max": 30}}.get(
            bound, {}
        )
        async with (
            await rpc.serve(slow, AT, limit=3 if bound == "credits" else 100) as server,
            await rpc.connect(AT, on_full=on_full, **limits) as client,
        ):
            calls = [client.call("m", b"0123456789") for _ in range(10)]
            assert client.calls == 3 and client.bytes == 30
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert ends[:3] == [b"0123456789"] * 3
            if on_full == "wait":
                assert ends == [b"0123456789"] * 10
            else:
                assert all(isinstance(end, OverloadError) and end.retry_safe for end in ends[3:])
                assert client.statistics().refused == 7
                with contextlib.suppress(OverloadError):
                    # One larger than all is let through alone.
                    assert await client.call("m", bytes(100)) == bytes(100)
            at_rest(client, server)

    simulate(1, work)


def test_the_line_is_bounded_by_calls_and_by_bytes() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow, AT, limit=1) as server:
            async with await rpc.connect(AT, waiting_max=5, waiting_bytes_max=100) as client:
                calls = [client.call("m", bytes(40)) for _ in range(6)]
                assert (client.waiting, client.waiting_bytes) == (2, 80)
                small = [client.call("m", b"") for _ in range(6)]
                assert (client.waiting, client.waiting_bytes) == (5, 80)
                with pytest.raises(OverloadError):
                    client.notify("m")
                ends = await asyncio.gather(*calls, *small, return_exceptions=True)
                assert sum(isinstance(end, bytes) for end in ends) == 6
                assert sum(isinstance(end, OverloadError) for end in ends) == 6
                at_rest(client, server)
            async with await rpc.connect(AT, waiting_max=0) as client:
                first = client.call("m")
                with pytest.raises(OverloadError):
                    await client.call("m")
                await first

    simulate(1, work)


def test_waiting_in_line_counts_against_the_deadline() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve(slow, AT, limit=1) as server,
            await rpc.connect(AT) as client,
        ):
            calls = [client.call("m", b"x", timeout_ms=250) for _ in range(5)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert ends[:2] == [b"x"] * 2
            assert all(isinstance(end, DeadlineError) for end in ends[2:])
            assert [end.retry_safe for end in ends[2:]] == [False, True, True]  # type: ignore[union-attr]
            await asyncio.sleep(0.5)
            assert server.statistics().requests == 3
            at_rest(client, server)

    simulate(1, work)


def test_a_server_never_has_more_requests_than_its_limit() -> None:
    async def work(loop: SimulatedLoop) -> None:
        running = most = 0

        async def count(body: bytes) -> bytes:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(loop.random.uniform(0, 0.05))
            running -= 1
            return body

        async with await rpc.serve(count, AT, limit=7) as server:
            clients = [await rpc.connect(AT) for _ in range(5)]
            batches = [client.call_many("m", [b"x"] * 200) for client in clients]
            for batch in batches:
                assert await batch == [b"x"] * 200
            assert most == 7
            for client in clients:
                await client.close()
            await asyncio.sleep(0.1)
            at_rest(server, *clients)

    simulate(1, work)


def test_one_client_too_many_is_told_so() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(echo, ANY, clients_max=2) as server,
            await rpc.connect(str(server.address)) as first,
            await rpc.connect(str(server.address)) as second,
        ):
            with pytest.raises(OverloadError, match="no more than 2 clients"):
                await rpc.connect(str(server.address))
            assert await first.call("m", b"1") == await second.call("m", b"1")
            await second.close()
            await until(lambda: server.statistics().clients == 1)
            async with await rpc.connect(str(server.address)) as third:
                assert await third.call("m", b"3") == b"3"

    asyncio.run(work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_bodies_at_the_limit_pass_and_those_beyond_are_refused_alone(runner: str) -> None:
    async def work() -> None:
        async def size(body: bytes) -> bytes:
            return bytes(int(body)) if body.isdigit() else b"%d" % len(body)

        async with (
            await rpc.serve(size, ANY, body_bytes_max=1000) as server,
            await rpc.connect(str(server.address), body_bytes_max=500) as client,
        ):
            assert await client.call("m", b"x" * 1000) == b"1000"
            with pytest.raises(LimitError) as caught:
                await client.call("m", b"x" * 1001)
            assert caught.value.retry_safe
            with pytest.raises(LimitError):
                await client.call_many("m", [b"x", b"x" * 1001])
            assert await client.call("m", b"500") == bytes(500)
            with pytest.raises(LimitError, match="501 bytes, the caller takes 500") as caught:
                await client.call("m", b"501")
            assert not caught.value.retry_safe
            assert client.statistics().connections == 1
            await settle(client, server)

    RUNNERS[runner](work())


def test_a_server_with_enough_bytes_reads_no_more_of_them() -> None:
    async def work(loop: SimulatedLoop) -> None:
        most = 0

        async def watch(body: bytes) -> bytes:
            nonlocal most
            most = max(most, server.statistics().bytes)
            await asyncio.sleep(0.05)
            return body[:1]

        async with (
            await rpc.serve(watch, AT, bytes_max=100_000) as server,
            await rpc.connect(AT) as client,
            await rpc.connect(AT) as other,
        ):
            batch = client.call_many("m", [bytes(30_000)] * 50)
            more = other.call_many("m", [bytes(30_000)] * 50)
            assert await batch == await more == [b"\0"] * 50
            assert 100_000 < most <= 100_000 + 2 * 30_000
            at_rest(client, server)

    simulate(1, work)


# Peers that will not


@pytest.mark.parametrize("runner", RUNNERS)
def test_who_sends_without_credit_is_told_why_and_only_he_ends(
    runner: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with (
            await rpc.serve(slow, ANY, limit=4) as server,
            await rpc.connect(str(server.address)) as neighbour,
        ):
            call = neighbour.call("m", b"neighbour")
            peer = await RawSocket.connect(server)
            await peer.send(hello())
            await peer.read("CREDIT")
            # Far more than it may, and more than one read holds.
            flood = b"".join(request(i, bytes(1000)) for i in range(1, 1000))
            with contextlib.suppress(ConnectionError):
                await peer.send(NAME, flood)
            goodbye = await peer.read("GOODBYE")
            assert goodbye[1] == 1 and goodbye[5] == b"request without a credit"
            await peer.read("END")
            peer.close()
            assert await call == b"neighbour"
            assert any("request without a credit" in record.message for record in caplog.records)
            await settle(server, neighbour)
            await until(lambda: neighbour.statistics().credits == 4)

    with caplog.at_level(logging.WARNING):
        RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_who_reads_no_replies_is_read_no_more_and_memory_stays_bounded(runner: str) -> None:
    async def work() -> None:
        handled = 0

        def large(body: bytes) -> bytes:
            nonlocal handled
            handled += 1
            return bytes(100_000)

        async with (
            await rpc.serve({"m": large}, ANY, limit=100_000, heartbeat_ms=300) as server,
            await rpc.connect(str(server.address)) as neighbour,
        ):
            peer = await RawSocket.connect(server)
            await peer.send(hello())
            await peer.read("CREDIT")
            before = rss_bytes()
            await peer.send(NAME, *[request(i, b"") for i in range(1, 20_001)])
            await asyncio.sleep(0.2)
            assert len(await neighbour.call("m")) == 100_000
            # Two gigabytes were asked for; a few megabytes are made.
            assert handled < 200
            assert rss_bytes() - before < 32 << 20
            # It takes nothing out of its buffer: it is given up.
            await until(lambda: server.statistics().clients == 1)
            peer.close()
            await settle(server, neighbour)

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_who_says_nothing_half_closes_or_says_half_is_let_go(runner: str) -> None:
    async def work() -> None:
        async with await rpc.serve(slow, ANY, heartbeat_ms=200) as server:
            silent = await RawSocket.connect(server)
            half_closed = await RawSocket.connect(server)
            half = await RawSocket.connect(server)
            mute = await RawSocket.connect(server)
            await half_closed.send(hello(), NAME)
            await half_closed.read("CREDIT")
            await half_closed.send(request(1))
            half_closed.socket.shutdown(1)
            await half.send(hello(), NAME[:10])
            await mute.send(hello())
            await silent.read("END")
            await half_closed.read("END")
            for peer in (half, mute):
                await peer.read("PING")
                await peer.read("END")
            for peer in (silent, half_closed, half, mute):
                peer.close()
            assert server.statistics().clients == 0
            await settle(server)

    RUNNERS[runner](work())


def test_a_flood_of_names_is_bounded() -> None:
    async def work() -> None:
        async with await rpc.serve(echo, ANY) as server:
            peer = await RawSocket.connect(server)
            await peer.send(hello(), *[frame("NAME", b"%d" % i, target=i) for i in range(1, 1026)])
            goodbye = await peer.read("GOODBYE")
            assert b"method id 1025 named" in goodbye[5]
            await peer.read("END")
            peer.close()
            await settle(server)

    asyncio.run(work())


ORDER_MISUSE: dict[str, tuple[bytes, bytes]] = {
    "before another request": (frame("ORDER", b"k", id=2) + request(1), b"ORDER for id 2 before"),
    "before no request": (frame("ORDER", b"k", id=1) + frame("PING"), b"ORDER before mesh frame"),
    "twice": (frame("ORDER", b"k", id=1) * 2, b"ORDER before mesh frame type 14"),
    "without a key": (frame("ORDER", b"", id=1), b""),
    "with too long a key": (frame("ORDER", b"k" * 256, id=1), b"256 bytes"),
}


@pytest.mark.parametrize("name", ORDER_MISUSE)
def test_order_that_makes_no_sense_ends_the_session(name: str) -> None:
    sent, why = ORDER_MISUSE[name]

    async def work() -> None:
        async with await rpc.serve(slow, ANY) as server:
            peer = await RawSocket.connect(server)
            await peer.send(hello(features=3), NAME)
            await peer.read("CREDIT")
            await peer.send(sent)
            assert why in (await peer.read("GOODBYE"))[5]
            await peer.read("END")
            peer.close()
            await settle(server)

    asyncio.run(work())


def test_a_held_clients_death_is_noticed() -> None:
    async def work() -> None:
        async def hang(body: bytes) -> bytes:
            await asyncio.sleep(3600)
            return body

        functions = {"m": hang, "echo": echo}
        async with (
            await rpc.serve(functions, ANY, bytes_max=1000, heartbeat_ms=200) as server,
            await rpc.connect(str(server.address)) as other,
        ):
            peer = await RawSocket.connect(server)
            await peer.send(hello(), NAME)
            await peer.read("CREDIT")
            await peer.send(request(1, bytes(2000)).replace(b"\x88\x13\0\0", b"\xff" * 4))
            await until(lambda: server.statistics().bytes == 2000)
            await peer.send(request(2))
            call = other.call("echo", b"x" * 10)
            peer.close()
            assert await call == b"x" * 10
            await until(lambda: server.statistics().bytes == 0)
            assert await other.call("echo", b"y") == b"y"
            await settle(server, other)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (frame("CREDIT", value=1 << 25), "credits granted"),
        (frame("NAME", b"m", target=1), "from a server"),
        (hello(), "a second HELLO"),
        (frame("GOODBYE", b"you did wrong", flags=1), "you did wrong"),
        (b"\0" * 16, "mesh frame type 0"),
    ],
)
def test_a_server_that_breaks_the_protocol_fails_calls_that_are_under_way(
    reply: bytes, why: str
) -> None:
    async def work() -> None:
        class Strange(asyncio.Protocol):
            data = b""

            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                transport.write(hello(features=3) + frame("CREDIT", value=10))

            def data_received(self, data: bytes) -> None:
                self.data += data
                if b"body" not in self.data:
                    return
                # Unknown, late and double replies are nobody's: they are dropped.
                lost = frame("REPLY", b"?", id=77) + frame("ERROR", b"?", id=78, target=6)
                answered = frame("REPLY", b"1", id=1, value=1) * 3
                self.transport.write(lost + answered + reply)

        server = await asyncio.get_running_loop().create_server(Strange, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with await rpc.connect(f"127.0.0.1:{port}", reconnect=False) as client:
            first, second = client.call("m", b"bod"), client.call("m", b"body")
            assert await first == b"1"
            with pytest.raises(Exception, match=why) as caught:
                await second
            assert type(caught.value).__name__ == "ProtocolError"
            assert client.closed
            with pytest.raises(LinkLostError):
                await client.call("m")
            at_rest(client)
        server.close()
        await server.wait_closed()

    asyncio.run(work())


@pytest.mark.parametrize(
    "options",
    [
        {"calls_max": 0},
        {"bytes_max": 0},
        {"waiting_max": -1},
        {"on_full": "perhaps"},
        {"timeout_ms": 0},
        {"heartbeat_ms": 1},
        {"body_bytes_max": 1 << 31},
        {"tls": True},
        {"calls_max": 1.5},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any]) -> None:
    async def work() -> None:
        with pytest.raises(UsageError, match=next(iter(options))):
            await rpc.connect(AT, **options)

    asyncio.run(work())
