"""How a client or a server is set up: every bound in one place, checked before anything opens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from dragoman.options import choice, flag, text, tls_context, whole
from dragoman.rpc.address import Address
from dragoman.rpc.limits import BOUNDS, MIB, Limits


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """See ``rpc.connect``."""

    address: Address
    limits: Limits = field(default_factory=Limits)
    reconnect: bool = True
    name: bytes = b"dragoman"
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None

    def __post_init__(self) -> None:
        choice("on_full", self.limits.on_full, ("fail", "wait"))
        flag("reconnect", self.reconnect)
        tls_context("tls", self.tls)
        if self.server_hostname is not None:
            text("server_hostname", self.server_hostname)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """See ``rpc.serve``."""

    address: Address
    limit: int = 10_000
    bytes_max: int = 256 * MIB
    buffers_bytes_max: int = 256 * MIB
    clients_max: int = 100_000
    body_bytes_max: int = 64 * MIB
    heartbeat_ms: int = 5000
    threads: int = 0
    reuse_port: bool = False
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        whole("limit", self.limit, 1, 1 << 24)
        whole("clients_max", self.clients_max, 1, 1 << 24)
        whole("threads", self.threads, 0, 10_000)
        for name in ("bytes_max", "buffers_bytes_max", "body_bytes_max", "heartbeat_ms"):
            whole(name, getattr(self, name), *BOUNDS[name])
        flag("reuse_port", self.reuse_port)
        tls_context("tls", self.tls)
