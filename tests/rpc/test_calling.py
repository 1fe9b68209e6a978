"""``rpc.serve`` and ``rpc.connect`` on real sockets, as programs use them."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman import rpc
from dragoman.errors import (
    BatchError,
    CancelledByCallerError,
    Code,
    ConnectError,
    DeadlineError,
    DragomanError,
    LimitError,
    NotFoundError,
    OverloadError,
    RemoteError,
    UnavailableError,
    UsageError,
)
from tests.load_factor import load_factor
from tests.rpc.peers import RUNNERS, settle
from tests.waiting import until

ANY = "127.0.0.1:0"


async def echo_later(body: bytes) -> bytes:
    await asyncio.sleep(0.001)
    return body


def refuse(body: bytes) -> bytes:
    raise {
        b"own": RemoteError("mine", code=4711),
        b"overload": OverloadError("too much"),
        b"unavailable": UnavailableError("gone"),
        b"missing": NotFoundError("where?"),
        b"usage": UsageError("what?"),
        b"deadline": DeadlineError("too late"),
        b"cancelled": CancelledByCallerError("never mind"),
        b"odd": ValueError("odd"),
        b"all": BatchError([None], {0: OverloadError("too much")}),
    }[body]


FUNCTIONS = {
    "now": lambda body: body,
    "later": echo_later,
    "view": memoryview,
    "array": bytearray,
    "refuse": refuse,
    "odd numbers only": lambda body: body if body[-1] % 2 else 1 / 0,  # type: ignore[operator]
    "длинное имя": lambda body: body[::-1],
}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("threads", [0, 3])
def test_every_style_of_calling_brings_each_its_own(
    runner: str, unix: bool, threads: int, tmp_path: Path
) -> None:
    async def work() -> None:
        address = f"unix:{tmp_path}/socket" if unix else ANY
        async with (
            await rpc.serve(FUNCTIONS, address, threads=threads) as server,
            await rpc.connect(str(server.address), timeout_ms=10_000) as client,
        ):
            bodies = [b"%d" % i for i in range(300)]
            for method in ("now", "later", "view", "array"):
                assert await client.call(method, b"one") == b"one"
                assert await client.call(method) == b""
                assert await client.call(method, bytearray(b"two")) == b"two"
                assert await client.call(method, memoryview(b"three")[1:]) == b"hree"
                calls = [client.call(method, body) for body in bodies]
                assert await asyncio.gather(*calls) == bodies
                assert await client.call_many(method, bodies) == bodies
                assert await client.call_many(method, iter(bodies), order_key="k") == bodies
                assert [reply async for reply in client.map(method, bodies)] == bodies
                assert [
                    reply async for reply in client.map(method, later_bodies(bodies), in_flight=3)
                ] == bodies
                ends: list[bytes | DragomanError | None] = []
                for body in bodies:
                    client.call_soon(
                        method,
                        body,
                        lambda reply, error, ends=ends: ends.append(error or reply),  # type: ignore[misc]
                    )
                await until(lambda ends=ends: len(ends) == 300)  # type: ignore[misc]
                assert sorted(ends) == sorted(bodies)  # type: ignore[type-var]
            assert await client.call_many("now", []) == []
            assert await client.call("длинное имя", b"abc") == b"cba"
            await settle(client, server)
            now = client.statistics()
            assert now.failures == now.refused == 0 and now.replies == now.sent

    async def later_bodies(bodies: list[bytes]) -> AsyncIterator[bytes]:
        for body in bodies:
            yield body

    RUNNERS[runner](work())


def test_errors_of_each_kind_arrive_as_what_they_are() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(FUNCTIONS, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            for body, kind, code, safe in (
                (b"own", RemoteError, 4711, False),
                (b"overload", OverloadError, Code.OVERLOAD, True),
                (b"unavailable", UnavailableError, Code.UNAVAILABLE, True),
                (b"missing", NotFoundError, Code.NOT_FOUND, True),
                (b"usage", UsageError, Code.MALFORMED, True),
                (b"deadline", DeadlineError, Code.DEADLINE, False),
                (b"cancelled", CancelledByCallerError, Code.CANCELLED, False),
                (b"odd", RemoteError, Code.REMOTE, False),
                (b"all", OverloadError, Code.OVERLOAD, True),
            ):
                with pytest.raises(DragomanError) as caught:
                    await client.call("refuse", body)
                error = caught.value
                assert (type(error), error.code, error.retry_safe) == (kind, code, safe), body
                assert error.endpoint == str(server.address)
            with pytest.raises(NotFoundError, match="no such method"):
                await client.call("unknown")
            with pytest.raises(RemoteError, match="ValueError: odd"):
                await client.call("refuse", b"odd")
            await settle(client, server)

    asyncio.run(work())


def test_a_batch_tells_which_of_its_calls_failed() -> None:
    async def work() -> None:
        async with (
            await rpc.serve(FUNCTIONS, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            bodies = [bytes([i]) for i in range(50)]
            with pytest.raises(BatchError, match="25 of 50 calls failed, first number 0") as caught:
                await client.call_many("odd numbers only", bodies)
            error = caught.value
            assert sorted(error.errors) == list(range(0, 50, 2))
            assert all(isinstance(one, RemoteError) for one in error.errors.values())
            assert error.replies == [bytes([i]) if i % 2 else None for i in range(50)]
            assert not error.retry_safe
            with pytest.raises(BatchError) as caught:
                await client.call_many("unknown", bodies)
            assert caught.value.retry_safe and caught.value.code == Code.NOT_FOUND
            await settle(client, server)

    asyncio.run(work())


def test_a_failed_call_of_an_iteration_raises_in_its_place_and_the_rest_is_withdrawn() -> None:
    async def work() -> None:
        cancelled = 0

        async def work_on(body: bytes) -> bytes:
            nonlocal cancelled
            if body == b"3":
                raise ValueError(body)
            try:
                await asyncio.sleep(0 if body < b"3" else 3600)
            except asyncio.CancelledError:
                cancelled += 1
                raise
            return body

        async with (
            await rpc.serve({"m": work_on}, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            replies = client.map("m", [b"%d" % i for i in range(9)], in_flight=4)
            got = []
            with pytest.raises(RemoteError):
                async for reply in replies:
                    got.append(reply)
            assert got == [b"0", b"1", b"2"]
            await settle(client, server)
            assert cancelled == 3
            # An iteration that is left early withdraws too.
            replies = client.map("m", [b"1"] + [b"9"] * 9, in_flight=4)
            assert await anext(replies) == b"1"
            await until(lambda: server.statistics().in_progress == 3)
            await replies.aclose()
            await settle(client, server)

    asyncio.run(work())


def test_notifications_run_and_nobody_hears_of_them() -> None:
    async def work() -> None:
        seen: list[bytes] = []

        async def note(body: bytes) -> bytes:
            assert rpc.current_request().no_reply
            await asyncio.sleep(0)
            seen.append(body)
            raise ValueError("nobody hears")

        async with (
            await rpc.serve({"later": note, "now": seen.append}, ANY, limit=7) as server,  # type: ignore[dict-item]
            await rpc.connect(str(server.address)) as client,
        ):
            for i in range(100):
                client.notify(("now", "later")[i % 2], b"%d" % i, order_key="k")
            client.notify("unknown")
            await until(lambda: len(seen) == 100)
            assert seen == [b"%d" % i for i in range(100)]
            await settle(client, server)
            await until(lambda: client.statistics().credits == 7)
            assert client.statistics().sent == 101

    asyncio.run(work())


def test_threads_run_beside_each_other_and_know_their_request() -> None:
    meeting = threading.Barrier(3, timeout=5)

    def meet(body: bytes) -> bytes:
        meeting.wait()
        info = rpc.current_request()
        assert not info.no_reply and info.timeout_ms is not None and info.timeout_ms <= 5000
        return info.method.encode() + body

    async def work() -> None:
        async with (
            await rpc.serve(meet, ANY, threads=3) as server,
            await rpc.connect(str(server.address), timeout_ms=5000) as client,
        ):
            calls = [client.call(f"m{i}", b"!") for i in range(3)]
            assert await asyncio.gather(*calls) == [b"m0!", b"m1!", b"m2!"]
            await settle(client, server)

    asyncio.run(work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_deadline_reaches_the_server_and_ends_the_work_there(runner: str) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        ended: list[tuple[bytes, float]] = []
        begun: list[bytes] = []
        left: list[int | None] = []

        async def slow(body: bytes) -> bytes:
            begun.append(body)
            left.append(rpc.current_request().timeout_ms)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append((body, loop.time()))
                raise
            return body

        async with (
            await rpc.serve({"m": slow}, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            began_s = loop.time()
            first = client.call("m", b"1", timeout_ms=200, order_key="k")
            # Its turn comes when its time has passed: it must not begin.
            second = client.call("m", b"2", timeout_ms=100, order_key="k")
            batch = client.call_many("m", [b"3", b"4"], timeout_ms=200)
            with pytest.raises(DeadlineError):
                await first
            assert 0.19 < loop.time() - began_s < 1 * load_factor()
            with pytest.raises(DeadlineError):
                await second
            with pytest.raises((BatchError, DeadlineError)) as caught:
                await batch
            assert caught.value.code == Code.DEADLINE
            await settle(client, server)
            assert begun == [b"1", b"3", b"4"]
            assert sorted(body for body, _ in ended) == [b"1", b"3", b"4"]
            assert all(0.15 < when_s - began_s < 1 for _, when_s in ended)
            assert all(some is not None and 0 < some <= 200 for some in left)

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_cancelling_ends_the_work_at_the_server(runner: str) -> None:
    async def work() -> None:
        running = 0

        async def slow(body: bytes) -> bytes:
            nonlocal running
            running += 1
            try:
                await asyncio.sleep(3600)
            finally:
                running -= 1
            return body

        async with (
            await rpc.serve({"m": slow}, ANY, limit=6) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            one = client.call("m")
            keyed = [client.call("m", order_key="k") for _ in range(3)]
            batch = client.call_many("m", [b""] * 4)
            await until(lambda: running == 4)
            # In line: the rest of the batch, and these.
            waiting = [client.call("m") for _ in range(5)]
            more = client.call_many("m", [b""] * 100)
            await asyncio.sleep(0.05)
            for call in (*waiting, more, one, *keyed, batch):
                assert call.cancel()
            await settle(client, server)
            assert running == 0
            assert server.statistics().requests == 6
            await until(lambda: client.statistics().credits == 6)

    RUNNERS[runner](work())


def test_addresses_that_nobody_serves_and_that_are_taken() -> None:
    async def work() -> None:
        async with await rpc.serve(FUNCTIONS, ANY) as server:
            with pytest.raises(ConnectError, match="cannot listen"):
                await rpc.serve(FUNCTIONS, str(server.address))
        with pytest.raises(ConnectError) as caught:
            await rpc.connect(str(server.address))
        assert caught.value.retry_safe
        with pytest.raises(ConnectError):
            await rpc.connect("unix:/nowhere/at/all")
        with pytest.raises(ConnectError):
            await rpc.connect("a" * 70 + ".invalid:1")

    asyncio.run(work())


def test_replies_of_all_sizes_are_ones_own() -> None:
    source = random.Random(7)

    async def work() -> None:
        async with (
            await rpc.serve(FUNCTIONS, ANY) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            bodies = [source.randbytes(int(2 ** source.uniform(0, 18))) for _ in range(300)]
            for method in ("now", "later"):
                calls = [client.call(method, body) for body in bodies]
                assert await asyncio.gather(*calls) == bodies
                assert await client.call_many(method, bodies) == bodies
            with pytest.raises(LimitError) as caught:
                await client.call("now", bytes((64 << 20) + 1))
            assert caught.value.retry_safe
            await settle(client, server)

    asyncio.run(work())
