"""What servers make a client hold is bounded, by ``buffers_bytes_max``, before it is there.

Each client is a program with nothing but defaults, its servers are hostile; its peak (VmHWM) tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
import sys
from collections.abc import Awaitable, Callable

import pytest

from dragoman import cluster, dubbo, rpc
from dragoman.budget import process_budget
from dragoman.errors import BatchError, OverloadError, UsageError
from dragoman.testing.mesh import frame, hello
from dragoman.wire.mesh import KINDS, MeshDecoder
from tests.rpc.test_buffers import MIB, peak_bytes

# The default of 256 MiB, the interpreter, what is copied at the moment.
BOUND = 420 * MIB
SERVERS = 12
LONGEST = 64 * MIB - 1

PROGRAM = """
import asyncio, sys
from dragoman import cluster, dubbo, errors, rpc

async def calls(connect):
    async with await connect as client:
        bodies = [b""] * len(ports) * 2
        await asyncio.gather(
            *(client.call("m", each, timeout_ms=60000) for each in bodies), return_exceptions=True
        )

async def batch(connect):
    async with await connect as client:
        try:
            await client.call_many("m", [b""] * 12, timeout_ms=60000)
        except errors.BatchError as error:
            print(sorted({str(each) for each in error.errors.values()}), flush=True)

async def impatient(connect):
    async with await connect as client:
        body = bytes(1 << 20)
        for _ in range(60):
            await asyncio.gather(
                *(client.call("m", body, timeout_ms=20) for _ in ports), return_exceptions=True
            )
        print("called", flush=True)
        await asyncio.sleep(60)

async def java(connect):
    async with connect as client:
        service = client.service("com.example.Any")
        await asyncio.gather(
            *(service.any("x", timeout_ms=60000) for _ in ports), return_exceptions=True
        )

async def main(what, *addresses):
    await do(what, *addresses)
    await asyncio.sleep(60)

async def do(what, *addresses):
    if what == "java":
        await java(dubbo.Client("dubbo://" + ",".join(addresses)))
    elif len(addresses) == 1:
        await globals()[what](rpc.connect(addresses[0]))
    else:
        await globals()[what](
            cluster.connect(
                "s", endpoints=addresses, servers_min=len(addresses), policy="round-robin"
            )
        )

ports = sys.argv[2:]
asyncio.run(main(*sys.argv[1:]))
"""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def program(what: str, serve: Serve, servers: int, seen: Callable[[], bool]) -> int:
    """The peak of a program that calls so many servers, once ``seen``."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    listeners = [await asyncio.start_server(connected, "127.0.0.1", 0) for _ in range(servers)]
    addresses = [f"127.0.0.1:{each.sockets[0].getsockname()[1]}" for each in listeners]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, what, *addresses, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while not seen():
                assert process.returncode is None
                await asyncio.sleep(0.02)
            if what in ("batch", "impatient"):
                assert process.stdout is not None
                assert await process.stdout.readline()
        return peak_bytes(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        for writer in writers:
            writer.transport.abort()
        for listener in listeners:
            listener.close()


async def asked(reader: asyncio.StreamReader, decoder: MeshDecoder) -> list[int]:
    """The ids of the requests that come next."""
    while True:
        data = await reader.read(1 << 16)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        ids = [each[3] for each in decoder.frames(data) if each[0] == KINDS["REQUEST"]]
        if ids:
            return ids


def test_halves_of_the_longest_replies_of_many_servers_stay_within_a_pools_bound() -> None:
    sent: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello() + frame("CREDIT", value=100))
        ids = await asked(reader, MeshDecoder())
        reply = frame("REPLY", bytes(LONGEST), id=ids[0])[:-1]
        for at in range(0, len(reply), MIB):
            writer.write(reply[at : at + MIB])
            await writer.drain()
        sent.append(1)
        await reader.read()

    peak = asyncio.run(program("calls", serve, SERVERS, lambda: len(sent) == SERVERS))
    assert peak <= BOUND


def test_a_batch_of_the_longest_replies_stays_within_its_clients_bound() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello() + frame("CREDIT", value=100))
        decoder = MeshDecoder()
        while True:
            for id in await asked(reader, decoder):
                writer.write(frame("REPLY", bytes(LONGEST), id=id, value=1))
                await writer.drain()

    assert asyncio.run(program("batch", serve, 1, lambda: True)) <= BOUND


def test_requests_that_were_given_up_at_servers_that_read_nothing_stay_within_the_bound() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hello(body_bytes_max=1 << 26) + frame("CREDIT", value=10_000))
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        while True:
            # A sign of life, so that it is not given up for silence.
            await asyncio.sleep(0.2)
            writer.write(frame("PONG"))

    assert asyncio.run(program("impatient", serve, SERVERS, lambda: True)) <= BOUND


def test_halves_of_replies_of_many_providers_stay_within_a_dubbo_clients_bound() -> None:
    sent: list[int] = []
    providers = 70

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(struct.pack(">HBBQI", 0xDABB, 2, 20, 77, 8 * MIB) + bytes(8 * MIB - 1))
        await writer.drain()
        sent.append(1)
        await reader.read()

    peak = asyncio.run(program("java", serve, providers, lambda: len(sent) >= providers))
    assert peak <= BOUND


@pytest.mark.parametrize("pooled", [False, True])
def test_replies_of_a_batch_without_room_fail_alone_and_give_back_what_they_held(
    pooled: bool,
) -> None:
    async def scenario() -> None:
        async with await rpc.serve({"m": lambda body: bytes(int(body))}, "127.0.0.1:0") as server:
            at = str(server.address)
            bounds = {"buffers_bytes_max": MIB, "body_bytes_max": MIB // 2}
            client: rpc.Client | cluster.Pool
            if pooled:
                client = await cluster.connect("s", endpoints=[at], **bounds)  # type: ignore[arg-type]
            else:
                client = await rpc.connect(at, **bounds)  # type: ignore[arg-type]
            async with client:
                for _ in range(3):
                    with pytest.raises(BatchError) as raised:
                        await client.call_many("m", [b"300000", b"10"] * 5, timeout_ms=20_000)
                    errors = raised.value.errors
                    assert {type(each) for each in errors.values()} == {OverloadError}
                    assert 1 <= len(errors) <= 3
                    assert all(i % 2 == 0 and "no memory is left" in str(errors[i]) for i in errors)
                assert len(await client.call("m", b"300000")) == 300_000

    asyncio.run(scenario())


def test_a_client_gives_back_all_that_it_held() -> None:
    async def scenario() -> None:
        async with (
            await rpc.serve({"echo": lambda body: body}, "127.0.0.1:0") as server,
            await rpc.connect(str(server.address)) as client,
        ):
            for n in (0, 1, 5000, 70_000, MIB, 5 * MIB):
                assert await client.call("echo", bytes(n)) == bytes(n)
                assert len(await client.call_many("echo", [bytes(n)] * 3)) == 3
            budget = client.budget
        del client
        gc.collect()
        assert budget.used == 0 and budget.most > 5 * MIB

    gc.collect()
    before = process_budget().used
    asyncio.run(scenario())
    gc.collect()
    assert process_budget().used == before


def test_the_bound_of_clients_is_checked() -> None:
    async def scenario() -> None:
        wrong = "buffers_bytes_max: expected a whole number from 1"
        with pytest.raises(UsageError, match=wrong):
            await rpc.connect("127.0.0.1:1", buffers_bytes_max=0)
        with pytest.raises(UsageError, match=wrong):
            rpc.connect_sync("127.0.0.1:1", buffers_bytes_max=0)
        with pytest.raises(UsageError, match=wrong):
            await cluster.connect("s", endpoints=["127.0.0.1:1"], buffers_bytes_max=0)
        with pytest.raises(UsageError, match=wrong):
            dubbo.Client("dubbo://127.0.0.1:1", buffers_bytes_max=0)

    asyncio.run(scenario())
