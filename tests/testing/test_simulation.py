"""Virtual time: it passes by itself, and a seed is one life."""

from __future__ import annotations

import asyncio
import os
import random
import time

import pytest

from dragoman import cluster, rpc
from dragoman.testing import SimulatedLoop, StalledError, at_rest, simulate
from tests.load_factor import load_factor


def test_an_hour_takes_no_time() -> None:
    async def work(loop: SimulatedLoop) -> float:
        before_s = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - before_s

    real_s = time.monotonic()
    assert simulate(1, work) == 3600
    assert time.monotonic() - real_s < load_factor()


def test_time_stands_still_while_anything_is_ready() -> None:
    async def work(loop: SimulatedLoop) -> None:
        timer = loop.call_later(0.001, pytest.fail, "time passed")
        before_s = loop.time()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert loop.time() == before_s
        timer.cancel()

    simulate(1, work)


def test_timers_end_in_their_order_and_at_their_time() -> None:
    async def work(loop: SimulatedLoop) -> None:
        start_s, ended = loop.time(), []

        async def one(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            ended.append((delay_s, loop.time() - start_s))

        await asyncio.gather(one(30), one(0.5), one(7))
        assert ended == [(0.5, 0.5), (7, 7), (30, 30)]

    simulate(1, work)


def test_a_deadline_passes_on_virtual_time() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async def never(body: bytes) -> bytes:
            await asyncio.sleep(86_400)
            return body

        async with rpc.serve({"never": never}, "server:1"), rpc.connect("server:1") as client:
            before_s = loop.time()
            with pytest.raises(rpc.DeadlineError):
                await client.call("never", b"", timeout_ms=3_600_000)
            assert loop.time() - before_s == pytest.approx(3600, abs=0.1)

    simulate(1, work)


def test_who_waits_for_ever_is_told() -> None:
    async def work(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(StalledError) as caught:
        simulate(17, work)
    assert caught.value.__notes__ == ["seed 17"]


def test_an_error_that_nobody_could_catch_fails_the_run() -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError, match="seed 3: ") as caught:
        simulate(3, work)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_tasks_that_are_left_over_are_cancelled() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(86_400)
        finally:
            ended.append(True)

    async def work(loop: SimulatedLoop) -> asyncio.Task[None]:
        task = loop.create_task(long())
        await asyncio.sleep(0)
        return task

    assert simulate(1, work).cancelled()
    assert ended == [True]


def life(seed: int) -> str:
    """Servers, a client and a pool that meet faults; the trace of all that was delivered."""

    async def work(loop: SimulatedLoop) -> str:
        loop.network.piece_bytes_max = 40

        async def slowly(body: bytes) -> bytes:
            await asyncio.sleep(random.random())
            return body

        addresses = [f"server{n}:1" for n in range(3)]
        servers = [await rpc.serve({"slowly": slowly}, address, limit=5) for address in addresses]
        async with (
            rpc.connect(addresses[0]) as client,
            cluster.connect("all", endpoints=addresses, servers_min=3) as pool,
        ):
            calls = [
                each.call("slowly", os.urandom(50), timeout_ms=5000) for each in [client, pool] * 20
            ]
            await asyncio.sleep(0.2)
            loop.network.connections[loop.random.randrange(4)].reset()
            await asyncio.gather(*calls, return_exceptions=True)
            at_rest(client, pool)
        for server in servers:
            await server.close()
        at_rest(*servers)
        return loop.network.trace()

    return simulate(seed, work)


def test_a_seed_is_one_life_and_another_seed_another() -> None:
    first = life(1)
    assert life(1) == first
    assert life(2) != first


def test_what_is_drawn_outside_a_run_is_not_its_seed_s() -> None:
    async def work(loop: SimulatedLoop) -> tuple[bytes, float]:
        return os.urandom(16), random.random()

    random.seed("outside")
    expected = random.random()
    random.seed("outside")
    assert simulate(1, work) == simulate(1, work)
    assert random.random() == expected
    assert os.urandom(16) != os.urandom(16)


def test_at_rest_tells_what_is_outstanding() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async def later(body: bytes) -> bytes:
            await asyncio.sleep(1)
            return body

        async with (
            rpc.serve({"later": later}, "server:1") as server,
            rpc.connect("server:1") as client,
        ):
            call = client.call("later", b"1234")
            await asyncio.sleep(0.5)
            with pytest.raises(AssertionError, match="'calls': 1, 'bytes': 4"):
                at_rest(client)
            with pytest.raises(AssertionError, match="'in_progress': 1"):
                at_rest(server)
            await call
            at_rest(client, server)

    simulate(1, work)
