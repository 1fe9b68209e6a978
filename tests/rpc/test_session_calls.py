"""Calls on real sessions: replies, errors, deadlines, cancellation, credits, ids."""

from __future__ import annotations

import asyncio

import pytest

from dragoman.errors import (
    Code,
    DeadlineError,
    LimitError,
    LinkLostError,
    NotFoundError,
    OverloadError,
    RemoteError,
    UsageError,
)
from dragoman.rpc.client_session import ClientSession
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Client, Server, frame, hello, raw_client
from dragoman.testing.sessions import IncomingRequest, SessionEvents, send, tell_waiting

MIB = 1 << 20


@pytest.mark.parametrize("piece_bytes_max", [None, 1, 7, 1000])
def test_replies_come_in_any_order_and_match_their_calls(piece_bytes_max: int | None) -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.network.piece_bytes_max = piece_bytes_max
        server = Server(loop, limit=100)
        delays = loop.random

        def shuffled(request: IncomingRequest) -> None:
            loop.call_later(delays.uniform(0, 0.1), request.reply, request.method + request.body)

        server.work = shuffled
        client = await Client(loop).connect()
        for number in range(100):
            method = (b"one", b"two", b"three")[number % 3]
            client.call(number, b"%d" % number, method=method)
        with pytest.raises(OverloadError, match="no credit"):
            client.call(100)
        await asyncio.sleep(0.5)
        for number in range(100):
            method = (b"one", b"two", b"three")[number % 3]
            assert client.end(number) == method + b"%d" % number
        assert client.session.inflight == 0
        assert client.session.credits == 100
        server.assert_quiet()

    for seed in range(3):
        simulate(seed, work)


def test_all_calls_of_a_tick_leave_in_one_write() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=50)
        client = await Client(loop).connect()
        before = client.session.statistics()["writes"]
        for number in range(50):
            client.call(number, b"x" * 10)
        await asyncio.sleep(0.5)
        assert client.session.statistics()["writes"] == before + 1
        # Replies that are due in one turn share a write too; HELLO and CREDIT were one.
        (session,) = server.sessions
        assert session.writes <= 3
        assert session.requests == 50

    simulate(1, work)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 262144 - 16, 262144, 5 * MIB, 16 * MIB])
@pytest.mark.parametrize("piece_bytes_max", [None, 100_000])
def test_a_body_of_any_size_arrives_whole(size: int, piece_bytes_max: int | None) -> None:
    async def work(loop: SimulatedLoop) -> None:
        loop.network.piece_bytes_max = piece_bytes_max
        server = Server(loop)
        client = await Client(loop).connect()
        bodies = [loop.random.randbytes(n) for n in (3, size, 5)]
        for number, body in enumerate(bodies):
            client.call(number, body)
        await asyncio.sleep(3)
        for number, body in enumerate(bodies):
            assert client.end(number) == body
        server.assert_quiet()

    simulate(1, work)


def test_what_a_handler_raises_is_the_answer() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)

        def fail(request: IncomingRequest) -> None:
            if request.body == b"own":
                raise OverloadError("too much now")
            if request.body == b"foreign":
                raise ZeroDivisionError("by zero: \ud800 \u00fc")
            if request.body == b"both":
                request.reply(b"answered")
                raise ValueError("after the answer")
            request.fail(RemoteError("said no"))
            with pytest.raises(UsageError, match="answered once"):
                request.reply(b"again")

        server.work = fail
        client = await Client(loop).connect()
        for number, body in enumerate((b"own", b"foreign", b"both", b"fail")):
            client.call(number, body)
        await asyncio.sleep(0.1)
        assert isinstance(client.end(0), OverloadError)
        assert client.error(0).retry_safe
        assert isinstance(client.end(1), RemoteError)
        assert str(client.error(1)) == "ZeroDivisionError: by zero: ? \u00fc"
        assert not client.error(1).retry_safe
        assert client.end(2) == b"answered"
        assert str(client.error(3)) == "said no"
        assert [str(fault["exception"]) for fault in loop.faults] == ["after the answer"]
        loop.faults.clear()
        server.assert_quiet()

    simulate(1, work)


def test_an_unknown_method_is_not_found_and_gives_its_credit_back() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, methods=[b"echo"], limit=3)
        client = await Client(loop).connect()
        for number in range(3):
            client.call(number, b"x", method=b"nothing")
        await asyncio.sleep(0.1)
        for number in range(3):
            assert isinstance(client.end(number), NotFoundError)
            assert client.error(number).retry_safe
        client.call(3, b"x")
        await asyncio.sleep(0.1)
        assert client.end(3) == b"x"
        assert len(server.requests) == 1
        server.assert_quiet()

    simulate(1, work)


def test_a_deadline_ends_the_call_and_reaches_the_server() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, delay_s=1.0, limit=2)
        client = await Client(loop).connect()
        client.call(1, b"slow", timeout_ms=100)
        await asyncio.sleep(0.09)
        assert client.ends[1] == []
        await asyncio.sleep(0.05)
        assert isinstance(client.end(1), DeadlineError)
        assert server.requests[0].timeout_ms == 100
        await asyncio.sleep(0.05)
        (unwanted,) = server.unwanted
        assert unwanted.unwanted and not unwanted.answered
        # Its work still occupies the server: the credit is not back yet.
        assert client.session.inflight == 0
        assert client.session.credits == 1
        await asyncio.sleep(1)
        assert client.session.credits == 2
        assert client.session.frames_dropped <= 1
        assert isinstance(client.end(1), DeadlineError)
        server.assert_quiet()

    for seed in range(5):
        simulate(seed, work)


def test_a_server_answers_at_the_deadline_though_its_caller_is_slow_to_say_so() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, delay_s=1.0)
        peer = await raw_client(loop)
        peer.send(
            hello(),
            frame("NAME", b"echo", target=1),
            frame("REQUEST", target=1, id=9, value=100),
        )
        await asyncio.sleep(0.2)
        (error,) = peer.of("ERROR")
        assert error[2:5] == (Code.DEADLINE, 9, 0)
        await asyncio.sleep(1.5)
        # The credit comes alone: nothing was sent for the request a second time.
        assert peer.kinds() == ["HELLO", "CREDIT", "ERROR", "CREDIT"]
        server.assert_quiet()

    simulate(1, work)


def test_a_cancelled_call_never_ends_and_its_server_is_told() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, delay_s=0.5, limit=3)
        client = await Client(loop).connect()
        call = client.call(1, b"unwanted", timeout_ms=200)
        client.call(2, b"wanted")
        await asyncio.sleep(0.05)
        call.cancel()
        call.cancel()
        assert call.done
        await asyncio.sleep(0.05)
        assert [request.body for request in server.unwanted] == [b"unwanted"]
        assert client.session.inflight == 1
        await asyncio.sleep(1)
        assert client.ends[1] == []
        assert client.end(2) == b"wanted"
        assert client.session.credits == 3
        # Cancelled before it left, and cancelled after it ended: both harmless.
        client.call(3, b"x").cancel()
        client.calls[2].cancel()
        await asyncio.sleep(1)
        assert client.ends[3] == []
        assert client.session.credits == 3
        server.assert_quiet()

    for seed in range(5):
        simulate(seed, work)


def test_a_cancel_for_nothing_is_ignored() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)
        peer = await raw_client(loop)
        peer.send(hello(), frame("CANCEL", id=5), frame("PING"))
        await asyncio.sleep(0.1)
        assert peer.kinds() == ["HELLO", "CREDIT", "PONG"]
        server.assert_quiet()

    simulate(1, work)


def test_a_reply_that_its_caller_does_not_take_is_an_error_of_that_call_alone() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop)

        def grow(request: IncomingRequest) -> None:
            request.reply(bytes(int(request.body)))

        server.work = grow
        client = await Client(loop, body_bytes_max=1000).connect()
        client.call(1, b"1000")
        client.call(2, b"1001")
        await asyncio.sleep(0.1)
        assert client.end(1) == bytes(1000)
        assert isinstance(client.end(2), LimitError)
        assert str(client.error(2)) == "the reply has 1001 bytes, the caller takes 1000"
        assert not client.session.closed
        server.assert_quiet()

    simulate(1, work)


def test_a_request_that_the_server_does_not_take_is_refused_here() -> None:
    async def work(loop: SimulatedLoop) -> None:
        Server(loop, body_bytes_max=1000)
        client = await Client(loop).connect()
        with pytest.raises(LimitError, match="1001 bytes, server:1 takes 1000"):
            client.call(1, bytes(1001))
        client.call(2, bytes(1000))
        await asyncio.sleep(0.2)
        assert client.end(2) == bytes(1000)

    simulate(1, work)


def test_credits_move_to_the_caller_who_waits() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=10)
        first = await Client(loop).connect()
        assert first.session.credits == 10
        second = await Client(loop).connect()
        assert (first.session.credits, second.session.credits) == (5, 5)
        tell_waiting(second.session, 20)
        await asyncio.sleep(0.1)
        assert (first.session.credits, second.session.credits) == (0, 10)
        tell_waiting(first.session, 20)
        await asyncio.sleep(0.1)
        assert (first.session.credits, second.session.credits) == (5, 5)
        second.session.close()
        await asyncio.sleep(0.1)
        assert first.session.credits == 10
        server.assert_quiet()

    for seed in range(5):
        simulate(seed, work)


def test_a_reclaim_amid_replies_never_makes_a_session_send_without_credit() -> None:
    """A caller that sends its next request from within on_reply, as fast as it may."""

    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=6, delay_s=0.01)
        counts = [0, 0]

        async def caller(which: int, client: Client) -> None:
            def again(_: object) -> None:
                counts[which] += 1
                while client.session.credits > 0 and not client.session.closed:
                    send(client.session, b"echo", b"x", again, again)

            again(None)

        clients = [await Client(loop).connect(), await Client(loop).connect()]
        for which, client in enumerate(clients):
            await caller(which, client)
        for _ in range(30):
            tell_waiting(clients[loop.random.randrange(2)].session, loop.random.randrange(40))
            await asyncio.sleep(loop.random.uniform(0, 0.05))
        assert all(client.losses == 0 for client in clients)
        assert all(not session.closed for session in server.all_sessions)
        assert server.most_in_progress <= 6
        assert sum(counts) > 100

    for seed in range(10):
        simulate(seed, work)


def test_ids_go_round_and_never_are_0() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=6)
        client = await Client(loop, first_id=0xFFFFFFFD).connect()
        for number in range(6):
            client.call(number, b"%d" % number)
        await asyncio.sleep(0.2)
        ids = [request.id for request in server.requests]
        assert ids == [0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF, 1, 2, 3]
        assert [client.end(number) for number in range(6)] == [b"%d" % n for n in range(6)]

    simulate(1, work)


def test_an_id_that_is_still_in_use_is_passed_over() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=3000, delay_s=0.0)
        held: list[IncomingRequest] = []

        def keep_the_first(request: IncomingRequest) -> None:
            held.append(request) if not held else request.reply(request.body)

        server.work = keep_the_first
        client = await Client(loop).connect()
        client.call(0, b"kept")
        for number in range(1, 2500):
            client.call(number, b"%d" % number)
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        held[0].reply(b"at last")
        await asyncio.sleep(0.1)
        assert client.end(0) == b"at last"
        assert all(client.end(number) == b"%d" % number for number in range(1, 2500))

    simulate(1, work)


def test_arguments_that_cannot_be_sent_are_refused_by_name() -> None:
    async def work(loop: SimulatedLoop) -> None:
        Server(loop)
        unconnected = ClientSession(loop, SessionEvents())
        with pytest.raises(LinkLostError, match="not open"):
            send(unconnected, b"a", b"", print, print)
        unconnected.close()
        client = await Client(loop).connect()
        for options, why in (
            ({"method": b""}, "1 to 1024 bytes, not 0"),
            ({"method": bytes(1025)}, "1 to 1024 bytes, not 1025"),
            ({"timeout_ms": 0}, "timeout_ms must be 1 to 4294967295, not 0"),
            ({"timeout_ms": 1 << 32}, "timeout_ms must be 1 to"),
        ):
            with pytest.raises(UsageError, match=why):
                client.call(1, **options)  # type: ignore[arg-type]
        assert client.session.credits == 10

    simulate(1, work)


def test_more_methods_than_a_session_has_ids_are_refused_and_harm_nothing() -> None:
    async def work(loop: SimulatedLoop) -> None:
        server = Server(loop, limit=10, delay_s=0.0)
        client = await Client(loop).connect()
        for number in range(1024):
            client.call(number, b"x", method=b"method-%d" % number)
            await asyncio.sleep(0.01 if number % 8 == 0 else 0)
        with pytest.raises(UsageError, match="more than 1024 methods"):
            client.call(5000, b"x", method=b"one more")
        client.call(5001, b"x", method=b"method-7")
        await asyncio.sleep(0.1)
        assert client.end(5001) == b"x"
        assert not client.session.closed
        server.assert_quiet()

    simulate(1, work)


def test_a_callback_that_raises_harms_no_other_call() -> None:
    async def work(loop: SimulatedLoop) -> None:
        Server(loop)
        client = await Client(loop).connect()

        def broken(_: object) -> None:
            raise ValueError("in a callback")

        send(client.session, b"echo", b"", broken, broken)
        client.call(1, b"fine")
        await asyncio.sleep(0.1)
        send(client.session, b"echo", b"", broken, broken)
        client.call(2, b"lost")
        client.session.close()
        assert client.end(1) == b"fine"
        assert isinstance(client.end(2), LinkLostError)
        assert len(loop.faults) == 2
        loop.faults.clear()

    simulate(1, work)
