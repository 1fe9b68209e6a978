"""Where a server listens: a TCP host and port, or the path of a Unix socket.

Written ``host:port``, ``[v6-address]:port``, ``tcp://host:port`` or ``unix:/path``. Used by
``rpc.link``, ``rpc.client`` and ``rpc.server``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dragoman.accepting import TLS_HANDSHAKE_S, Acceptor, listen, listen_unix
from dragoman.errors import UsageError
from dragoman.options import shown


@dataclass(frozen=True, slots=True)
class Address:
    """Either ``host`` and ``port``, or ``path``."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; raises UsageError that says what was expected."""
        if not isinstance(text, str):
            raise UsageError(f"address: expected text, not {shown(text)}")
        if text.startswith("unix:"):
            path = text.removeprefix("unix:").removeprefix("//")
            if not path or "\0" in path or len(path.encode()) > 107:
                raise UsageError(f"address {shown(text)}: expected unix:/path of at most 107 bytes")
            return cls(path=path)
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise UsageError(f"address {shown(text)}: an IPv6 address stands in brackets")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
            raise UsageError(f"address {shown(text)}: expected host:port or unix:/path")
        return cls(host=host, port=int(port))

    async def connect(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> asyncio.BaseTransport:
        """A connection with a protocol of ``factory``; raises OSError."""
        options: dict[str, Any] = {}
        if tls is not None:
            options = {"ssl": tls, "ssl_handshake_timeout": TLS_HANDSHAKE_S}
            if server_hostname is not None:
                options["server_hostname"] = server_hostname
        try:
            if self.path:
                transport, _ = await loop.create_unix_connection(factory, self.path, **options)
            else:
                transport, _ = await loop.create_connection(
                    factory, self.host, self.port, **options
                )
        except ConnectionResetError:
            if tls is None:
                raise
            # Who speaks no TLS ends the connection at its first bytes.
            raise ssl.SSLError("the other end closed the connection in the handshake") from None
        return transport

    async def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.BaseProtocol],
        tls: ssl.SSLContext | None = None,
        *,
        backlog: int = 4096,
        reuse_port: bool = False,
    ) -> tuple[Acceptor | asyncio.Server, Address]:
        """Listen; the address returned has the port that was chosen for port 0. Raises OSError."""
        if self.path:
            return await listen_unix(loop, factory, self.path, backlog=backlog, tls=tls), self
        server = await listen(
            loop, factory, self.host, self.port, backlog=backlog, tls=tls, reuse_port=reuse_port
        )
        return server, Address(host=self.host, port=server.sockets[0].getsockname()[1])
