"""How a client or a server is set up: every bound in one place, checked before anything opens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, fields
from typing import Any, Literal

from dragoman.options import MS_MAX, choice, flag, text, tls_context, whole
from dragoman.rpc.address import Address

MIB = 1 << 20
# What a frame's length can say, and a bytes object is likely to get.
BODY_BYTES_MOST = (1 << 31) - 1


def _check(options: Any, least: dict[str, tuple[int, int]]) -> None:
    """Numbers are whole and within bounds; raises UsageError that names the option."""
    for field in fields(options):
        bounds = least.get(field.name)
        value = getattr(options, field.name)
        if bounds is None or (value is None and field.name in ("timeout_ms",)):
            continue
        whole(field.name, value, *bounds)
    tls_context("tls", options.tls)


def held_bytes_max(buffers_bytes_max: int, body_bytes_max: int) -> int:
    """The bound of a budget that has room for two of the longest bodies in any case."""
    return max(buffers_bytes_max, 2 * body_bytes_max)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """See ``rpc.connect``."""

    address: Address
    timeout_ms: int | None = None
    on_full: Literal["fail", "wait"] = "wait"
    calls_max: int = 100_000
    bytes_max: int = 256 * MIB
    waiting_max: int = 100_000
    waiting_bytes_max: int = 256 * MIB
    buffers_bytes_max: int = 256 * MIB
    body_bytes_max: int = 64 * MIB
    heartbeat_ms: int = 5000
    reconnect: bool = True
    name: bytes = b"dragoman"
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None

    def __post_init__(self) -> None:
        _check(
            self,
            {
                "timeout_ms": (1, MS_MAX),
                "calls_max": (1, 1 << 24),
                "bytes_max": (1, 1 << 50),
                "waiting_max": (0, 1 << 30),
                "waiting_bytes_max": (0, 1 << 50),
                "buffers_bytes_max": (1, 1 << 50),
                "body_bytes_max": (0, BODY_BYTES_MOST),
                "heartbeat_ms": (20, 3_600_000),
            },
        )
        choice("on_full", self.on_full, ("fail", "wait"))
        flag("reconnect", self.reconnect)
        if self.server_hostname is not None:
            text("server_hostname", self.server_hostname)

    @property
    def held_bytes_max(self) -> int:
        """What may be held for servers: two of the longest bodies have room in any case."""
        return held_bytes_max(self.buffers_bytes_max, self.body_bytes_max)


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
        _check(
            self,
            {
                "limit": (1, 1 << 24),
                "bytes_max": (1, 1 << 50),
                "buffers_bytes_max": (1, 1 << 50),
                "clients_max": (1, 1 << 24),
                "body_bytes_max": (0, BODY_BYTES_MOST),
                "heartbeat_ms": (20, 3_600_000),
                "threads": (0, 10_000),
            },
        )
        flag("reuse_port", self.reuse_port)
