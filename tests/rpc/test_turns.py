"""One client's burst takes its share of a server's time, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from dragoman import cluster, dubbo, rpc
from dragoman.errors import DragomanError
from dragoman.wire import hessian2
from tests.cluster.pools import run
from tests.dubbo.peer import frame

TCP = "127.0.0.1:0"
BURST = 800
# What others wait for one of theirs, in calls of the burst: a few turns of some milliseconds each.
BETWEEN_MAX = 60


class Counted:
    """Handlers that work for a millisecond, and count."""

    def __init__(self) -> None:
        self.ran = 0

    def work(self, body: bytes) -> bytes:
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
        self.ran += 1
        return body

    async def task(self, body: bytes) -> bytes:
        return self.work(body)

    def handlers(self) -> dict[str, Callable[[bytes], Any]]:
        return {"work": self.work, "task": self.task, "echo": lambda body: body}


async def others(counted: Counted, call: Callable[[], Any], burst: Any) -> list[int]:
    """How many calls of the burst ran while each of ours was on its way."""
    between = []
    while not burst.done():
        before = counted.ran
        await call()
        between.append(counted.ran - before)
    return between


@pytest.mark.parametrize("method", ["work", "task"])
def test_others_are_answered_while_one_client_has_sent_thousands_of_calls(method: str) -> None:
    counted = Counted()

    async def work() -> None:
        async with (
            await rpc.serve(counted.handlers(), TCP, heartbeat_ms=100) as server,
            await rpc.connect(server.address) as greedy,
            await rpc.connect(server.address, heartbeat_ms=100, reconnect=False) as client,
        ):
            burst = greedy.call_many(method, [b"x"] * BURST)
            between = await others(counted, lambda: client.call("echo"), burst)
            assert await burst == [b"x"] * BURST
            # The first may have met what was begun before anything was known of it.
            assert max(between[1:]) <= BETWEEN_MAX, between
            assert len(between) > BURST // BETWEEN_MAX
            assert client.statistics().connections == 1

    run(work)


def test_bursts_of_many_clients_take_turns() -> None:
    counted = Counted()

    async def work() -> None:
        async with await rpc.serve(counted.handlers(), TCP, heartbeat_ms=200) as server:
            clients = [
                await rpc.connect(server.address, heartbeat_ms=200, reconnect=False)
                for _ in range(8)
            ]
            ends: list[int] = []
            bursts = []
            for n, client in enumerate(clients):
                bursts.append(client.call_many("work", [b"x"] * 150))
                bursts[-1].add_done_callback(lambda _, n=n: ends.append(counted.ran))
            await asyncio.gather(*bursts)
            # None of them is done long before the others are.
            assert min(ends) > 0.7 * max(ends), ends
            for client in clients:
                await client.close()

    run(work)


def test_a_pool_is_answered_beside_a_burst() -> None:
    counted = Counted()

    async def work() -> None:
        async with (
            await rpc.serve(counted.handlers(), TCP) as server,
            await rpc.connect(server.address) as greedy,
            await cluster.connect("s", endpoints=[server.address]) as pool,
        ):
            burst = greedy.call_many("work", [b"x"] * BURST)
            between = await others(counted, lambda: pool.call("echo"), burst)
            assert max(between[1:]) <= BETWEEN_MAX, between

    run(work)


@dubbo.service("com.example.Busy")
class Busy:
    def __init__(self) -> None:
        self.counted = Counted()

    def work(self, text: str) -> str:
        self.counted.work(b"")
        return text

    async def task(self, text: str) -> str:
        self.counted.work(b"")
        return text

    async def echo(self, text: str) -> str:
        return text


@pytest.mark.parametrize("method", ["work", "task"])
def test_others_are_answered_by_a_dubbo_server(method: str) -> None:
    busy = Busy()

    async def work() -> None:
        async with await dubbo.serve(busy, 0, threads=0, limit=10_000) as server:
            at = f"dubbo://127.0.0.1:{server.address.port}?limit=10000"
            async with dubbo.Client(at) as client:
                ours = client.service(Busy)
                await ours.echo("x")
                reader, writer = await asyncio.open_connection("127.0.0.1", server.address.port)
                writer.write(frames(method, BURST))
                burst = asyncio.ensure_future(replies(reader, BURST))
                between = await others(busy.counted, lambda: ours.echo("x"), burst)
                await burst
                assert max(between[1:]) <= BETWEEN_MAX, between
                writer.close()

    run(work)


def frames(method: str, count: int) -> bytes:
    body = hessian2.encode("2.0.2", "com.example.Busy", None, method, "Ljava/lang/String;", "x", {})
    return b"".join(frame(n, body) for n in range(count))


async def replies(reader: asyncio.StreamReader, count: int) -> None:
    for _ in range(count):
        head = await reader.readexactly(16)
        assert head[3] == 20, head
        await reader.readexactly(int.from_bytes(head[12:], "big"))


def test_calls_that_wait_for_their_turn_end_with_their_connection() -> None:
    counted = Counted()

    async def work() -> None:
        async with (
            await rpc.serve(counted.handlers(), TCP) as server,
            await rpc.connect(server.address) as client,
        ):
            leaver = await rpc.connect(server.address, reconnect=False)
            burst = leaver.call_many("work", [b"x"] * BURST)
            await client.call("echo")
            await leaver.close(drain_ms=0)
            with pytest.raises(DragomanError):
                await burst
            for _ in range(50):
                await client.call("echo")
            assert counted.ran < BURST
            assert server.statistics().clients == 1
            assert server.statistics().granted <= 10_000

    run(work)
