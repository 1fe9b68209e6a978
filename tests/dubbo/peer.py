"""A Dubbo consumer in plain Python, for tests of servers: frames out, frames in, nothing shared
with what is tested but the values' codec."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from dragoman.wire import hessian2

REQUEST, TWO_WAY, EVENT, HESSIAN2 = 0x80, 0x40, 0x20, 2


class Reply(NamedTuple):
    """A frame that came."""

    flags: int
    status: int
    id: int
    body: bytes

    @property
    def text(self) -> str:
        """The text of a reply under a status other than 20."""
        value = hessian2.decode(self.body)
        assert isinstance(value, str)
        return value

    @property
    def values(self) -> list[Any]:
        """Type, value or throwable, attachments."""
        return hessian2.decode_stream(self.body)


def frame(
    id: int, body: bytes, flags: int = REQUEST | TWO_WAY | HESSIAN2, status: int = 0
) -> bytes:
    """A frame's bytes."""
    return struct.pack(">HBBQI", 0xDABB, flags, status, id, len(body)) + body


def invocation(
    interface: str,
    method: str,
    *args: Any,
    types: str = "",
    version: str | None = None,
    attachments: dict[str, str] | None = None,
    protocol: str = "2.0.2",
) -> bytes:
    """A request's body."""
    head = hessian2.encode(protocol, interface, version, method, types)
    arguments = hessian2.encode(*args, types=types)
    return head + arguments + hessian2.encode(attachments or {})


class Peer:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._id = 0

    def send(self, body: bytes, flags: int = REQUEST | TWO_WAY | HESSIAN2) -> int:
        """Send a request; its id."""
        self._id += 1
        self.writer.write(frame(self._id, body, flags))
        return self._id

    async def receive(self) -> Reply:
        """The next frame."""
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(16)
            magic, flags, status, id, length = struct.unpack(">HBBQI", head)
            assert magic == 0xDABB
            return Reply(flags, status, id, await self.reader.readexactly(length))

    async def ask(self, body: bytes, flags: int = REQUEST | TWO_WAY | HESSIAN2) -> Reply:
        """Send a request and wait for its reply, which is the next frame."""
        id = self.send(body, flags)
        reply = await self.receive()
        assert reply.id == id
        return reply

    async def closed(self) -> bool:
        """Whether the server closes the connection, without another word."""
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


@asynccontextmanager
async def peer(address: object) -> AsyncIterator[Peer]:
    """A connection to a server at ``host:port``."""
    host, _, port = str(address).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
