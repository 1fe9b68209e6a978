"""Pools over real sockets: who gets a call, who waits, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from dragoman import cluster, rpc
from dragoman.balance.policies import POLICIES
from dragoman.cluster.peer import peers_of
from dragoman.errors import (
    BatchError,
    DeadlineError,
    DragomanError,
    LimitError,
    NotFoundError,
    OverloadError,
    RemoteError,
    UnavailableError,
    UsageError,
)
from dragoman.registry.memory import MemoryRegistry
from tests.cluster.pools import Node, assert_quiet, kinds, nodes, pool_of, run
from tests.load_factor import load_factor
from tests.waiting import until


@pytest.mark.parametrize("policy", POLICIES)
def test_every_style_of_calling_works_under_every_policy(policy: str) -> None:
    async def work() -> None:
        async with nodes("abc") as made, await pool_of(made, policy=policy) as pool:
            assert (await pool.call("work", b"one"))[1:] == b":one"
            many = await pool.call_many("work", [b"%d" % n for n in range(3000)])
            assert [reply[2:] for reply in many] == [b"%d" % n for n in range(3000)]
            assert len({reply[:1] for reply in many}) == 3
            assert await pool.call_many("work", []) == []
            ends: list[Any] = []
            for n in range(30):
                pool.call_soon("work", b"%d" % n, lambda *end: ends.append(end))
            mapped = [r async for r in pool.map("work", [b"%d" % n for n in range(200)])]
            assert [reply[2:] for reply in mapped] == [b"%d" % n for n in range(200)]
            assert len(ends) == 30 and all(error is None for _, error in ends)
            before = sum(len(node.taken) for node in made.values())
            for n in range(30):
                pool.notify("work", b"%d" % n)
            while sum(len(node.taken) for node in made.values()) < before + 30:
                await asyncio.sleep(0.001)
            assert_quiet(pool)
            statistics = pool.statistics()
            assert statistics.replies == 1 + 3000 + 30 + 200
            assert statistics.requests == statistics.replies + 30
            with pytest.raises(AttributeError):
                statistics.replies = 0  # type: ignore[misc]

    run(work)


def test_weights_share_the_calls() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.05) as made:
            weights = {made["a"].address: 1, made["b"].address: 3}
            async with await cluster.connect("test", endpoints=weights) as pool:
                await asyncio.gather(*(pool.call("work", b"") for _ in range(400)))
                assert len(made["b"].taken) == pytest.approx(300, rel=0.1)

    run(work)


def test_a_slow_server_gets_what_it_grants_and_the_others_take_the_rest() -> None:
    async def work() -> None:
        slow = await Node("s", delay_s=0.3, limit=10).start()
        async with nodes("ab", delay_s=0.001, limit=50) as made:
            made["s"] = slow
            async with await pool_of(made) as pool:
                loop = asyncio.get_running_loop()
                started_s = loop.time()
                replies = [r async for r in pool.map("work", [b""] * 3000, in_flight=200)]
                assert len(replies) == 3000
                assert slow.most <= 10
                assert len(slow.taken) <= 10 * ((loop.time() - started_s) / 0.3 + 2)
                assert_quiet(pool)
            await slow.server.close(drain_ms=0)

    run(work)


def test_a_greedy_caller_leaves_the_others_their_share() -> None:
    async def work() -> None:
        async with (
            nodes("ab", delay_s=0.005, limit=8) as made,
            await pool_of(made) as greedy,
            await pool_of(made) as modest,
        ):
            flood = [greedy.call("work", b"greedy") for _ in range(3000)]
            await asyncio.sleep(0.05)
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(20):
                started_s = loop.time()
                await modest.call("work", b"modest")
                took.append(loop.time() - started_s)
            # Behind all the others it would be 3000 / 16 * 5 ms: nearly a second.
            assert sorted(took)[10] < 0.1 * load_factor()
            assert not all(call.done() for call in flood)
            assert all(node.most <= 8 for node in made.values())
            for call in flood:
                call.cancel()

    run(work)


def test_a_batch_fails_by_index_and_refuses_what_cannot_be_sent() -> None:
    async def work() -> None:
        async with nodes("ab", body_bytes_max=1000) as made, await pool_of(made) as pool:
            with pytest.raises(BatchError) as failed:
                await pool.call_many("work", [b"1", bytes(1001), b"3"])
            assert list(failed.value.errors) == [1]
            assert isinstance(failed.value.errors[1], LimitError)
            assert [reply and reply[2:] for reply in failed.value.replies] == [b"1", None, b"3"]
            with pytest.raises(RemoteError, match="ValueError: why") as remote:
                await pool.call("fail", b"why")
            assert not remote.value.retry_safe
            assert remote.value.endpoint in {node.address for node in made.values()}
            with pytest.raises(NotFoundError):
                await pool.call("nothing")
            for wrong in (
                lambda: pool.call(""),
                lambda: pool.call("work", "text"),  # type: ignore[arg-type]
                lambda: pool.call("work", timeout_ms=0),
                lambda: pool.call("work", order_key=""),
                lambda: pool.call_many("work", [b"", 1]),  # type: ignore[list-item]
                lambda: pool.map("work", [], in_flight=0),
            ):
                with pytest.raises(UsageError):
                    wrong()
            assert_quiet(pool)

    run(work)


def test_refusals_are_tried_elsewhere_and_failures_never() -> None:
    async def work() -> None:
        async with nodes("ab") as made, await pool_of(made, policy="round-robin") as pool:
            made["b"].refuse = made["b"].work  # type: ignore[method-assign]
            await made["b"].server.close()
            await made["b"].start(made["b"].server.address.port)
            while pool.ready()[0] < 2:
                await asyncio.sleep(0.01)
            ends = await asyncio.gather(*(pool.call("refuse", b"") for _ in range(10)))
            assert {end[:1] for end in ends} == {b"b"}
            assert pool.statistics().retried > 0
            taken = sum(len(node.taken) for node in made.values())
            with pytest.raises(RemoteError):
                await pool.call("fail", b"once")
            assert sum(len(node.taken) for node in made.values()) == taken + 1

    run(work)


@pytest.mark.parametrize("style", ["call", "call_many", "ordered"])
def test_deadlines_and_cancellation_reach_the_server_and_leave_nothing_behind(style: str) -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=10, limit=3) as made, await pool_of(made) as pool:
            loop = asyncio.get_running_loop()

            def start(timeout_ms: int | None) -> list[asyncio.Future[Any]]:
                if style == "call_many":
                    return [pool.call_many("work", [b""] * 100, timeout_ms=timeout_ms)]
                key = "key" if style == "ordered" else None
                return [pool.call("work", timeout_ms=timeout_ms, order_key=key) for _ in range(100)]

            started_s = loop.time()
            ends = await asyncio.gather(*start(100), return_exceptions=True)
            assert loop.time() - started_s < 0.5 * load_factor()
            for end in ends:
                if style == "call_many":
                    assert isinstance(end, BatchError) and len(end.errors) == 100
                else:
                    assert isinstance(end, DeadlineError)
            if style == "call":
                # Those that never left say so: all but six, and a few that left when the servers
                # gave up on these.
                assert 80 <= sum(end.retry_safe for end in ends) <= 94
            calls = start(None)
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.sleep(0.2)
            assert_quiet(pool)
            assert all(node.now == 0 for node in made.values())
            made["a"].delay_s = made["b"].delay_s = 0
            assert (await pool.call("work", b"x", timeout_ms=1000))[1:] == b":x"

    run(work)


def test_without_room_calls_fail_at_once_or_wait_within_bounds() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.1, limit=5) as made:
            async with await pool_of(made, on_full="fail") as pool:
                calls = [pool.call("work", b"") for _ in range(50)]
                assert sum(call.done() for call in calls) == 40
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 10, "OverloadError": 40}
                assert all(end.retry_safe for end in ends if isinstance(end, DragomanError))
                # A batch goes out in portions whatever on_full says.
                assert len(await pool.call_many("work", [b""] * 25)) == 25
                held = pool.call_many("work", [b""] * 10)
                with pytest.raises(OverloadError):
                    await pool.call_many("work", [b""] * 10)
                with pytest.raises(OverloadError):
                    pool.notify("work")
                await held
                assert_quiet(pool)
            async with await pool_of(made, waiting_max=20, calls_max=8) as pool:
                calls = [pool.call("work", b"") for _ in range(50)]
                assert pool.statistics().calls == 8
                assert pool.statistics().waiting == 20
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 28, "OverloadError": 22}
            async with await pool_of(made, bytes_max=1000, waiting_bytes_max=1000) as pool:
                calls = [pool.call("work", bytes(400)) for _ in range(10)]
                assert (pool.statistics().bytes, pool.statistics().waiting_bytes) == (800, 800)
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert kinds(ends) == {"ok": 4, "OverloadError": 6}
                assert_quiet(pool)

    run(work)


def test_a_cancelled_batch_gives_back_what_its_replies_took() -> None:
    async def work() -> None:
        hang = asyncio.Event()

        async def make(body: bytes) -> bytes:
            if body == b"later":
                await hang.wait()
            return bytes(100_000)

        async with (
            await rpc.serve({"make": make}, "127.0.0.1:0") as server,
            await cluster.connect("test", endpoints=[server.address]) as pool,
        ):
            budget = peers_of(asyncio.get_running_loop()).budget
            batch = pool.call_many("make", [b"now", b"now", b"later"])
            await until(lambda: budget.used >= 200_000)
            batch.cancel()
            await until(lambda: pool.statistics().calls == 0)
            assert budget.used < 100_000
            hang.set()
            assert_quiet(pool)

    run(work)


def test_an_empty_pool_fails_calls_at_once_or_lets_them_wait_for_a_server() -> None:
    async def work() -> None:
        with pytest.raises(UnavailableError, match="none is listed"):
            await cluster.connect("none", registry="memory://empty", connect_timeout_ms=50)
        options: dict[str, Any] = {"registry": "memory://empty", "servers_min": 0}
        async with await cluster.connect("none", on_full="fail", **options) as pool:
            call = pool.call("work", b"")
            assert call.done()
            with pytest.raises(UnavailableError):
                await call
            with pytest.raises(UnavailableError):
                await pool.call_many("work", [b"", b""])
            with pytest.raises(UnavailableError):
                await pool.call_many("work", [b""])
            with pytest.raises(UnavailableError):
                pool.notify("work")
            with pytest.raises(UnavailableError):
                await pool.call("work", order_key="key")
        async with await cluster.connect("none", **options) as pool:
            with pytest.raises(DeadlineError):
                await pool.call("work", timeout_ms=30)
            calls = [
                pool.call("work", b"1"),
                pool.call("work", b"2", order_key="key"),
                pool.call_many("work", [b"3"]),
            ]
            pool.notify("work", b"4")
            node = Node("n")
            serving = await cluster.serve(
                node.work, "127.0.0.1:0", name="none", registry="memory://empty"
            )
            assert await asyncio.gather(*calls) == [b"n:1", b"n:2", [b"n:3"]]
            await serving.close()
            # And when the last one has gone they wait again.
            last = pool.call("work", b"5")
            await asyncio.sleep(0.02)
            assert not last.done()
            await pool.close(drain_ms=0)
            with pytest.raises(UnavailableError, match="closed"):
                await last
            with pytest.raises(UnavailableError, match="closed"):
                await pool.call("work")
        MemoryRegistry.forget("empty")

    run(work)


def test_closing_a_pool_drains_it_or_ends_what_is_under_way() -> None:
    async def work() -> None:
        async with nodes("ab", delay_s=0.1, limit=2) as made:
            pool = await pool_of(made)
            calls = [pool.call("work", b"") for _ in range(8)]
            await pool.close()
            assert kinds([call.result() for call in calls]) == {"ok": 8}
            pool = await pool_of(made)
            calls = [pool.call("work", b"") for _ in range(8)]
            await asyncio.sleep(0.05)
            await pool.close(drain_ms=0)
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert kinds(ends) == {"LinkLostError": 4, "UnavailableError": 4}
            assert_quiet(pool)

    run(work)


def test_a_closed_pool_keeps_no_connection_for_what_was_withdrawn() -> None:
    async def work() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def stubborn(body: bytes) -> bytes:
            begun.set()
            while not go_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await go_on.wait()
            return body

        server = await rpc.serve({"stubborn": stubborn}, "127.0.0.1:0")
        pool = await cluster.connect("s", endpoints=[server.address])
        call = pool.call("stubborn")
        await begun.wait()
        call.cancel()
        while pool.statistics().calls:
            await asyncio.sleep(0.005)
        await pool.close(drain_ms=0)
        while server.statistics().clients:
            await asyncio.sleep(0.005)
        assert server.statistics().in_progress == 1
        go_on.set()
        await server.close()

    run(work)


def test_what_cannot_be_connected_or_served_is_said_before_anything_opens() -> None:
    async def work() -> None:
        for wrong in (
            {},
            {"registry": "memory://x", "endpoints": []},
            {"endpoints": "127.0.0.1:1"},
            {"endpoints": {"127.0.0.1:1": 0}},
            {"endpoints": ["nowhere"]},
            {"endpoints": [], "policy": "best"},
            {"endpoints": [], "on_full": "maybe"},
            {"endpoints": [], "calls_max": 0},
        ):
            with pytest.raises(UsageError):
                await cluster.connect("test", **wrong)  # type: ignore[arg-type]
        for address in ("0.0.0.0:0", "unix:/tmp/nobody"):
            with pytest.raises(UsageError, match="advertise"):
                await cluster.serve({}, address, name="x", registry="memory://x")
        with pytest.raises(UsageError):
            await cluster.serve({}, "127.0.0.1:0", name="a b", registry="memory://x")
        with pytest.raises(UnavailableError, match="Connection refused"):
            await cluster.connect("test", endpoints=["127.0.0.1:1"], connect_timeout_ms=50)

    run(work)


def test_servers_on_unix_sockets_and_advertised_hosts_are_reached(tmp_path: Path) -> None:
    async def work() -> None:
        node = Node("u")
        async with await rpc.serve(node.work, f"unix:{tmp_path}/s") as server:
            endpoints = [server.address]
            async with await cluster.connect("test", endpoints=endpoints) as pool:
                assert await pool.call("any", b"1") == b"u:1"
        for advertise, expected in (("127.0.0.1", None), ("localhost:7001", 7001)):
            async with await cluster.serve(
                node.work, "0.0.0.0:0", name="x", registry="memory://adv", advertise=advertise
            ) as serving:
                assert serving.registration.port == expected or serving.address.port
        MemoryRegistry.forget("adv")

    run(work)
