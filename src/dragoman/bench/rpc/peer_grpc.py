"""A peer: ``grpc.aio``, a unary echo through generic handlers of bytes, without generated code.

Optional: the package ``grpcio``. The invariant: one channel is one HTTP/2 connection, so that
``--connections`` means the same as elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dragoman.bench.rpc.contestant import HOST, AsyncContestant

_METHOD = "/dragoman.Bench/echo"
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # or all channels would share one connection
]


class GrpcClient:
    """See ``Connection``."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._echo: Callable[[bytes], Awaitable[bytes]] = channel.unary_unary(_METHOD)

    def call(self, _method: str, body: bytes, /) -> Awaitable[bytes]:
        """One call."""
        return self._echo(body)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


async def _echo(body: bytes, _: Any) -> bytes:
    return body


class PeerGrpc(AsyncContestant):
    """See the module."""

    name = "grpc"
    title = "grpc.aio"
    styles = frozenset({"await", "lone"})

    def missing(self) -> str | None:
        """See ``Contestant``."""
        return None if find_spec("grpc") else "grpcio is not installed"

    async def serve(self, ready: Callable[[str], None]) -> None:
        """See ``AsyncContestant``."""
        grpc: Any = import_module("grpc")
        server = import_module("grpc.aio").server(options=_OPTIONS)
        handler = grpc.unary_unary_rpc_method_handler(_echo)
        service = grpc.method_handlers_generic_handler("dragoman.Bench", {"echo": handler})
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        ready(f"{HOST}:{port}")
        await server.wait_for_termination()

    async def connect(self, address: str) -> GrpcClient:
        """See ``AsyncContestant``."""
        channel = import_module("grpc.aio").insecure_channel(address, options=_OPTIONS)
        async with asyncio.timeout(10):
            await channel.channel_ready()
        return GrpcClient(channel)
