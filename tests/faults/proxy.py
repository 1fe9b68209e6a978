"""A TCP proxy that treats what passes badly: piece by piece, late, not at all, or reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Forwards connections to ``port``. Its attributes may be changed while it runs.

    ``piece_bytes`` is the most that is written at once (0: as it came), each piece in a packet of
    its own. While ``held`` nothing passes.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.piece_bytes = 0
        self.accepted = 0
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Let nothing pass any more, silently."""
        self._flows.clear()

    def release(self) -> None:
        """Let everything pass again."""
        self._flows.set()

    def reset_all(self) -> None:
        """End every connection with a RST on both sides."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        """Stop."""
        if self._server is not None:
            self._server.close()
        self.reset_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(back)
        for source, to in ((reader, back), (there, writer)):
            to.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = asyncio.ensure_future(self._pump(source, to))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._flows.wait()
                step = self.piece_bytes or len(data)
                for start in range(0, len(data), step):
                    to.write(data[start : start + step])
                    await to.drain()
                    if step < len(data):
                        # The loop turns, so that the other side can read this piece alone.
                        await asyncio.sleep(0)
        to.transport.abort()


@asynccontextmanager
async def proxy(to: int, *, piece_bytes: int = 0, port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy for the length of a block."""
    made = Proxy(to)
    made.piece_bytes = piece_bytes
    await made.start(port)
    try:
        yield made
    finally:
        await made.close()
