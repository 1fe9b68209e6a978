"""What a server holds for its clients is bounded, by ``buffers_bytes_max``, before it is there."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from pathlib import Path

import pytest

from dragoman import dubbo, rpc
from dragoman.budget import Budget, process_budget
from dragoman.errors import OverloadError, UsageError
from dragoman.testing.mesh import frame
from tests.rpc.test_hoarding import Hoarder, hello, honestly

MIB = 1 << 20
SERVER = """
import asyncio, sys
from dragoman import rpc

async def main():
    async with await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0") as server:
        print(server.address.port, flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_half_frames_of_the_longest_bodies_stay_within_the_servers_bound() -> None:
    """12 of 64 MiB less one byte, at a server with nothing but defaults."""

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        writers: list[asyncio.StreamWriter] = []
        try:
            port = int(await process.stdout.readline())
            part = frame("REQUEST", bytes(64 * MIB), target=1, id=1, value=60_000)[:-1]

            async def half(i: int) -> None:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writers.append(writer)
                writer.write(hello(bytes([i + 1]) * 16) + frame("NAME", b"echo", target=1))
                writer.write(frame("DEMAND", value=1))
                await asyncio.sleep(0.2)
                with contextlib.suppress(OSError):
                    for at in range(0, len(part), MIB):
                        writer.write(part[at : at + MIB])
                        await writer.drain()

            await asyncio.gather(*(half(i) for i in range(12)))
            assert peak_bytes(process.pid) <= 420 * MIB
            async with await rpc.connect(f"127.0.0.1:{port}") as client:
                assert await client.call("echo", b"small", timeout_ms=20_000) == b"small"
        finally:
            for writer in writers:
                writer.transport.abort()
            process.kill()
            await process.wait()

    asyncio.run(scenario())


def test_a_body_without_room_is_refused_and_its_session_goes_on() -> None:
    async def scenario() -> None:
        async def work(body: bytes) -> bytes:
            return body[:5]

        async with await rpc.serve(
            {"work": work}, "127.0.0.1:0", buffers_bytes_max=MIB, body_bytes_max=2 * MIB
        ) as server:
            at = str(server.address)
            raw = [Hoarder(server.address.port, demand=1, on_reclaim=honestly) for _ in range(4)]
            for one in raw:
                one.start()
                await asyncio.wait_for(one.started.wait(), 20)
            async with await rpc.connect(at, timeout_ms=20_000) as client:
                assert await client.call("work", b"small") == b"small"
                # The bound is that of two bodies: these halves take two thirds at least.
                half = frame("REQUEST", bytes(2 * MIB), target=1, id=1, value=60_000)[:700_000]
                for one in raw:
                    assert one.writer is not None
                    one.writer.write(frame("NAME", b"work", target=1) + half)
                    await one.writer.drain()
                refused = None
                while refused is None:
                    try:
                        await client.call("work", bytes(2 * MIB))
                    except OverloadError as error:
                        refused = error
                assert refused.retry_safe and "no memory is left" in str(refused)
                # A small one has room, on the same session.
                assert await client.call("work", b"small") == b"small"
                for one in raw:
                    await one.stop()
                async with asyncio.timeout(20):
                    while True:
                        with contextlib.suppress(OverloadError):
                            assert await client.call("work", bytes(2 * MIB)) == bytes(5)
                            break
                assert client.statistics().connections == 1

    asyncio.run(scenario())


def test_what_was_held_is_given_back() -> None:
    async def scenario() -> None:
        async with (
            await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0") as server,
            await rpc.connect(str(server.address)) as client,
        ):
            for n in (0, 1, 5000, 70_000, MIB, 5 * MIB):
                assert await client.call("echo", bytes(n)) == bytes(n)

    gc.collect()
    before = process_budget().used
    asyncio.run(scenario())
    gc.collect()
    assert process_budget().used == before


def test_bounds_are_checked() -> None:
    with pytest.raises(ValueError, match="bytes_max must be 0 or more, not -1"):
        Budget(-1)

    async def scenario() -> None:
        with pytest.raises(UsageError, match="buffers_bytes_max: expected a whole number from 1"):
            await rpc.serve({}, "127.0.0.1:0", buffers_bytes_max=0)
        with pytest.raises(UsageError, match="buffers_bytes_max"):
            await dubbo.serve([], 0, buffers_bytes_max=0)

    asyncio.run(scenario())
