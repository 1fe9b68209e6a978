"""The floor of uvloop: two bare protocols, no framing, no futures.

``lone`` writes a body and waits until as many bytes are back; ``bulk`` keeps ``in_flight`` batches
under way and writes a new one for each that has come back. The invariant: what comes back is
counted to the byte.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import cast

from dragoman.bench.rpc.calling import AsyncCaller, Connections, shared
from dragoman.bench.rpc.contestant import HOST, AsyncContestant, BenchCaller, BenchError, Work


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


class BareConnection(asyncio.Protocol):
    """The client's protocol; what comes goes to ``on_data``. It has no calls to be counted."""

    def __init__(self) -> None:
        self.on_data: Callable[[bytes], None] = lambda _: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.on_data(data)

    async def close(self) -> None:
        """Close the connection."""
        self.transport.close()


class FloorUvloop(AsyncContestant):
    """See the module."""

    name = "floor-uvloop"
    title = "bare uvloop protocols"
    styles = frozenset({"lone", "bulk", "idle"})

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Echo, HOST, 0, backlog=1024)
        ready(f"{HOST}:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    async def connect(self, address: str) -> BareConnection:
        """See ``AsyncContestant``."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(BareConnection, host, int(port))
        return connection

    def caller(self, address: str) -> BenchCaller:
        """See ``Contestant``."""
        return AsyncCaller(
            lambda: self.connect(address), self.new_loop, {"lone": _lone, "bulk": _bulk}, _check
        )


async def _lone(connections: Connections, work: Work, body: bytes, rounds: int) -> list[int]:
    """Write a body when the one before is back; what each took, in nanoseconds."""
    connection = connections[0]
    body = body or b"\0"  # no body at all could not come back
    size = len(body)
    write = connection.transport.write
    clock_ns = time.perf_counter_ns
    took_ns: list[int] = []
    done = asyncio.get_running_loop().create_future()
    missing = size
    before_ns = 0

    def on_data(data: bytes) -> None:
        nonlocal missing, before_ns
        missing -= len(data)
        if missing:
            return
        now_ns = clock_ns()
        took_ns.append(now_ns - before_ns)
        if len(took_ns) == rounds:
            done.set_result(None)
            return
        missing = size
        before_ns = now_ns
        write(body)

    connection.on_data = on_data
    before_ns = clock_ns()
    write(body)
    await done
    return took_ns


async def _bulk(connections: Connections, work: Work, body: bytes, rounds: int) -> None:
    """Keep ``in_flight`` batches of bodies under way on each connection."""
    chunk = body * work.batch
    size = len(chunk)
    loop = asyncio.get_running_loop()

    async def move(connection: BareConnection, in_flight: int) -> None:
        write = connection.transport.write
        done = loop.create_future()
        unwritten = (rounds - 1) * in_flight
        unread = rounds * in_flight * size
        part = 0

        def on_data(data: bytes) -> None:
            nonlocal unwritten, unread, part
            unread -= len(data)
            part += len(data)
            while part >= size:
                part -= size
                if unwritten:
                    unwritten -= 1
                    write(chunk)
            if not unread:
                done.set_result(None)

        connection.on_data = on_data
        for _ in range(in_flight):
            write(chunk)
        await done

    await asyncio.gather(*(move(each, n) for each, n in shared(connections, work.in_flight)))


async def _check(connections: Connections, work: Work) -> None:
    sent = os.urandom(100_000)
    for connection in connections[:8]:
        came = bytearray()
        done = asyncio.get_running_loop().create_future()

        def on_data(data: bytes, came: bytearray = came, done: asyncio.Future[None] = done) -> None:
            came.extend(data)
            if len(came) >= len(sent):
                done.set_result(None)

        connection.on_data = on_data
        connection.transport.write(sent)
        await done
        if came != sent:
            raise BenchError("what came back differs from what was sent")
