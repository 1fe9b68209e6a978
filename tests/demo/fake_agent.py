"""A consumer agent for tests: an asyncio server that hashes the form, or misbehaves as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from dragoman.demo.question import hash_code
from dragoman.wire.http1 import Request, RequestDecoder, encode_response
from dragoman.wire.http1.form import known_fields

NAMES = (b"interface", b"method", b"parameterTypesString", b"parameter")

CLOSE = b"close"
"""What an ``answer`` returns to close the connection instead of answering."""


def right(parameter: bytes) -> bytes:
    """The right answer."""
    return encode_response(200, body=b"%d" % hash_code(parameter), content_type="text/plain")


class FakeAgent:
    """Counts what it sees; ``answer`` makes the bytes of each answer, None for none at all."""

    def __init__(self) -> None:
        self.port = 0
        self.answer: Callable[[bytes], bytes | None] = right
        self.delay_s = 0.0
        self.connections: list[asyncio.Transport] = []
        self.requests: list[Request] = []
        self.parameters: list[bytes] = []
        self.under_way = 0
        self.under_way_max = 0
        self.used: list[int] = []
        self.asked = asyncio.Event()


class _Connection(asyncio.Protocol):
    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.decoder = RequestDecoder()
        self.index = len(agent.connections)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of this class
        self.agent.connections.append(self.transport)

    def data_received(self, data: bytes) -> None:
        self.decoder.receive_data(data)
        while (request := self.decoder.poll()) is not None:
            agent = self.agent
            agent.requests.append(request)
            agent.used.append(self.index)
            agent.asked.set()
            parameter = known_fields(request.body, NAMES)[3] or b""
            agent.parameters.append(parameter)
            agent.under_way += 1
            agent.under_way_max = max(agent.under_way_max, agent.under_way)
            asyncio.get_running_loop().call_later(agent.delay_s, self.reply, parameter)

    def reply(self, parameter: bytes) -> None:
        self.agent.under_way -= 1
        data = self.agent.answer(parameter)
        if data == CLOSE:
            self.transport.close()
        elif data is not None and not self.transport.is_closing():
            self.transport.write(data)


@asynccontextmanager
async def fake_agent(port: int = 0) -> AsyncIterator[FakeAgent]:
    """A fake agent, on a free port unless one is given."""
    agent = FakeAgent()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(agent), "127.0.0.1", port
    )
    agent.port = server.sockets[0].getsockname()[1]
    try:
        yield agent
    finally:
        server.close()
        for transport in agent.connections:
            transport.abort()
        await server.wait_closed()
