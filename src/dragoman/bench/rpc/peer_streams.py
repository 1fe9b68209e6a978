"""A peer: what one writes oneself on asyncio's streams, a length and an id before each message.

On uvloop, with a task that reads, and with writes that are awaited, as the documentation of streams
shows them. The invariant: as everywhere, a reply finds its call by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from struct import Struct

from dragoman.bench.rpc.contestant import HOST, AsyncContestant

_HEADER = Struct("<II")


class StreamsClient:
    """See ``Connection``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._id = 0
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def call(self, _method: str, body: bytes, /) -> bytes:
        """One call."""
        self._id = ident = (self._id + 1) & 0xFFFFFFFF
        self._pending[ident] = future = asyncio.get_running_loop().create_future()
        self._writer.write(_HEADER.pack(len(body), ident) + body)
        await self._writer.drain()
        reply: bytes = await future
        return reply

    async def _read(self) -> None:
        while True:
            length, ident = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            self._pending.pop(ident).set_result(await self._reader.readexactly(length))

    async def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            length, ident = _HEADER.unpack(await reader.readexactly(_HEADER.size))
            body = await reader.readexactly(length)
            writer.write(_HEADER.pack(len(body), ident) + body)
            await writer.drain()
    writer.close()


class PeerStreams(AsyncContestant):
    """See the module."""

    name = "streams"
    title = "asyncio streams"
    styles = frozenset({"await", "lone"})

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        server = await asyncio.start_server(_answer, HOST, 0)
        ready(f"{HOST}:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    async def connect(self, address: str) -> StreamsClient:
        """See ``AsyncContestant``."""
        host, _, port = address.rpartition(":")
        return StreamsClient(*await asyncio.open_connection(host, int(port)))
