"""The admin pages."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest
import uvloop

from dragoman.agent.admin import AdminServer
from dragoman.errors import UsageError
from dragoman.observe.metrics import Snapshot, render


async def metrics() -> Snapshot:
    snapshot = Snapshot()
    snapshot.counter("dragoman_requests_total", 3, "Requests.")
    return snapshot


async def status() -> object:
    return {"workers": [], "text": "ü"}


async def broken() -> Snapshot:
    raise ValueError("no\nfigures")


async def get(admin: AdminServer, path: str, method: str = "GET") -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{admin.port}{path}") as reply,
    ):
        return reply.status, await reply.text()


def test_every_page_answers() -> None:
    async def scenario() -> None:
        reason: list[str | None] = ["waiting for the registry"]
        admin = AdminServer(
            "127.0.0.1", 0, not_ready=lambda: reason[0], metrics=metrics, status=status
        )
        await admin.start()
        assert await get(admin, "/healthz") == (200, "ok\n")
        assert await get(admin, "/readyz") == (503, "waiting for the registry\n")
        reason[0] = None
        assert await get(admin, "/readyz") == (200, "ready\n")
        assert "dragoman_requests_total 3.0" in (await get(admin, "/metrics"))[1]
        assert '"text": "ü"' in (await get(admin, "/status"))[1]
        assert await get(admin, "/none") == (404, "Not Found\n")
        assert await get(admin, "/status", "POST") == (405, "Method Not Allowed\n")
        await admin.close()
        await admin.close()

    uvloop.run(scenario())


def test_thousands_of_samples_are_written_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[threading.Thread] = []

    def noted(snapshot: Snapshot) -> bytes:
        where.append(threading.current_thread())
        return render(snapshot)

    async def scenario() -> None:
        monkeypatch.setattr("dragoman.agent.admin.render", noted)
        admin = AdminServer("127.0.0.1", 0, metrics=metrics, status=status, not_ready=lambda: None)
        await admin.start()
        assert "dragoman_requests_total 3.0" in (await get(admin, "/metrics"))[1]
        await admin.close()
        assert threading.current_thread() not in where
        assert len(where) == 1

    uvloop.run(scenario())


def test_a_page_that_fails_is_one_line_and_harms_no_other() -> None:
    async def scenario() -> None:
        admin = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=broken, status=status)
        await admin.start()
        assert await get(admin, "/metrics") == (500, "ValueError: no figures\n")
        assert (await get(admin, "/status"))[0] == 200
        await admin.close()

    uvloop.run(scenario())


def test_a_port_in_use_and_a_foreign_address_are_one_line() -> None:
    async def scenario() -> None:
        first = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=status)
        await first.start()
        second = AdminServer(
            "127.0.0.1", first.port, not_ready=lambda: None, metrics=metrics, status=status
        )
        with pytest.raises(UsageError, match=rf"^admin address 127.0.0.1:{first.port}: the port"):
            await second.start()
        foreign = AdminServer(
            "203.0.113.1", 0, not_ready=lambda: None, metrics=metrics, status=status
        )
        with pytest.raises(UsageError, match="this machine has no such address"):
            await foreign.start()
        await first.close()

    uvloop.run(scenario())


def test_a_scraper_that_keeps_its_connection_does_not_delay_the_end() -> None:
    async def scenario() -> None:
        admin = AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=status)
        await admin.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"ok\n")
        async with asyncio.timeout(2):
            await admin.close()
        writer.close()

    uvloop.run(scenario())
