"""A peer: ``pyzmq`` on asyncio, DEALER to ROUTER, an id in a frame of its own.

Optional: the package ``pyzmq``. The invariant: as everywhere, a reply finds its call by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dragoman.bench.rpc.contestant import HOST, AsyncContestant


class ZmqClient:
    """See ``Connection``."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._id = 0
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def call(self, _method: str, body: bytes, /) -> bytes:
        """One call."""
        self._id = number = (self._id + 1) & 0xFFFFFFFF
        ident = number.to_bytes(4, "little")
        self._pending[ident] = future = asyncio.get_running_loop().create_future()
        await self._socket.send_multipart((ident, body))
        reply: bytes = await future
        return reply

    async def _read(self) -> None:
        while True:
            ident, body = await self._socket.recv_multipart()
            self._pending.pop(ident).set_result(body)

    async def close(self) -> None:
        """Close the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._socket.close(0)


class PeerZmq(AsyncContestant):
    """See the module."""

    name = "zmq"
    title = "pyzmq asyncio"
    styles = frozenset({"await", "lone"})

    def missing(self) -> str | None:
        """See ``Contestant``."""
        return None if find_spec("zmq") else "pyzmq is not installed"

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        socket = _socket("ROUTER")
        port = socket.bind_to_random_port(f"tcp://{HOST}")
        ready(f"{HOST}:{port}")
        while True:
            # The caller's name, the call's id, the body: all go back as they came.
            await socket.send_multipart(await socket.recv_multipart())

    async def connect(self, address: str) -> ZmqClient:
        """See ``AsyncContestant``."""
        socket = _socket("DEALER")
        socket.connect(f"tcp://{address}")
        return ZmqClient(socket)


def _socket(kind: str) -> Any:
    zmq: Any = import_module("zmq")
    socket = import_module("zmq.asyncio").Context.instance().socket(getattr(zmq, kind))
    # Its default bound of 1,000 messages would drop replies of the ROUTER.
    socket.set_hwm(0)
    return socket
