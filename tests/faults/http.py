"""HTTP as a client writes it by hand: any bytes out, whole responses in, one at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote_plus

from dragoman.demo.javahash import java_hash

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
WAIT_S = 15.0


@dataclass(frozen=True)
class Response:
    """A response, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """``x-dragoman-error``."""
        return self.headers.get("x-dragoman-error", "")

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends."""
        return self.headers.get("connection", "").lower() == "close"


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)

    async def response(self, *, head_only: bool = False, timeout_s: float = WAIT_S) -> Response:
        """The next response. EOFError or OSError when the connection ends instead."""
        async with asyncio.timeout(timeout_s):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            pairs = [line.partition(":") for line in lines[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            status = int(lines[0].split(" ")[1])
            assert lines[0].startswith("HTTP/1.1 ")
            length = 0 if status == 100 or head_only else int(headers["content-length"])
            return Response(status, headers, await self.reader.readexactly(length))

    async def ends(self, timeout_s: float = WAIT_S) -> None:
        """The peer has closed and sent nothing more."""
        async with asyncio.timeout(timeout_s):
            assert await self.reader.read() == b""

    async def ask(self, data: bytes) -> Response:
        """Send, and read one response."""
        self.send(data)
        return await self.response()

    def reset(self) -> None:
        """Leave with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@asynccontextmanager
async def client(port: int, *, receive_bytes: int = 0) -> AsyncIterator[Client]:
    """A connection to ``port``; ``receive_bytes`` makes its kernel buffer that small."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit = 1 << 20 if not receive_bytes else 4096
        reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
    except BaseException:
        sock.close()
        raise
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def exchange(port: int, method: str, target: str) -> Response:
    """One request without a body on a connection of its own."""
    async with client(port) as one:
        return await one.ask(f"{method} {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode())


def post(
    target: str, body: bytes, *fields: str, kind: str = "", version: str = "1.1", host: str = "t"
) -> bytes:
    """A POST with Content-Length."""
    lines = [f"POST {target} HTTP/{version}", f"Host: {host}", *fields]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def form_body(parameter: str = "", method: str = "hash") -> bytes:
    """The contest's form."""
    return (
        f"interface={INTERFACE}&method={method}"
        f"&parameterTypesString=Ljava%2Flang%2FString%3B&parameter={quote_plus(parameter)}"
    ).encode()


def form(parameter: str = "", *fields: str, method: str = "hash", version: str = "1.1") -> bytes:
    """A request by the contest's contract."""
    kind = "application/x-www-form-urlencoded"
    return post("/", form_body(parameter, method), *fields, kind=kind, version=version)


def call(method: str, body: bytes, *fields: str, interface: str = INTERFACE) -> bytes:
    """A request by the JSON contract."""
    return post(f"/{interface}/{method}", body, *fields, kind="application/json")


def is_hash(response: Response, text: str) -> bool:
    """Whether the response is the right answer to ``form(text)``."""
    return response.status == 200 and response.body == str(java_hash(text)).encode()
