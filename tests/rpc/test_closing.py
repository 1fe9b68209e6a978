"""Clients and servers that close, connect and drain while other things happen."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from dragoman import rpc
from dragoman.errors import (
    ConnectError,
    DragomanError,
    LinkLostError,
)
from dragoman.testing import SimulatedLoop, at_rest, simulate
from dragoman.testing.mesh import RawPeer, frame, hello, raw_client
from tests.rpc.handlers import AT, slow_echo


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

    simulate(1, work)


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
        assert all(isinstance(end, LinkLostError) and end.retry_safe for end in later), later
        at_rest(client)
        await server.close()
        at_rest(server)

    simulate(1, work)


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

    simulate(1, work)


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
        with contextlib.suppress(LinkLostError):
            await call
        await client.close()
        at_rest(client, server)

    simulate(1, work)


def test_two_may_close_a_client_at_once() -> None:
    async def work(loop: SimulatedLoop) -> None:
        async with await rpc.serve(slow_echo, AT):
            client = await rpc.connect(AT)
            call = client.call("m", b"x")
            started_s = loop.time()
            await asyncio.gather(client.close(), client.close())
            assert await call == b"x"
            assert loop.time() - started_s < 1

    simulate(1, work)


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

    simulate(1, work)


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

    simulate(1, work)


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

    simulate(1, work)


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
            assert [type(end) for end in ends] == [LinkLostError] * 3
            assert client.statistics().connections == 1

    simulate(1, work)
