"""A Dubbo provider in plain Python that speaks real bytes, and the way to it, in one process.

``FakeProvider`` notes every request and answers with what ``answer`` returns. It shares no code
with what is tested: it packs and unpacks by itself.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from dragoman import rpc
from dragoman.dubbo.upstream.egress import Egress
from dragoman.dubbo.upstream.finding import Finding
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.flow.credits import CreditPool
from dragoman.rpc.server_session import ServerSession

HOST = "127.0.0.1"
HESSIAN2 = 2
FASTJSON = 6
OK = 20
POOL_EXHAUSTED = 100


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    flags: int
    status: int
    id: int
    body: bytes

    @property
    def two_way(self) -> bool:
        """Whether a reply is wanted."""
        return bool(self.flags & 0x40)

    @property
    def serialization(self) -> int:
        """The body's."""
        return self.flags & 0x1F

    def reply(self, body: bytes, *, status: int = OK, serialization: int | None = None) -> bytes:
        """The frame that answers this one."""
        flags = self.serialization if serialization is None else serialization
        return frame(self.id, body, status=status, flags=flags)


def frame(id: int, body: bytes, *, status: int = OK, flags: int = FASTJSON) -> bytes:
    """A frame's bytes."""
    return struct.pack(">HBBQI", 0xDABB, flags, status, id, len(body)) + body


def untimed(attachments: dict[str, Any]) -> dict[str, Any]:
    """Attachments without those that say how long the call may take, which must be there as Java's
    consumers write them: a text and a number.
    """
    rest = dict(attachments)
    said, left = rest.pop("timeout"), rest.pop("_TO")
    assert isinstance(said, str) and type(left) is int and str(left) == said and left > 0
    return rest


def untimed_body(body: bytes) -> bytes:
    """The same of a request's body in hessian2."""
    rest, count = re.subn(rb"\x07timeout[\x01-\x0a]\d+\x03_TOI.{4}", b"", body, flags=re.DOTALL)
    assert count == 1
    return rest


Answer = Callable[[Frame], bytes | Awaitable[bytes | None] | None]


class FakeProvider:
    """Listens on a free port from ``start`` to ``close``. ``answer`` gives the bytes to write for a
    request, or None for none; heartbeats are answered."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Frame] = []
        self.events: list[Frame] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.answers_heartbeats = True
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> FakeProvider:
        """Listen; ``port`` is then known."""
        self._server = await asyncio.start_server(self._serve, HOST, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readexactly(16)
                _, flags, status, id, length = struct.unpack(">HBBQI", head)
                asked = Frame(flags, status, id, await reader.readexactly(length))
                if flags & 0x20:
                    self.events.append(asked)
                    if asked.two_way and self.answers_heartbeats:
                        writer.write(frame(id, asked.body, flags=flags & 0x1F | 0x20))
                    continue
                self.requests.append(asked)
                task = asyncio.get_running_loop().create_task(self._answer(asked, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except (EOFError, OSError, asyncio.CancelledError):
            writer.transport.abort()

    async def _answer(self, asked: Frame, writer: asyncio.StreamWriter) -> None:
        answer = self.answer(asked)
        data = await answer if not isinstance(answer, bytes | None) else answer
        if data is not None:
            writer.write(data)


class Way:
    """A provider's agent's inside: mesh sessions in, Dubbo out."""

    def __init__(self, client: rpc.Client, egress: Egress, provider: FakeProvider) -> None:
        self.client = client
        self.egress = egress
        self.provider = provider

    async def call(self, method: str, body: bytes, timeout_ms: int = 2000) -> bytes:
        """A request by one of the mesh methods."""
        return cast(bytes, await self.client.call(method, body, timeout_ms=timeout_ms))


@asynccontextmanager
async def way(
    answer: Answer, *, limit: int = 20, finding: str = "", **options: Any
) -> AsyncIterator[Way]:
    """A fake provider with the egress before it, and a mesh client; all is at rest at the end.

    ``finding``: the interface by which it is found out what the provider speaks.
    """
    loop = asyncio.get_running_loop()
    provider = await FakeProvider(answer).start()
    link = DubboLink(loop, HOST, provider.port, lambda: None, count=1)
    pool = CreditPool(limit)
    egress = Egress(loop, link, pool, **options)
    if finding:
        link.greeter = Finding(egress, finding)
    sessions: set[ServerSession] = set()
    server = await loop.create_server(lambda: ServerSession(loop, egress, pool, sessions), HOST, 0)
    link.start()
    try:
        while not link.usable:
            await asyncio.sleep(0.001)
        port = server.sockets[0].getsockname()[1]
        async with await rpc.connect(f"{HOST}:{port}") as client:
            yield Way(client, egress, provider)
            async with asyncio.timeout(3):
                while egress.in_progress:
                    await asyncio.sleep(0.001)
    finally:
        server.close()
        for session in list(sessions):
            session.close()
        await link.close()
        await provider.close()
