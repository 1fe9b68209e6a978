"""The prototype: an RPC on uvloop in pure Python, as fast as honest pure Python gets.

What the library is compared with: the same idea (many calls on one connection, replies matched by
id, one write a turn), without names, deadlines, credits, errors or bounds. A frame, either way:

    offset  bytes  what
    0       4      length of the body, little-endian
    4       4      id of the call, little-endian
    8       ...    the body

The invariant: a call's future or callback gets the reply with its id, whatever pieces it came in.

Written out like this it is as fast as with everything in closures, with header and body joined into
one piece, or reading into a buffer of its own (``BufferedProtocol``): what awaiting costs is
asyncio's tasks and futures.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from struct import Struct
from typing import Any, cast

from dragoman.bench.rpc.contestant import HOST, AsyncContestant

_HEADER = Struct("<II")
_pack = _HEADER.pack
_unpack_from = _HEADER.unpack_from
_HEADER_BYTES = _HEADER.size


class _Framed(asyncio.Protocol):
    """Cuts what comes into frames, gathers what goes until the end of the turn."""

    __slots__ = ("_have", "_loop", "_need", "_out", "_parts", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._out: list[bytes] = []
        self._parts: list[bytes] = []  # the pieces of an unfinished frame
        self._have = 0
        self._need = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        end = len(data)
        start = self._frames(data, end)
        if start < end:
            self._parts.append(data[start:])
            self._have = end - start
            self._need = _HEADER_BYTES
            if self._have >= _HEADER_BYTES:
                self._need += _unpack_from(data, start)[0]

    def _frames(self, data: bytes, end: int) -> int:
        """Handle every whole frame; returns where the first unfinished one starts."""
        raise NotImplementedError

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()


class Client(_Framed):
    """The calling end of one connection."""

    __slots__ = ("_id", "_pending")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._id = 0
        # A future, or what takes the reply.
        self._pending: dict[int, Any] = {}

    def call(self, _method: str, body: bytes, /) -> Future[bytes]:
        """One call; the future may be awaited."""
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        self._id = ident = (self._id + 1) & 0xFFFFFFFF
        out.append(_pack(len(body), ident))
        out.append(body)
        self._pending[ident] = future = self._loop.create_future()
        return future

    def call_soon(
        self, _method: str, body: bytes, callback: Callable[[bytes, None], object], /
    ) -> None:
        """One call that ends in ``callback(reply, None)``."""
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        self._id = ident = (self._id + 1) & 0xFFFFFFFF
        out.append(_pack(len(body), ident))
        out.append(body)
        self._pending[ident] = callback

    def _frames(self, data: bytes, end: int) -> int:
        pop = self._pending.pop
        start = 0
        body = _HEADER_BYTES
        while body <= end:
            length, ident = _unpack_from(data, start)
            stop = body + length
            if stop > end:
                break
            waiting = pop(ident)
            if type(waiting) is not Future:
                waiting(data[body:stop], None)
            elif not waiting.done():
                waiting.set_result(data[body:stop])
            start = stop
            body = stop + _HEADER_BYTES
        return start

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class Server(_Framed):
    """The answering end of one connection: ``handler`` makes a reply of a body."""

    __slots__ = ("_handler",)

    def __init__(self, loop: asyncio.AbstractEventLoop, handler: Callable[[bytes], bytes]) -> None:
        super().__init__(loop)
        self._handler = handler

    def _frames(self, data: bytes, end: int) -> int:
        handler = self._handler
        out = self._out
        append = out.append
        idle = not out
        start = 0
        body = _HEADER_BYTES
        while body <= end:
            length, ident = _unpack_from(data, start)
            stop = body + length
            if stop > end:
                break
            reply = handler(data[body:stop])
            append(_pack(len(reply), ident))
            append(reply)
            start = stop
            body = stop + _HEADER_BYTES
        if idle and out:
            self._loop.call_soon(self._flush)
        return start


def echo(body: bytes) -> bytes:
    """The handler."""
    return body


class Prototype(AsyncContestant):
    """See the module."""

    name = "prototype"
    title = "prototype, pure Python"
    styles = frozenset({"await", "soon", "lone", "idle"})

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Server(loop, echo), HOST, 0, backlog=1024)
        ready(f"{HOST}:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    async def connect(self, address: str) -> Client:
        """See ``AsyncContestant``."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(loop), host, int(port))
        return client
