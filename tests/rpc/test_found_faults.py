"""Faults that were found in clients and servers, each as the user would have met it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.simulation.loop import SimulatedLoop
from tests.simulation.mesh import RawPeer, frame, hello, raw_client
from tests.simulation.rpc import at_rest, simulate_rpc

from dragoman import rpc
from dragoman.errors import (
    Code,
    ConnectError,
    DeadlineError,
    DragomanError,
    LinkLost,
    OverloadError,
    RemoteError,
    UsageError,
)

AT = "server:1"


async def echo(body: bytes) -> bytes:
    return body


async def slow_echo(body: bytes) -> bytes:
    await asyncio.sleep(0.5)
    return body


def test_a_batch_held_back_by_bytes_goes_on_as_replies_come() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with (
            await rpc.serve({"echo": slow_echo}, AT) as server,
            await rpc.connect(AT, bytes_max=250) as client,
        ):
            bodies = [bytes([i]) * 100 for i in range(10)]
            assert await client.call_many("echo", bodies) == bodies
            at_rest(client, server)

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


@pytest.mark.parametrize("name", [None, ["echo"], b"echo", "", "x" * 1025, "\ud800", 1])
def test_what_is_no_name_is_the_callers_misuse(name: Any) -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT), await rpc.connect(AT) as client:
            for _ in range(2):
                with pytest.raises(UsageError):
                    client.call(name, timeout_ms=100)
                await client.call("echo")
            at_rest(client)

    simulate_rpc(1, work)


def test_a_client_that_says_goodbye_may_answer_a_reclaim_that_crossed_it() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow_echo, AT, limit=2) as server:
            peer = await raw_client(loop)
            peer.send(hello(), frame("NAME", b"echo", target=1))
            await asyncio.sleep(0.1)
            peer.send(
                frame("REQUEST", b"x", target=1, id=1, value=5000),
                frame("GOODBYE"),
                frame("DEMAND", value=3),
                frame("RETURN", value=0),
            )
            await asyncio.sleep(1)
            assert [(reply[3], reply[5]) for reply in peer.of("REPLY")] == [(1, b"x")]
            assert not peer.lost
            peer.transport.close()
            await asyncio.sleep(0.1)
            at_rest(server)

    simulate_rpc(1, work)


def test_a_client_that_closes_sends_nothing_against_late_credits() -> None:
    async def work(loop: SimulatedLoop) -> None:
        ends: list[bytes | DragomanError | None] = []
        server = await rpc.serve(slow_echo, AT, limit=4)
        client = await rpc.connect(AT)

        def ended(reply: bytes | None, error: DragomanError | None) -> None:
            ends.append(reply if error is None else error)
            client.call_soon("echo", b"again", then)

        def then(reply: bytes | None, error: DragomanError | None) -> None:
            ends.append(reply if error is None else error)

        for _ in range(4):
            client.call_soon("echo", b"x", ended)
        await asyncio.sleep(0.1)
        await client.close()
        # What was made before the end is answered, what came after it is refused.
        assert ends.count(b"x") == 4
        later = [end for end in ends if end != b"x"]
        assert len(later) == 4
        assert all(isinstance(end, LinkLost) and end.retry_safe for end in later), later
        at_rest(client)
        await server.close()
        at_rest(server)

    simulate_rpc(1, work)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class OddCode(DragomanError):
    def __init__(self, code: Any) -> None:
        super().__init__("odd")
        self.code = code


def raising(error: BaseException) -> Callable[[bytes], bytes]:
    def handler(body: bytes) -> bytes:
        raise error

    return handler


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

    simulate_rpc(1, work)


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
        simulate_rpc(1, work)
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

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


def test_connecting_that_is_given_up_leaves_no_connection() -> None:
    async def work(loop: SimulatedLoop) -> None:
        peer = RawPeer()
        loop.network.listen("server", 1, lambda: peer)
        for heartbeat_ms in (5000, 3_600_000):
            peer.__init__()  # type: ignore[misc]
            with pytest.raises(DragomanError, match="no connection within 500 ms"):
                await rpc.connect(AT, connect_timeout_ms=500, heartbeat_ms=heartbeat_ms)
            await asyncio.sleep(0.1)
            assert peer.lost
            peer.__init__()  # type: ignore[misc]
            task = asyncio.ensure_future(rpc.connect(AT, heartbeat_ms=heartbeat_ms))
            await asyncio.sleep(0.1)
            assert peer.transport is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)
            assert peer.lost

    simulate_rpc(1, work)


def test_a_server_whose_closing_was_cancelled_can_be_closed() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = await rpc.serve(slow_echo, AT)
        client = await rpc.connect(AT, reconnect=False)
        call = client.call("m", b"x")
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await server.close()
        async with asyncio.timeout(5):
            await server.close()
            await server.serve_forever()
        with contextlib.suppress(LinkLost):
            await call
        await client.close()
        at_rest(client, server)

    simulate_rpc(1, work)


def test_two_may_close_a_client_at_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow_echo, AT):
            client = await rpc.connect(AT)
            call = client.call("m", b"x")
            started_s = loop.time()
            await asyncio.gather(client.close(), client.close())
            assert await call == b"x"
            assert loop.time() - started_s < 1

    simulate_rpc(1, work)


def test_closing_a_client_whose_server_drains_waits_for_its_calls() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = await rpc.serve(slow_echo, AT)
        client = await rpc.connect(AT, reconnect=False)
        call = client.call("m", b"x")
        await asyncio.sleep(0.1)
        closing = asyncio.ensure_future(server.close())
        await asyncio.sleep(0.1)
        assert not call.done()
        await client.close()
        assert call.done() and await call == b"x"
        await closing
        at_rest(client, server)

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


def test_a_client_that_had_very_many_calls_at_once_is_freed() -> None:
    async def work() -> None:
        async with await rpc.serve({"m": echo}, "127.0.0.1:0") as server:
            client = await rpc.connect(str(server.address), calls_max=1 << 24, waiting_max=1 << 24)
            futures = [client.call("m") for _ in range(100_000)]
            await futures[-1]
            await client.close()

    asyncio.run(work())
    gc.collect()


@pytest.mark.parametrize("reconnect", [True, False])
def test_calls_in_line_that_nobody_else_holds_end_with_their_client(reconnect: bool) -> None:
    async def work(loop: SimulatedLoop) -> None:
        ends: list[DragomanError | None] = []
        server = await rpc.serve(slow_echo, AT, limit=1)
        client = await rpc.connect(AT, reconnect=reconnect)
        for _ in range(50):
            client.call_soon("m", b"x", lambda reply, error: ends.append(error))
            client.call_many("m", [b"x"] * 3).add_done_callback(
                lambda done: ends.append(done.exception())  # type: ignore[arg-type]
            )
            client.notify("m", b"x")
        await asyncio.sleep(0.1)
        await server.close(drain_ms=0)
        await asyncio.sleep(0.1)
        await client.close(drain_ms=0)
        await asyncio.sleep(0.1)
        assert len(ends) == 100
        assert all(isinstance(end, DragomanError) for end in ends)
        at_rest(client)

    simulate_rpc(1, work)


def test_a_connection_accepted_as_the_server_closes_is_not_kept() -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.network.delay_s = (0.05, 0.05)
        server = await rpc.serve({"m": slow_echo}, AT)
        connecting = asyncio.ensure_future(rpc.connect(AT, reconnect=False))
        await asyncio.sleep(0.06)
        # The client's end is connected, the server's is not yet.
        await server.close()
        with pytest.raises(ConnectError):
            await connecting
        assert server.statistics().clients == 0
        at_rest(server)

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


def test_names_that_nobody_uses_any_more_are_forgotten() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(echo, AT) as server:
            for turn in range(70):
                async with await rpc.connect(AT) as client:
                    await asyncio.gather(*[client.call(f"{turn} {n}") for n in range(1024)])
            async with await rpc.connect(AT) as client:
                assert await client.call("an honest name", b"x") == b"x"
            at_rest(client, server)

    simulate_rpc(1, work)


def test_a_client_that_is_not_to_reconnect_does_not_while_it_closes() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow_echo, AT, limit=1) as server:
            client = await rpc.connect(AT, reconnect=False)
            calls = [client.call("echo") for _ in range(3)]
            closing = asyncio.ensure_future(client.close(drain_ms=3000))
            await asyncio.sleep(0.1)
            for session in list(server._sessions):
                session.close()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            await closing
            assert [type(end) for end in ends] == [LinkLost] * 3
            assert client.statistics().connections == 1

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)


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

    simulate_rpc(1, work)
