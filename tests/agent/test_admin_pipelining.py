"""The admin port under clients that ask for thousands of pages at once: they wait for each other,
and whoever comes then is heard first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from dragoman.agent import admin_door
from dragoman.agent.admin import AdminServer
from tests.agent.test_admin import get, metrics
from tests.agent.test_admin_connections import server
from tests.load_factor import load_factor
from tests.waiting import until

STATUS = b"GET /status HTTP/1.1\r\nHost: t\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n"


async def large() -> object:
    """As an agent with some services tells."""
    return {"services": [{"service": f"a.b.C{i}", "requests": i} for i in range(100)]}


@asynccontextmanager
async def greedy(admin: AdminServer, count: int, text: bytes) -> AsyncIterator[list[socket.socket]]:
    """Clients that send ``text`` as fast as they may, and read nothing."""
    loop = asyncio.get_running_loop()
    made = [socket.socket() for _ in range(count)]
    sending: list[asyncio.Future[None]] = []
    try:
        for one in made:
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", admin.port))
        sending = [asyncio.ensure_future(loop.sock_sendall(one, text)) for one in made]
        yield made
    finally:
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        for one in made:
            one.close()


def test_who_asks_for_thousands_and_reads_nothing_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        admin = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=large)
        await admin.start()
        took_s = []
        async with greedy(admin, 32, STATUS * 2000):
            await asyncio.sleep(0)
            for _ in range(5):
                began_s = loop.time()
                assert await get(admin, "/readyz") == (200, "ready\n")
                took_s.append(loop.time() - began_s)
        await admin.close()
        assert max(took_s) < 0.1 * load_factor(), took_s

    uvloop.run(scenario())


def counted(monkeypatch: pytest.MonkeyPatch, admin: AdminServer) -> list[object]:
    """Every request that a page is made for, by its connection."""
    door = admin._door
    assert door is not None
    begun: list[object] = []
    real = door.request

    def request(protocol: object) -> contextlib.AbstractContextManager[None]:
        begun.append(protocol)
        return real(protocol)

    monkeypatch.setattr(door, "request", request)
    return begun


def test_connections_take_turns_and_a_turn_of_the_loop_makes_one_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        admin = server()
        await admin.start()
        begun = counted(monkeypatch, admin)
        most = 0
        async with greedy(admin, 8, LAST * 500) as clients:
            await until(lambda: len(set(begun)) == len(clients))
            for _ in range(50):
                before = len(begun)
                turn = loop.create_future()
                loop.call_soon(turn.set_result, None)
                await turn
                most = max(most, len(begun) - before)
            await until(lambda: len(begun) == 500 * len(clients))
        assert most <= 3  # this test's own waiting may take more than one turn
        for i in range(100, 500 * 8 - 100, 8):
            assert len(set(begun[i : i + 8])) >= 7
        await admin.close()

    uvloop.run(scenario())


def test_no_page_is_made_for_who_has_not_taken_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        admin = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=huge)
        await admin.start()
        begun = counted(monkeypatch, admin)
        async with greedy(admin, 1, STATUS * 2000 + LAST) as (one,):
            (connection,) = await known(admin)
            await until(lambda: connection._unread)
            few = len(begun)
            for _ in range(200):
                await asyncio.sleep(0)
            assert len(begun) == few < 200
            assert len(connection._held) <= 1 << 18
            # All of it comes, in order, when it is read.
            text = b""
            pages = 0
            async with asyncio.timeout(120):
                while not text.endswith(b"\r\n\r\nok\n"):
                    text += await loop.sock_recv(one, 1 << 20)
                    pages += text.count(b"HTTP/1.1 200")
                    text = text[-1000:].replace(b"HTTP/1.1 200", b"")
            assert pages == 2001 == len(begun)
        await admin.close()

    async def huge() -> object:
        return "x" * 50_000

    uvloop.run(scenario())


async def known(admin: AdminServer) -> list[admin_door._Connection]:
    await until(lambda: admin._door is not None and bool(admin._door._known))
    assert admin._door is not None
    return list(admin._door._known.values())


@pytest.mark.parametrize("piece", [1, 3, 37, 10_000])
def test_requests_in_any_pieces_and_a_client_that_ends_its_side_get_all_pages(piece: int) -> None:
    async def scenario() -> None:
        admin = server()
        await admin.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        text = LAST + STATUS + LAST + b"GET /none HTTP/1.1\r\nHost: t\r\n\r\n" + LAST
        for i in range(0, len(text), piece):
            writer.write(text[i : i + piece])
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(10):
            answers = await reader.read()
        assert answers.count(b"HTTP/1.1 200") == 4 and answers.count(b"HTTP/1.1 404") == 1
        assert answers.endswith(b"ok\n")
        writer.close()
        await admin.close()

    uvloop.run(scenario())


def test_those_who_ask_at_once_are_shown_one_page_and_a_dear_one_is_shown_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = 0
    gate: Callable[[], Awaitable[object]]

    async def status() -> object:
        nonlocal made
        made += 1
        await gate()
        if made == 3:
            raise ValueError("no\nfigures")
        return made

    async def scenario() -> None:
        nonlocal gate
        monkeypatch.setattr("dragoman.agent.admin.STALE_S", 3600.0)
        monkeypatch.setattr("dragoman.agent.admin.SPARED", 1e6)
        opened = asyncio.Event()
        gate = opened.wait
        admin = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=status)
        await admin.start()
        asked = [asyncio.ensure_future(get(admin, "/status")) for _ in range(5)]
        await until(lambda: made == 1)
        opened.set()
        assert {text for _, text in await asyncio.gather(*asked)} == {"1\n"}
        assert await get(admin, "/status") == (200, "1\n")
        monkeypatch.setattr("dragoman.agent.admin.SPARED", 0)
        admin._status_text._until_s = 0.0
        assert await get(admin, "/status") == (200, "2\n")
        # What failed is not kept.
        assert await get(admin, "/status") == (500, "ValueError: no figures\n")
        assert await get(admin, "/status") == (200, "4\n")
        await admin.close()

    uvloop.run(scenario())
