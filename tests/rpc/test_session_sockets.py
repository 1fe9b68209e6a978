"""The same sessions on real sockets, on uvloop and on asyncio's own loop."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dragoman.errors import DragomanError, LinkLostError
from dragoman.flow.credits import CreditPool
from dragoman.rpc.client_session import ClientSession
from dragoman.rpc.server_session import ServerSession
from dragoman.rpc.tick import tick_of
from dragoman.testing.sessions import IncomingRequest, RequestHandler, SessionEvents, send

RUNNERS: dict[str, Callable[[Awaitable[None]], None]] = {
    "uvloop": uvloop.run,
    "asyncio": asyncio.run,
}


@asynccontextmanager
async def served(
    work: Callable[[IncomingRequest], object], path: Path | None, limit: int = 100
) -> AsyncIterator[tuple[ClientSession, CreditPool, set[ServerSession]]]:
    """A client session to a server of ``work``, over TCP or a Unix socket at ``path``."""
    loop = asyncio.get_running_loop()
    pool = CreditPool(limit)
    sessions: set[ServerSession] = set()
    handler = RequestHandler(work)

    def accept() -> ServerSession:
        return ServerSession(loop, handler, pool, sessions)

    credit = asyncio.Event()
    client = ClientSession(
        loop, SessionEvents(on_credit=lambda session: session.credits and credit.set())
    )
    if path is None:
        server = await loop.create_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await loop.create_connection(lambda: client, "127.0.0.1", port)
    else:
        server = await loop.create_unix_server(accept, str(path))
        await loop.create_unix_connection(lambda: client, str(path))
    async with asyncio.timeout(5):
        await credit.wait()
    try:
        yield client, pool, sessions
    finally:
        client.close()
        server.close()
        for session in list(sessions):
            session.close()
        for _ in range(3):
            await asyncio.sleep(0)


def ask(client: ClientSession, body: bytes) -> asyncio.Future[Any]:
    """A call as a future of its reply or its error."""
    future = asyncio.get_running_loop().create_future()
    send(client, b"echo", body, future.set_result, future.set_result)
    return future


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("unix", [False, True])
def test_replies_of_any_size_come_back_whole(runner: str, unix: bool, tmp_path: Path) -> None:
    source = random.Random(1)
    sizes = [0, 1, 100, 65536, 262143, 262144, 1_000_000, 10_000_000, 50]

    async def work() -> None:
        path = tmp_path / "socket" if unix else None
        async with served(lambda request: request.reply(request.body), path) as (client, pool, _):
            bodies = [source.randbytes(size) for size in sizes]
            async with asyncio.timeout(20):
                replies = await asyncio.gather(*[ask(client, body) for body in bodies])
            assert replies == bodies
            assert client.statistics()["inflight"] == 0
            assert pool.statistics()["in_use"] == 0

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_server_that_goes_away_ends_every_call_once(runner: str) -> None:
    async def work() -> None:
        kept: list[IncomingRequest] = []
        async with served(kept.append, None) as (client, pool, sessions):
            calls = [ask(client, b"x") for _ in range(50)]
            async with asyncio.timeout(5):
                while len(kept) < 50:
                    await asyncio.sleep(0.001)
                for session in list(sessions):
                    session.close()
                ends = await asyncio.gather(*calls)
            assert all(isinstance(end, LinkLostError) and not end.retry_safe for end in ends)
            assert client.closed
            assert pool.orphaned == 50
            for request in kept:
                request.reply(b"too late")
            assert pool.granted == pool.orphaned == 0

    RUNNERS[runner](work())


@pytest.mark.parametrize("runner", RUNNERS)
def test_thousands_of_calls_in_a_closed_loop_all_get_their_own_reply(runner: str) -> None:
    async def work() -> None:
        async with served(lambda request: request.reply(request.body), None) as (client, _, _):
            done = asyncio.get_running_loop().create_future()
            left = 20_000
            wrong: list[object] = []

            def next_call() -> None:
                nonlocal left
                left -= 1
                body = b"%d" % left

                def end(reply: bytes | DragomanError) -> None:
                    if reply != body:
                        wrong.append(reply)
                    if left > 0:
                        next_call()
                    elif client.inflight == 0 and not done.done():
                        done.set_result(None)

                send(client, b"echo", body, end, end)

            for _ in range(100):
                next_call()
            async with asyncio.timeout(20):
                await done
            assert wrong == []
            statistics = client.statistics()
            # Everything of a turn shares a write.
            assert statistics["writes"] < 20_000 / 20
            assert statistics["frames_dropped"] == 0

    RUNNERS[runner](work())


def test_what_a_loop_shares_is_let_go_with_the_loop() -> None:
    async def work() -> None:
        assert tick_of(asyncio.get_running_loop()) is tick_of(asyncio.get_running_loop())

    def turns() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "Tick" for thing in gc.get_objects())

    uvloop.run(work())
    before = turns()
    for _ in range(20):
        uvloop.run(work())
    assert turns() <= before
