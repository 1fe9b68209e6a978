"""A TCP proxy in front of etcd whose connections can be cut, refused or frozen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class _Pair:
    """One client's connection and the one to etcd behind it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.is_watch = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    def cut(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """``port`` leads to ``target_port`` as long as nothing is broken."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._pairs: set[_Pair] = set()
        self.port = 0
        self.refusing = False
        self.frozen = False
        self.accepted_total = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def refuse(self) -> None:
        """Cut every connection and every new one at once."""
        self.refusing = True
        for pair in list(self._pairs):
            pair.cut()

    def heal(self) -> None:
        """Let new connections through, and frozen ones flow again."""
        self.refusing = self.frozen = False
        for pair in self._pairs:
            pair.flowing.set()

    def freeze_watches(self) -> int:
        """Hold back what etcd sends on connections that carry a watch now; how many those are."""
        watches = [pair for pair in self._pairs if pair.is_watch]
        for pair in watches:
            pair.flowing.clear()
        return len(watches)

    def freeze_all(self) -> None:
        """Hold back all that etcd sends, on new connections as well."""
        self.frozen = True
        for pair in self._pairs:
            pair.flowing.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_total += 1
        if self.refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(
                "127.0.0.1", self._target_port
            )
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, server_writer)
        self._pairs.add(pair)
        if self.frozen:
            pair.flowing.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, pair))
                group.create_task(self._down(server_reader, pair))
        finally:
            self._pairs.discard(pair)

    async def _up(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if b"POST /v3/" in data:
                    pair.is_watch = b"POST /v3/watch" in data
                pair.server.write(data)
                await pair.server.drain()
        pair.cut()

    async def _down(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await pair.flowing.wait()
                pair.client.write(data)
                await pair.client.drain()
        pair.cut()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy to ``port`` of 127.0.0.1, open until the end of the block."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.heal()
        proxy.refuse()
        await asyncio.sleep(0.01)
