"""The admin port under clients that ask for nothing: it stays small, and answers who does."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvloop

from dragoman.agent import admin_door
from dragoman.agent.admin import AdminServer
from tests.agent.test_admin import get, metrics, status
from tests.waiting import until

HALF = b"GET /metrics HTTP/1.1\r\nHost: t\r\n"


def server() -> AdminServer:
    return AdminServer("127.0.0.1", 0, not_ready=lambda: None, metrics=metrics, status=status)


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
    return await reader.readuntil(b"ok\n")


@contextmanager
def half_sent(admin: AdminServer, count: int) -> Iterator[list[socket.socket]]:
    made = []
    try:
        for _ in range(count):
            one = socket.socket()
            made.append(one)
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", admin.port))
            one.send(HALF)
        yield made
    finally:
        for one in made:
            one.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_half_sent_heads_are_few_and_keep_nobody_out() -> None:
    async def scenario() -> None:
        admin = server()
        await admin.start()
        before = descriptors()
        with half_sent(admin, 120) as clients:
            for _ in range(3):
                async with asyncio.timeout(10):
                    assert await get(admin, "/healthz") == (200, "ok\n")
                # Those that the server has, its reserve and one client of ours.
                assert descriptors() - before - len(clients) <= 4
        await admin.close()

    uvloop.run(scenario())


def test_a_head_has_a_deadline_and_an_idle_connection_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin_door, "HEAD_S", 0.2)
    monkeypatch.setattr(admin_door, "IDLE_S", 3600.0)
    monkeypatch.setattr(admin_door, "SWEEP_S", 0.05)

    async def scenario() -> None:
        admin = server()
        await admin.start()
        kept = await asyncio.open_connection("127.0.0.1", admin.port)
        silent = await asyncio.open_connection("127.0.0.1", admin.port)
        slow = await asyncio.open_connection("127.0.0.1", admin.port)
        await asked(*kept)
        await asked(*slow)
        slow[1].write(HALF)  # this time it does not go on
        for reader, _ in (silent, slow):
            with pytest.raises((EOFError, OSError)):
                async with asyncio.timeout(10):
                    await reader.readexactly(1)
        assert await asked(*kept)
        monkeypatch.setattr(admin_door, "IDLE_S", 0.1)
        await asked(*kept)
        with pytest.raises((EOFError, OSError)):
            async with asyncio.timeout(10):
                await kept[0].readexactly(1)
        for _, writer in (kept, silent, slow):
            writer.transport.abort()
        await admin.close()

    uvloop.run(scenario())


def test_pages_answer_when_no_descriptor_is_left() -> None:
    async def scenario() -> None:
        admin = server()
        await admin.start()
        # A client's descriptor, made while there are some.
        clients = [socket.socket() for _ in range(3)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 20, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                while True:
                    taken.append(os.dup(0))
            for client in clients:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", admin.port))
                await loop.sock_sendall(client, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
                async with asyncio.timeout(10):
                    assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200")
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in clients:
                client.close()
        await until(lambda: admin._door is not None and not admin._door._known)
        await admin.close()

    uvloop.run(scenario())
