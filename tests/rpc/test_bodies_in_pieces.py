"""Large bodies travel in pieces, so that small calls pass between: at what cost in time they do,
and that bodies, order, credits and memory are right however calls and pieces are mixed.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import statistics
import time
from pathlib import Path

import pytest

from dragoman import rpc
from dragoman.testing.mesh import frame, hello
from tests.load_factor import load_factor
from tests.rpc.peers import RUNNERS, RawSocket, settle
from tests.rpc.slow_link import slow_link
from tests.waiting import until

ANY = "127.0.0.1:0"
MIB = 1 << 20


def blob(size: int) -> bytes:
    """Bytes in which no place looks like another."""
    return random.Random(size).randbytes(size)


FUNCTIONS = {
    "echo": lambda body: body,
    "length": lambda body: b"%d" % len(body),
    "make": lambda body: blob(int(body)),
    "digest": lambda body: hashlib.sha256(body).digest(),
}


async def small_calls_beside(client: rpc.Client, large: asyncio.Future[bytes]) -> list[float]:
    """Call one after the other until ``large`` has ended; how long each took."""
    took: list[float] = []
    while not large.done():
        began = time.perf_counter()
        assert await client.call("echo", b"small") == b"small"
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.005)
    return took


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_small_call_passes_a_large_body_on_a_slow_link(direction: str, runner: str) -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            with slow_link(server.address.port) as port:
                async with await rpc.connect(f"127.0.0.1:{port}", timeout_ms=60_000) as client:
                    size = 12 * MIB
                    if direction == "request":
                        large = client.call("length", blob(size))
                    else:
                        large = client.call("make", b"%d" % size)
                    took = await small_calls_beside(client, large)
                    expected = b"%d" % size if direction == "request" else blob(size)
                    assert await large == expected
                    # The body takes 600 ms; whoever waits for it sees one or two calls.
                    assert len(took) >= 15
                    assert statistics.median(took) < 0.02

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_bodies_of_many_callers_and_small_calls_between_arrive_whole(runner: str) -> None:
    sizes = [0, 10, 65535, 65536, 65537, 131072, 131073, 3 * MIB + 1]

    async def work() -> None:
        async with (
            await rpc.serve(FUNCTIONS, ANY) as server,
            await rpc.connect(str(server.address), timeout_ms=60_000) as client,
            await rpc.connect(str(server.address), timeout_ms=60_000) as other,
        ):
            calls = []
            for number in range(5):
                for size in sizes:
                    who = (client, other)[number % 2]
                    calls.append((blob(size), who.call("echo", blob(size))))
                    calls.append((b"%d" % size, who.call("length", blob(size))))
            for expected, call in calls:
                assert await call == expected
            await settle(client, other, server)

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("address", [ANY, "unix:socket"])
def test_bodies_of_all_sizes_are_mixed_and_cancelled_while_the_link_is_full(
    address: str, runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes whole and what goes in pieces, methods that are named in between, batches."""
    monkeypatch.chdir(tmp_path)
    sizes = [0, 10, 65535, 65536, 65537, 200_000, 262_144, 262_145, MIB, 5 * MIB + 3]

    async def one(client: rpc.Client, number: int) -> None:
        source = random.Random(number)
        for _ in range(10):
            size = source.choice(sizes)
            body, length = blob(size), b"%d" % size
            what = source.random()
            if what < 0.4:
                assert await client.call("echo", body) == body
            elif what < 0.6:
                assert await client.call("make", length) == body
            elif what < 0.8:
                answers = await client.call_many("length", [body, b"", body])
                assert answers == [length, b"0", length]
            else:
                call = client.call("echo", body)
                await asyncio.sleep(source.random() * 0.003)
                call.cancel()

    async def work() -> None:
        server = await rpc.serve(FUNCTIONS, address)
        async with server, await rpc.connect(server.address, timeout_ms=120_000) as client:
            await asyncio.gather(*(one(client, number) for number in range(20)))
            assert client.statistics().connections == 1
            await settle(client, server)
            await client.close()
            await until(lambda: server.statistics().clients == 0)
            # What is kept for the next write is not more than that.
            assert client.statistics().buffers_bytes == 0
            assert server.statistics().buffers_bytes == 0

    RUNNERS[runner](work())


def test_requests_with_one_key_keep_their_order_whatever_their_sizes() -> None:
    begun: list[int] = []

    async def note(body: bytes) -> bytes:
        begun.append(int(body[:4]))
        return b""

    async def work() -> None:
        async with (
            await rpc.serve({"note": note}, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            sizes = [4, MIB, 5, 4, 200_000, 70_000, 9, 4]
            calls = [
                client.call("note", b"%04d" % number + bytes(size), order_key="account")
                for number, size in enumerate(sizes * 4)
            ]
            client.notify("note", b"%04d" % len(calls) + bytes(300_000), order_key="account")
            await asyncio.gather(*calls)
            await settle(client, server)
            assert begun == list(range(len(calls) + 1))

    RUNNERS["uvloop"](work())


@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_large_call_that_is_cancelled_frees_the_link_and_its_credit(direction: str) -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY, limit=3) as server:
            with slow_link(server.address.port, 4e6) as port:
                async with await rpc.connect(f"127.0.0.1:{port}", timeout_ms=60_000) as client:
                    method, body = ("length", blob(40 * MIB))
                    if direction == "reply":
                        method, body = ("make", b"%d" % (40 * MIB))
                    first = client.call(method, body)
                    second = client.call(method, body)
                    for _ in range(5):
                        await client.call("echo", b"small")
                    began = time.monotonic()
                    first.cancel()
                    second.cancel()
                    # Both take ten seconds each, of which nothing is waited for.
                    assert await client.call("length", bytes(100_000)) == b"100000"
                    assert time.monotonic() - began < 10 * load_factor()
                    await settle(client, server)

    RUNNERS["uvloop"](work())


def test_a_large_call_whose_server_dies_before_it_has_come_whole_may_be_made_again() -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            with slow_link(server.address.port, 4e6) as port:
                async with await rpc.connect(
                    f"127.0.0.1:{port}", timeout_ms=60_000, reconnect=False
                ) as client:
                    large = client.call("length", blob(20 * MIB))
                    await client.call("echo", b"small")
                    await server.close(drain_ms=0)
                    with pytest.raises(rpc.LinkLostError) as caught:
                        await large
                    assert caught.value.retry_safe

    RUNNERS["uvloop"](work())


def test_a_large_call_whose_time_passes_on_the_way_is_no_longer_sent() -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            with slow_link(server.address.port, 4e6) as port:
                async with await rpc.connect(f"127.0.0.1:{port}") as client:
                    with pytest.raises(rpc.DeadlineError):
                        await client.call("length", blob(40 * MIB), timeout_ms=300)
                    assert await client.call("length", bytes(100_000)) == b"100000"
                    await settle(client, server)
                    assert server.statistics().errors == 0

    RUNNERS["uvloop"](work())


@pytest.mark.parametrize("features", [0, 3])
def test_a_peer_that_knows_no_pieces_is_sent_none(features: int) -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            peer = await RawSocket.connect(server)
            await peer.send(
                hello(features=features, body_bytes_max=MIB),
                frame("NAME", b"make", target=1),
            )
            await peer.read("CREDIT")
            await peer.send(frame("REQUEST", b"200000", target=1, id=1, value=5000))
            assert (await peer.read("REPLY"))[5] == blob(200_000)
            peer.close()

    RUNNERS["uvloop"](work())


PIECE = bytes(65536)
WRONG = {
    "a piece within another body": [
        frame("PIECE", PIECE, id=1, value=200_000),
        frame("PIECE", PIECE, id=2, value=200_000),
    ],
    "a body that ends early": [
        frame("PIECE", PIECE, id=1, value=200_000),
        frame("REQUEST", b"x", target=1, id=1, value=5000),
    ],
    "a body that is longer than was said": [
        frame("PIECE", PIECE, id=1, value=70_000),
        frame("PIECE", PIECE, id=1, value=70_000),
    ],
    "a body of another length": [
        frame("PIECE", PIECE, id=1, value=200_000),
        frame("PIECE", PIECE, id=1, value=300_000),
    ],
    "a body over the limit": [frame("PIECE", b"", id=1, value=2 * MIB)],
    "more bodies than credits": [
        frame("PIECE", b"", id=number, value=70_000) for number in range(1, 5)
    ],
}


@pytest.mark.parametrize("name", WRONG)
def test_pieces_that_make_no_body_end_their_session_and_cost_no_credit(name: str) -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY, limit=3, body_bytes_max=MIB) as server:
            peer = await RawSocket.connect(server)
            await peer.send(hello(features=7), frame("NAME", b"length", target=1))
            await peer.read("CREDIT")
            await peer.send(*WRONG[name])
            await peer.read("GOODBYE")
            await peer.read("END")
            peer.close()
            async with await rpc.connect(str(server.address)) as client:
                assert await client.call("length", bytes(100_000)) == b"100000"
                # All of the limit is there again.
                await until(lambda: client.statistics().credits == 3)
                await settle(client, server)

    RUNNERS["uvloop"](work())


def test_a_body_that_finds_no_memory_is_refused_and_the_next_is_taken() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(FUNCTIONS, ANY, body_bytes_max=MIB, buffers_bytes_max=1) as server,
            await rpc.connect(str(server.address), body_bytes_max=MIB) as client,
        ):
            held = server._budget  # type: ignore[attr-defined]
            taken = held.bytes_max - held.used - 4096
            assert held.hold(taken)
            with pytest.raises(rpc.OverloadError, match="no memory is left"):
                await client.call("length", bytes(MIB))
            held.let_go(taken)
            assert await client.call("length", bytes(MIB)) == b"%d" % MIB
            await settle(client, server)
            assert held.used < 100_000

    RUNNERS["uvloop"](work())


def test_who_has_brought_a_body_holds_no_more_with_the_next_than_has_come_of_it() -> None:
    def pieces(number: int, size: int) -> list[bytes]:
        body = blob(size)
        parts = [body[at : at + len(PIECE)] for at in range(0, size, len(PIECE))]
        return [
            *(frame("PIECE", part, id=number, value=size) for part in parts[:-1]),
            frame("REQUEST", parts[-1], target=1, id=number, value=5000),
        ]

    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            peer = await RawSocket.connect(server)
            await peer.send(hello(features=7), frame("NAME", b"digest", target=1))
            await peer.read("CREDIT")
            # Longer and shorter ones after each other: what is set aside is not what is told.
            for number, size in enumerate((9 * MIB, 200_000, 3 * MIB, 17 * MIB, 70_000, 17 * MIB)):
                await peer.send(*pieces(number + 1, size))
                assert (await peer.read("REPLY", 20))[5] == hashlib.sha256(blob(size)).digest()
            idle = server.statistics().buffers_bytes
            await peer.send(*pieces(100, 17 * MIB)[:2])
            await until(lambda: server.statistics().buffers_bytes > idle)
            assert server.statistics().buffers_bytes - idle <= 8 * len(PIECE)
            peer.close()
            await until(lambda: server.statistics().buffers_bytes <= idle)

    RUNNERS["uvloop"](work())
