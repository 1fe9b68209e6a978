"""JSON calls that the ingress begins in place: told apart from others by their time alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman.agent.ingress.limits import Limits
from dragoman.agent.ingress.requests import IngressConnection
from dragoman.agent.ingress.shared import Ingress
from dragoman.agent.published import Signature
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import Options
from dragoman.cluster.service import Service


class Sink(asyncio.Transport):
    """What a client would read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = b""

    def write(self, data: Any) -> None:
        self.read += bytes(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def answers(bodies: list[bytes], path: str, fields: str) -> tuple[list[bytes], list[Any]]:
    """Status line and error of each response, and what the types were asked of; ``a.Known`` has a
    service without servers."""

    async def scenario() -> tuple[list[bytes], list[Any]]:
        loop = asyncio.get_running_loop()
        options = Options(on_full="fail", queue_max=1)
        directory = Directory(loop, options)
        directory.complete()
        for key in (b"a.Known", b"g/a.Known:1.0"):
            directory.services[key] = Service(loop, key, options)
        asked: list[Any] = []

        def published(*names: Any) -> Signature | None:
            asked.append(names)
            return None

        ingress = Ingress(loop, directory, Limits(), published)
        found = []
        for body in bodies:
            sink = Sink()
            connection = IngressConnection(ingress)
            connection.connection_made(sink)
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}"
            connection.data_received(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await asyncio.sleep(0)
            lines = sink.read.split(b"\r\n")
            found.append(b"\n".join(line for line in lines if not line.startswith(b"date")))
            connection.connection_lost(None)
        await directory.close()
        return found, asked

    return asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/a.Known/m", "/a.Unknown/m", "/a.B", "/a b/m", "/a.Known/m%20"])
@pytest.mark.parametrize(
    "fields",
    ["", "x-dragoman-group: g\r\nx-dragoman-version: 1.0\r\n", "x-dragoman-group: g/h\r\n"],
)
@pytest.mark.parametrize(
    "call",
    [
        {"args": ["x"]},
        {"args": [], "oneway": True},
        {"types": ["java.lang.String"], "args": ["{"]},
        {"types": ["a.User"], "args": [{"a": 1}], "group": "g", "version": "1.0"},
        {"types": ["int"], "args": [1], "group": "g,*", "envelope": True},
        {"types": ["int"], "args": [1], "version": "?"},
        {"types": ["int"], "args": [1], "fields": {}},
    ],
)
def test_a_usual_call_is_answered_as_any_other(
    path: str, fields: str, call: dict[str, Any]
) -> None:
    usual = json.dumps(call).encode()
    other = json.dumps({**call, "generic": None}).encode()
    (one, two), asked = answers([usual, other], path, fields)
    assert one == two
    assert one.startswith(b"HTTP/1.1 ")
    assert asked[: len(asked) // 2] == asked[len(asked) // 2 :]
