"""Calls of one key over a pool: in order on one server, while it lives and after."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dragoman import cluster, rpc
from dragoman.errors import (
    DragomanError,
    LinkLostError,
    UnavailableError,
)
from tests.cluster.pools import assert_quiet, nodes, pool_of, run


@pytest.mark.parametrize("seed", range(3))
def test_calls_of_a_key_run_in_order_on_one_server_while_it_lives(seed: int) -> None:
    async def work() -> None:
        source = random.Random(seed)
        seen: dict[str, list[int]] = defaultdict(list)
        where: dict[str, set[str]] = defaultdict(set)
        made: dict[str, Any] = {}

        def handler(letter: str) -> Callable[[bytes], Coroutine[Any, Any, bytes]]:
            async def work(body: bytes) -> bytes:
                key, number = body.decode().split()
                seen[key].append(int(number))
                where[key].add(letter)
                await asyncio.sleep(source.choice((0, 0, 0.001, 0.003)))
                # It has been alone with its key all the time.
                assert seen[key][-1] == int(number)
                return body

            return work

        for letter in "abc":
            made[letter] = await rpc.serve(
                handler(letter), "127.0.0.1:0", limit=source.choice((2, 20))
            )
        endpoints = [str(server.address) for server in made.values()]
        async with await cluster.connect("test", endpoints=endpoints) as pool:
            counts: Counter[str] = Counter()
            calls: list[Any] = []

            def send() -> None:
                key = f"k{source.randrange(40)}"
                many = source.choice((1, 1, 1, 5))
                bodies = [f"{key} {counts[key] + n}".encode() for n in range(many)]
                counts[key] += many
                style = source.random()
                if many > 1:
                    calls.append(pool.call_many("m", bodies, order_key=key))
                elif style < 0.2:
                    pool.notify("m", bodies[0], order_key=key)
                else:
                    timeout_ms = source.choice((None, 20_000))
                    calls.append(pool.call("m", bodies[0], order_key=key, timeout_ms=timeout_ms))

            for _ in range(300):
                send()
                if source.random() < 0.1:
                    await asyncio.sleep(0.002)
            await asyncio.gather(*calls)
            while sum(map(len, seen.values())) < sum(counts.values()):
                await asyncio.sleep(0.005)
            assert all(len(letters) == 1 for letters in where.values())
            assert {letter for letters in where.values() for letter in letters} == set("abc")
            # One drains: its keys go elsewhere, when what it had is done, and still in order.
            calls.clear()
            for _ in range(100):
                send()
            closing = asyncio.create_task(made["a"].close())
            for _ in range(100):
                send()
                await asyncio.sleep(0.0005)
            await asyncio.gather(*calls)
            await closing
            while sum(map(len, seen.values())) < sum(counts.values()):
                await asyncio.sleep(0.005)
            assert all(numbers == list(range(counts[key])) for key, numbers in seen.items())
            assert_quiet(pool)
        for server in made.values():
            await server.close(drain_ms=0)

    run(work)


def test_calls_of_a_key_whose_server_dies_go_on_elsewhere_in_order() -> None:
    async def work() -> None:
        async with nodes("abc", delay_s=0.01, limit=5) as made, await pool_of(made) as pool:
            first = await pool.call("work", b"0", order_key="key")
            home = made[first[:1].decode()]
            calls = [pool.call("work", b"%d" % n, order_key="key") for n in range(1, 31)]
            await asyncio.sleep(0.025)
            await home.server.close(drain_ms=0)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            # Five at most were under way; what waited went to another, all to the same.
            failed = [end for end in ends if isinstance(end, BaseException)]
            assert 1 <= len(failed) <= 5 and {type(end) for end in failed} == {LinkLostError}
            good = [end for end in ends if isinstance(end, bytes)]
            assert [int(end[2:]) for end in good] == sorted(int(end[2:]) for end in good)
            assert len({end[:1] for end in good if end[:1] != home.letter}) == 1
            assert_quiet(pool)

    run(work)


@pytest.mark.parametrize("on_full", ["fail", "wait"])
def test_ordered_calls_that_come_back_unsent_end_when_nobody_is_left(on_full: Any) -> None:
    async def work() -> None:
        server = await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0")
        async with await cluster.connect(
            "s", endpoints=[server.address], on_full=on_full, timeout_ms=None
        ) as pool:
            # More than the connection takes: most of it never leaves.
            calls = [pool.call("echo", bytes(600_000), order_key="k") for _ in range(30)]
            await server.close(drain_ms=0)
            if on_full == "wait":
                # They wait for a server, and the pool's end ends them.
                await pool.close(drain_ms=0)
            async with asyncio.timeout(20):
                ends = await asyncio.gather(*calls, return_exceptions=True)
        if on_full == "fail":
            assert any(isinstance(end, UnavailableError) for end in ends), ends
        assert all(isinstance(end, bytes | DragomanError) for end in ends)

    run(work, timeout_s=60)
