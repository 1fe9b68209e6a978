"""Calls that cannot be sent, taken or answered fail by themselves, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import (
    OverloadError,
    UsageError,
)
from dragoman.testing import SimulatedLoop, at_rest, simulate
from dragoman.testing.mesh import frame, hello, raw_client
from tests.rpc.handlers import AT, echo, slow_echo


def test_a_batch_held_back_by_bytes_goes_on_as_replies_come() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve({"echo": slow_echo}, AT) as server,
            await rpc.connect(AT, bytes_max=250) as client,
        ):
            bodies = [bytes([i]) * 100 for i in range(10)]
            assert await client.call_many("echo", bodies) == bodies
            at_rest(client, server)

    simulate(1, work)


def test_a_method_too_many_fails_its_own_call_only() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve(slow_echo, AT, limit=2) as server,
            await rpc.connect(AT) as client,
        ):
            for i in range(0, 1024, 256):
                await asyncio.gather(*[client.call(f"m{k}") for k in range(i, i + 256)])
            with pytest.raises(UsageError, match="more than 1024 methods"):
                await client.call("one more", timeout_ms=2000)
            # The same for one that had to wait in line.
            calls = [client.call(name) for name in ("m1", "m2", "another", "m3")]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert ends[:2] + ends[3:] == [b""] * 3
            assert isinstance(ends[2], UsageError)
            await asyncio.sleep(3)
            at_rest(client, server)

    simulate(1, work)


@pytest.mark.parametrize("name", [None, ["echo"], b"echo", "", "x" * 1025, "\ud800", 1])
def test_what_is_no_name_is_the_callers_misuse(name: Any) -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT), await rpc.connect(AT) as client:
            for _ in range(2):
                with pytest.raises(UsageError):
                    client.call(name, timeout_ms=100)
                await client.call("echo")
            at_rest(client)

    simulate(1, work)


def test_a_duplicate_id_leaves_no_coroutine_behind() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow_echo, AT, limit=4) as server:
            peer = await raw_client(loop)
            request = frame("REQUEST", b"x", target=1, id=1, value=5000)
            peer.send(hello(), frame("NAME", b"echo", target=1), request, request)
            await asyncio.sleep(1)
            assert b"request id 1 is in use" in peer.of("GOODBYE")[0][5]
            assert peer.lost
            at_rest(server)

    simulate(1, work)


def test_a_call_cancelled_in_line_is_never_sent() -> None:
    async def work(loop: SimulatedLoop) -> None:
        seen: list[bytes] = []

        async def handler(body: bytes) -> bytes:
            seen.append(body)
            await asyncio.sleep(0.1)
            return body

        async with (
            await rpc.serve(handler, AT, limit=1) as server,
            await rpc.connect(AT) as client,
        ):
            calls = [client.call("m", b"%d" % i) for i in range(5)]
            batch = client.call_many("m", [b"batch"] * 3)
            last = client.call("m", b"last")
            await calls[0]
            # The reply's read has sent the next one already.
            calls[2].cancel()
            batch.cancel()
            await calls[1]
            await last
            assert seen == [b"0", b"1", b"3", b"4", b"last"]
            at_rest(client, server)

    simulate(1, work)


def test_a_large_body_is_no_fault_of_a_client_that_takes_small_ones() -> None:
    async def work(loop: SimulatedLoop) -> None:
        size = 64 << 20
        async with (
            await rpc.serve(lambda body: b"%d" % len(body), AT) as server,
            await rpc.connect(AT, body_bytes_max=100) as client,
        ):
            body = bytes(size)
            assert (
                await asyncio.gather(*[client.call("m", body) for _ in range(3)])
                == [b"%d" % size] * 3
            )
            at_rest(client, server)

    simulate(1, work)


def test_a_batch_larger_than_what_may_gather_does_not_end_its_session() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve(lambda body: body[:3], AT) as server,
            await rpc.connect(AT, body_bytes_max=100) as client,
        ):
            body = bytes(1 << 20)
            assert await client.call_many("m", [body] * 100) == [bytes(3)] * 100
            assert client.statistics().connections == 1
            at_rest(client, server)

    simulate(1, work)


def test_a_client_that_had_very_many_calls_at_once_is_freed() -> None:
    async def work() -> None:
        async with await rpc.serve({"m": echo}, "127.0.0.1:0") as server:
            client = await rpc.connect(str(server.address), calls_max=1 << 24, waiting_max=1 << 24)
            futures = [client.call("m") for _ in range(100_000)]
            await futures[-1]
            await client.close()

    asyncio.run(work())
    gc.collect()


def test_more_replies_than_may_gather_fail_by_themselves_and_not_with_the_connection() -> None:
    reply = bytes(8 << 20)

    async def work() -> None:
        go = asyncio.Event()

        async def large(body: bytes) -> bytes:
            await go.wait()
            return reply

        async with (
            await rpc.serve(
                {"large": large, "echo": echo}, "127.0.0.1:0", body_bytes_max=8 << 20
            ) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            calls = [client.call("large") for _ in range(40)]
            await asyncio.sleep(0.1)
            go.set()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            failed = [end for end in ends if end != reply]
            assert 0 < len(failed) < 40
            for end in failed:
                assert isinstance(end, OverloadError) and not end.retry_safe
                assert "slow to read" in str(end)
            assert await client.call("echo", b"still there") == b"still there"
            assert client.statistics().connections == 1

    asyncio.run(work())


@pytest.mark.parametrize("limit", [0, -1, 1.5, None, "10"])
def test_what_is_no_limit_is_refused_as_misuse(limit: Any) -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT) as server:
            with pytest.raises(UsageError, match="limit: expected a whole number from 1"):
                server.set_limit(limit)
            assert server.statistics().limit == 10_000

    simulate(1, work)


def test_names_that_nobody_uses_any_more_are_forgotten() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT) as server:
            for turn in range(70):
                async with await rpc.connect(AT) as client:
                    await asyncio.gather(*[client.call(f"{turn} {n}") for n in range(1024)])
            async with await rpc.connect(AT) as client:
                assert await client.call("an honest name", b"x") == b"x"
            at_rest(client, server)

    simulate(1, work)


def test_time_that_passes_within_a_turn_is_not_taken_from_a_calls_own() -> None:
    async def work() -> None:
        async with (
            await rpc.serve({"echo": echo}, "127.0.0.1:0") as server,
            await rpc.connect(str(server.address)) as client,
        ):
            first = [client.call("echo", b"first") for _ in range(3)]
            time.sleep(0.3)  # noqa: ASYNC251 - the program that is to blame
            assert await client.call("echo", b"x", timeout_ms=250) == b"x"
            await asyncio.gather(*first)

    asyncio.run(work())


def test_a_client_that_disregards_a_reclaim_is_sent_away() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT, limit=8, heartbeat_ms=1000) as server:
            greedy = await raw_client(loop)
            greedy.send(hello(), frame("DEMAND", value=8))
            await asyncio.sleep(0.1)
            assert sum(credit[4] for credit in greedy.of("CREDIT")) == 8

            async def answer_pings() -> None:
                answered = 0
                while True:
                    for ping in greedy.of("PING")[answered:]:
                        greedy.send(frame("PONG", value=ping[4]))
                        answered += 1
                    await asyncio.sleep(0.01)

            answering = asyncio.create_task(answer_pings())
            async with await rpc.connect(AT) as client:
                assert await client.call("echo", b"x", timeout_ms=5000) == b"x"
                assert greedy.of("RECLAIM")
                (goodbye,) = greedy.of("GOODBYE")
                assert goodbye[5] == b"a RECLAIM was not answered"
                await asyncio.sleep(0.1)
                assert greedy.lost
            answering.cancel()
            await asyncio.sleep(0.1)
            at_rest(server)

    simulate(1, work)


def test_a_reclaim_may_be_answered_as_late_as_the_connection_is_slow() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT, limit=8, heartbeat_ms=1000) as server:
            slow = await raw_client(loop)
            slow.send(hello(), frame("DEMAND", value=8))
            await asyncio.sleep(0.1)
            async with await rpc.connect(AT) as client:
                call = asyncio.ensure_future(client.call("echo", b"x", timeout_ms=60_000))
                # It shows that it lives, but has got nowhere near the RECLAIM yet.
                for _ in range(10):
                    await asyncio.sleep(0.5)
                    slow.send(frame("PONG", value=0))
                assert not slow.lost
                assert not call.done()
                (reclaim,) = slow.of("RECLAIM")
                probes = [ping for ping in slow.of("PING") if ping[4]]
                # One read with the RECLAIM and the PING: the PONG goes first.
                slow.send(frame("PONG", value=probes[0][4]), frame("RETURN", value=reclaim[4]))
                assert await call == b"x"
                assert not slow.lost
            slow.transport.close()
            await asyncio.sleep(0.1)
            at_rest(server)

    simulate(1, work)
