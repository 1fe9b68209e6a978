"""Real sockets for the tests of ``rpc``: the loops to run on, servers in processes of their own,
and peers that write and read plain bytes.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from dragoman.errors import ProtocolError
from dragoman.rpc import Client, Server
from dragoman.testing import at_rest
from dragoman.wire.mesh import KINDS, MeshDecoder
from tests.waiting import until

RUNNERS: dict[str, Callable[[Any], None]] = {"uvloop": uvloop.run, "asyncio": asyncio.run}

PROCESS = """
import asyncio, os, sys, uvloop
from dragoman import rpc

async def slow(body):
    await asyncio.sleep(float(body or b"0.05"))
    return b"%d" % os.getpid()

async def hang(body):
    await asyncio.sleep(3600)

async def main():
    functions = {"echo": lambda body: body, "slow": slow, "hang": hang}
    async with await rpc.serve(functions, sys.argv[1], reuse_port=True) as server:
        print(server.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

uvloop.run(main())
"""


@contextmanager
def server_process(address: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server in a process of its own, and its address. Closing its standard input drains it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


async def settle(*ends: Client | Server, within_s: float = 5.0) -> None:
    """Wait until nothing is outstanding at any of ``ends``; fail if that does not come about."""
    outstanding = ""

    def rested() -> bool:
        nonlocal outstanding
        try:
            at_rest(*ends)
        except AssertionError as error:
            outstanding = str(error)
            return False
        return True

    await until(rested, within_s, lambda: outstanding)


def rss_bytes() -> int:
    """This process's resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


class RawSocket:
    """A peer of plain bytes on a real socket."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.socket.setblocking(False)
        self.frames: list[tuple[int, int, int, int, int, bytes]] = []
        self.ended = False
        self._decoder = MeshDecoder()

    @classmethod
    async def connect(cls, server: Server) -> RawSocket:
        plain = socket.socket()
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, (server.address.host, server.address.port))
        return cls(plain)

    async def send(self, *frames: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, b"".join(frames))

    async def read(self, name: str, within_s: float = 5.0) -> tuple[Any, ...]:
        """The next frame of this type, passing over others; "END": the connection's end."""
        async with asyncio.timeout(within_s):
            seen = 0
            while True:
                for frame in self.frames[seen:]:
                    seen += 1
                    if frame[0] == KINDS.get(name):
                        self.frames = self.frames[seen:]
                        return frame
                if self.ended:
                    assert name == "END", f"no {name} before the end"
                    return ()
                try:
                    data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
                except ConnectionError:
                    data = b""
                self.ended = not data
                try:
                    self.frames += self._decoder.frames(data)
                except ProtocolError as error:
                    raise AssertionError(f"the session broke the format: {error}") from None

    def close(self) -> None:
        self.socket.close()


Work = Callable[[], Awaitable[None]]
