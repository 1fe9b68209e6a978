"""Many clients, many servers: who is slow or greedy holds back nobody but himself."""

from __future__ import annotations

import asyncio

from dragoman import rpc
from dragoman.testing import SimulatedLoop, at_rest, simulate
from tests.rpc.peers import settle


async def slow(body: bytes) -> bytes:
    await asyncio.sleep(10)
    return body


async def quick(body: bytes) -> bytes:
    await asyncio.sleep(0.01)
    return body


def test_a_slow_server_holds_back_its_own_callers_and_nobody_else() -> None:
    async def work(loop: SimulatedLoop) -> None:
        servers = [
            await rpc.serve(slow if i == 0 else quick, f"server{i}:1", limit=10) for i in range(3)
        ]
        clients = [[await rpc.connect(f"server{i}:1") for i in range(3)] for _ in range(4)]
        stuck = [ours[0].call("m", b"x") for ours in clients for _ in range(50)]
        started_s = loop.time()
        for ours in clients:
            for client in ours[1:]:
                assert await client.call_many("m", [b"y"] * 100) == [b"y"] * 100
        # 800 calls of 10 ms, 10 at once at each of two servers, one batch after the other.
        assert loop.time() - started_s < 2
        assert not any(call.done() for call in stuck)
        await asyncio.gather(*stuck)
        # 200 calls of 10 s, 10 at once: no longer than they must.
        assert loop.time() - started_s < 215
        for ours in clients:
            for client in ours:
                await client.close()
        for server in servers:
            await server.close()
            at_rest(server)

    simulate(1, work)


def test_a_greedy_client_takes_no_more_than_its_share() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(quick, "server:1", limit=12) as server:
            greedy = await rpc.connect("server:1")
            flood = greedy.call_many("m", [b"greedy"] * 20_000)
            await asyncio.sleep(0.1)
            modest = [await rpc.connect("server:1") for _ in range(3)]
            started_s = loop.time()
            batches = [client.call_many("m", [b"modest"] * 300) for client in modest]
            await asyncio.gather(*batches)
            took_s = loop.time() - started_s
            # With 3 of 12 credits each, 300 calls of 10 ms and the way there and back take 1.3 s.
            assert took_s < 2.5, took_s
            # One that asks for little gets it at once.
            latest_s = 0.0
            for _ in range(50):
                asked_s = loop.time()
                await modest[0].call("m", b"one")
                latest_s = max(latest_s, loop.time() - asked_s)
            assert latest_s < 0.1
            assert not flood.done()
            assert await flood == [b"greedy"] * 20_000
            for client in (greedy, *modest):
                await client.close()
            at_rest(server)

    simulate(1, work)


def test_shares_are_fair_on_real_sockets_too() -> None:
    async def work() -> None:
        async with await rpc.serve(quick, "127.0.0.1:0", limit=12) as server:
            address = str(server.address)
            greedy = await rpc.connect(address)
            flood = greedy.call_many("m", [b"greedy"] * 100_000)
            await asyncio.sleep(0.1)
            clients = [await rpc.connect(address) for _ in range(3)]
            await asyncio.gather(*[client.call_many("m", [b"x"] * 60) for client in clients])
            done = server.statistics().requests
            # Had they waited behind the flood, it would have been thousands.
            assert done < 2000
            assert not flood.done()
            flood.cancel()
            await settle(server, greedy, *clients)
            for client in (greedy, *clients):
                await client.close()

    asyncio.run(work())
