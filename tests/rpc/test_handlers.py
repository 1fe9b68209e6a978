"""Whatever a handler does, on the loop or on a thread, concerns its own call only."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import (
    Code,
    DeadlineError,
    DragomanError,
    RemoteError,
    UsageError,
)
from dragoman.testing import SimulatedLoop, at_rest, simulate
from dragoman.testing.mesh import frame, hello, raw_client
from tests.rpc.handlers import AT, OddCode, Unspeakable, echo, raising, slow_echo


def raising_later(error: BaseException) -> Callable[[bytes], Any]:
    async def handler(body: bytes) -> bytes:
        await asyncio.sleep(0.01)
        raise error

    return handler


def returning(value: Any) -> Callable[[bytes], Any]:
    return lambda body: value


def released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


class Evil(bytes):
    def __bytes__(self) -> bytes:
        raise ValueError("not today")


HANDLERS: dict[str, tuple[Callable[[bytes], Any], int]] = {
    "an error without words": (raising(Unspeakable()), Code.REMOTE),
    "an error without words, later": (raising_later(Unspeakable()), Code.REMOTE),
    "code 0": (raising(OddCode(0)), Code.INTERNAL),
    "code 0, later": (raising_later(OddCode(0)), Code.INTERNAL),
    "code 65536": (raising(OddCode(65536)), Code.INTERNAL),
    "code None": (raising_later(OddCode(None)), Code.INTERNAL),
    "a cancelled future's result": (raising(asyncio.CancelledError()), Code.REMOTE),
    "a handler that cancels itself": (raising_later(asyncio.CancelledError()), Code.REMOTE),
    "a released view": (lambda body: released(), Code.REMOTE),
    "bytes that will not be bytes": (returning(Evil(b"x")), Code.REMOTE),
    "nothing": (returning(None), Code.REMOTE),
    "text": (returning("text"), Code.REMOTE),
    "a list": (returning([1]), Code.REMOTE),
    "StopIteration": (raising(StopIteration()), Code.REMOTE),
    "StopIteration, later": (raising_later(StopIteration()), Code.REMOTE),
}


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("key", [None, "k"])
def test_whatever_a_handler_does_ends_its_call_and_no_other(name: str, key: str | None) -> None:
    handler, code = HANDLERS[name]

    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve({"odd": handler, "slow": slow_echo}, AT, limit=4) as server,
            await rpc.connect(AT) as client,
        ):
            other = client.call("slow", b"other")
            for _ in range(10):
                with pytest.raises(DragomanError) as caught:
                    await client.call("odd", order_key=key)
                assert caught.value.code == code
            client.notify("odd", order_key=key)
            assert await client.call("slow", b"same", order_key=key) == b"same"
            assert await other == b"other"
            assert client.statistics().connections == 1
            at_rest(client, server)
            assert client.statistics().credits == 4

    simulate(1, work)


def test_a_future_of_another_loop_fails_its_call_only() -> None:
    other = asyncio.new_event_loop()

    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve(
                {"odd": lambda body: other.create_future(), "echo": echo}, AT
            ) as server,
            await rpc.connect(AT) as client,
        ):
            for key in (None, "k"):
                with pytest.raises(RemoteError):
                    await client.call("odd", order_key=key, timeout_ms=1000)
                assert await client.call("echo", b"x", order_key=key) == b"x"
            at_rest(client, server)

    try:
        simulate(1, work)
    finally:
        other.close()


@pytest.mark.parametrize("withdraw", ["cancel", "deadline"])
def test_a_thread_at_work_keeps_its_place_until_it_has_ended(withdraw: str) -> None:
    at_work = most = 0
    lock = threading.Lock()

    def handler(body: bytes) -> bytes:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.15)
        with lock:
            at_work -= 1
        return body

    async def work() -> None:
        async with (
            await rpc.serve({"work": handler}, "127.0.0.1:0", threads=4) as server,
            await rpc.connect(str(server.address)) as client,
        ):
            first = client.call(
                "work", order_key="k", timeout_ms=50 if withdraw == "deadline" else None
            )
            second = client.call("work", b"2", order_key="k")
            await asyncio.sleep(0.03)
            if withdraw == "cancel":
                first.cancel()
            else:
                with pytest.raises(DeadlineError):
                    await first
            assert await second == b"2"
            at_rest(client, server)

    asyncio.run(work())
    assert most == 1


def test_threads_may_raise_what_futures_cannot_hold_and_return_what_must_be_awaited() -> None:
    class Callable_:
        async def __call__(self, body: bytes) -> bytes:
            return body + b"!"

    async def work() -> None:
        handlers = {
            "stop": raising(StopIteration()),
            "object": Callable_(),
            "lambda": lambda body: slow_echo(body + b"."),
            "partial": partial(lambda extra, body: body + extra, b"?"),
        }
        async with (
            await rpc.serve(handlers, "127.0.0.1:0", threads=2) as server,
            await rpc.connect(str(server.address), timeout_ms=3000) as client,
        ):
            with pytest.raises(RemoteError, match="StopIteration"):
                await client.call("stop")
            assert await client.call("object", b"x") == b"x!"
            assert await client.call("lambda", b"x") == b"x."
            assert await client.call("partial", b"x") == b"x?"
            at_rest(client, server)

    asyncio.run(work())


def test_what_a_request_tells_of_itself_is_its_own_while_the_server_has_enough() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async def name(body: bytes) -> bytes:
            await asyncio.sleep(0.1)
            return rpc.current_request().method.encode()

        async with (
            await rpc.serve(name, AT, bytes_max=1) as server,
            await rpc.connect(AT) as client,
        ):
            names = [b"%d" % i for i in range(5)]
            calls = [client.call(f"{i}", b"body") for i in range(5)]
            assert await asyncio.gather(*calls) == names
            with pytest.raises(UsageError):
                rpc.current_request()
            at_rest(client, server)

    simulate(1, work)


def test_two_loops_in_two_threads_know_their_own_requests() -> None:
    wrong: list[str] = []

    def serve_and_ask(name: str) -> None:
        def whose(body: bytes) -> bytes:
            for _ in range(50):
                if rpc.current_request().method != name:
                    wrong.append(name)
            return body

        async def work() -> None:
            async with (
                await rpc.serve({name: whose}, "127.0.0.1:0") as server,
                await rpc.connect(str(server.address)) as client,
            ):
                for _ in range(30):
                    await client.call_many(name, [b"x"] * 20)

        asyncio.run(work())

    threads = [threading.Thread(target=serve_and_ask, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_id_that_was_answered_may_come_again_while_its_work_goes_on() -> None:
    async def stubborn(body: bytes) -> bytes:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)
        return body

    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(stubborn, AT, limit=4) as server:
            peer = await raw_client(loop)
            peer.send(hello(), frame("NAME", b"work", target=1))
            peer.send(frame("REQUEST", b"first", target=1, id=7, value=50))
            await asyncio.sleep(0.2)
            assert [(error[2], error[3]) for error in peer.of("ERROR")] == [(Code.DEADLINE, 7)]
            peer.send(frame("REQUEST", b"second", target=1, id=7, value=5000))
            await asyncio.sleep(2)
            assert [(reply[3], reply[5]) for reply in peer.of("REPLY")] == [(7, b"second")]
            assert not peer.lost
            peer.transport.close()
            await asyncio.sleep(0.1)
            at_rest(server)

    simulate(1, work)
