"""Agents within ``--memory-mib-max``, whatever has half arrived and whoever does not read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.testing.mesh import NAMES, frame
from dragoman.wire.mesh import MeshDecoder
from tests.faults.chain import HOST, INTERFACE, Chain, chain, start
from tests.faults.http import client, form, form_body, is_hash
from tests.faults.memory import MIB, peak_bytes, within
from tests.waiting import until

BOUND_MB = 200
SERVED = (200, 503)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Chain]:
    with chain(tmp_path) as made:
        yield made


def head(length: int) -> bytes:
    """A POST's head."""
    return (
        f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    ).encode()


async def status_of(reader: asyncio.StreamReader) -> int:
    """The status of the response that comes, 0 if none does."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        line = await reader.readline()
        return int(line.split()[1]) if line else 0
    return 0


async def posted(port: int, body: bytes) -> int:
    """POST a body; the status."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=16 * MIB)
    try:
        writer.write(head(len(body)))
        with contextlib.suppress(OSError):
            for i in range(0, len(body), 65536):
                writer.write(body[i : i + 65536])
                await writer.drain()
        return await status_of(reader)
    finally:
        writer.transport.abort()


async def a_call_is_served(port: int) -> None:
    """Once what was held has been let go, calls are served as before."""

    async def served() -> bool:
        async with client(port) as one:
            return is_hash(await one.ask(form("after")), "after")

    await until(served, 20.0, lambda: "no call is served afterwards")


def test_many_large_bodies_at_once_never_kill_an_agent(own: Chain) -> None:
    """150 clients with 2 MB each; both agents have 200 MiB and are killed beyond them."""

    async def scenario() -> None:
        bound = ("--memory-mib-max", str(BOUND_MB))
        provider = own.provider("provider", "--delay-ms", "20")
        behind = own.provider_agent("behind", provider, *bound, registry="memory://one")
        static = f"static://{HOST}:{behind.port}?interface={INTERFACE}"
        front = own.consumer_agent("front", *bound, registry=static)
        await start(provider, behind)
        await front.start()
        body = form_body("x" * 2_000_000)
        with (
            within("front", BOUND_MB * MIB, front) as front_in,
            within("behind", BOUND_MB * MIB, behind) as behind_in,
        ):
            statuses: list[int] = []
            for _ in range(2):
                statuses += await asyncio.gather(*(posted(front.port, body) for _ in range(150)))
            assert front.runs and behind.runs, (front.tail(), behind.tail())
            assert set(statuses) <= set(SERVED)
            assert statuses.count(200) >= 10
            if not front_in:
                assert peak_bytes(front) <= BOUND_MB * MIB
            if not behind_in:
                assert peak_bytes(behind) <= BOUND_MB * MIB
            await a_call_is_served(front.port)

    asyncio.run(scenario())


def test_half_bodies_count_before_they_are_whole(own: Chain) -> None:
    """60 bodies of 8 MiB less one byte."""

    async def scenario() -> None:
        front = own.consumer_agent(
            "front", "--memory-mib-max", str(BOUND_MB), registry=f"static://{HOST}:1"
        )
        await start(front)
        part = bytes(8 * MIB - 1)
        writers = []

        async def half() -> None:
            _, writer = await asyncio.open_connection(HOST, front.port)
            writers.append(writer)
            with contextlib.suppress(OSError):
                writer.write(head(8 * MIB))
                for i in range(0, len(part), 1 * MIB):
                    writer.write(part[i : i + MIB])
                    await writer.drain()

        await asyncio.gather(*(half() for _ in range(60)))
        assert front.runs
        assert peak_bytes(front) <= BOUND_MB * MIB
        for writer in writers:
            writer.transport.abort()

    asyncio.run(scenario())


def test_half_bodies_leave_small_calls_their_room(own: Chain) -> None:
    """As many half bodies as the agent takes, which stay: calls beside them are served."""

    async def scenario() -> None:
        provider = own.provider("provider", "--delay-ms", "0")
        behind = own.provider_agent("behind", provider, registry="memory://one")
        static = f"static://{HOST}:{behind.port}?interface={INTERFACE}"
        front = own.consumer_agent("front", "--memory-mib-max", str(BOUND_MB), registry=static)
        await start(provider, behind)
        await front.start()
        await a_call_is_served(front.port)
        writers = []
        refused = 0

        async def half() -> None:
            nonlocal refused
            reader, writer = await asyncio.open_connection(HOST, front.port)
            writers.append(writer)
            with contextlib.suppress(OSError):
                writer.write(head(8 * MIB) + bytes(8 * MIB - 1))
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    refused += await status_of(reader) == 503

        await asyncio.gather(*(half() for _ in range(30)))
        assert refused
        statuses = [await posted(front.port, form_body(str(i))) for i in range(50)]
        assert statuses == [200] * 50
        for writer in writers:
            writer.transport.abort()

    asyncio.run(scenario())


def hello() -> bytes:
    fixed = struct.pack("<4sHHII16s", b"DRGM", 1, 1, 0, 1 << 24, os.urandom(16))
    return frame("HELLO", fixed + b"test")


@pytest.mark.parametrize("holds_credits", [True, False])
def test_half_mesh_frames_count_and_need_a_credit(own: Chain, holds_credits: bool) -> None:
    """60 requests of 8 MiB less one byte, with credits and without."""

    async def scenario() -> None:
        # Half of them have a credit.
        limit = "200" if holds_credits else "1"
        provider = own.provider("provider")
        agent = own.provider_agent(
            "agent",
            provider,
            "--memory-mib-max",
            str(BOUND_MB),
            "--limit",
            limit,
            registry="memory://one",
        )
        await start(provider, agent)
        part = frame("REQUEST", bytes(8 * MIB), target=1, id=1, value=60_000)[:-1]
        ended: list[bool] = []
        writers = []

        async def half() -> None:
            reader, writer = await asyncio.open_connection(HOST, agent.port, limit=16 * MIB)
            writers.append(writer)
            writer.write(hello() + frame("NAME", b"form", target=1))
            if holds_credits:
                writer.write(frame("DEMAND", value=1))
                decoder = MeshDecoder()
                credited = False
                while not credited:
                    data = await reader.read(65536)
                    assert data
                    credited = any(NAMES[one[0]] == "CREDIT" for one in decoder.frames(data))
            with contextlib.suppress(OSError):
                for i in range(0, len(part), MIB):
                    writer.write(part[i : i + MIB])
                    await writer.drain()
                await reader.read(65536)
                if not holds_credits:
                    while await reader.read(65536):
                        pass
            ended.append(True)

        tasks = [asyncio.ensure_future(half()) for _ in range(60)]
        await asyncio.wait(tasks, timeout=None if not holds_credits else 3)
        if not holds_credits:
            # At most one of them had the credit; its frame does not arrive, and that ends it too.
            assert len(ended) == 60
        assert agent.runs
        assert peak_bytes(agent) <= BOUND_MB * MIB
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()

    asyncio.run(scenario())


def test_a_provider_that_reads_nothing_and_sends_heartbeats_costs_little(own: Chain) -> None:
    async def scenario() -> None:
        beat = struct.pack(">HBBQI", 0xDABB, 0xE2, 0, 1, 1) + b"N"
        sent = 0
        writers: list[asyncio.StreamWriter] = []

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writers.append(writer)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):
                while sent < 64 * MIB:
                    writer.write(beat * 8000)
                    sent += 8000 * len(beat)
                    await writer.drain()

        server = await asyncio.start_server(deaf, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        agent = own.provider_agent("agent", port, registry="memory://one")
        agent.launch()
        await until(lambda: sent >= 64 * MIB, 60.0)
        # The answers to all of them would be as much again.
        assert agent.runs
        assert peak_bytes(agent) <= 100 * MIB
        agent.kill()
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    asyncio.run(scenario())
