"""The synchronous client: blocking calls from any thread over one connection.

``connect_sync`` makes one. A ``Client`` lives on a loop of its own in a thread of its own (a
daemon, see ``rpc.loop_thread``).

Invariants: every call ends once, at the latest when the client is closed; the thread ends with
``close``, with the last reference to the client, or with the interpreter.
"""

from __future__ import annotations

import ssl
from typing import Literal

from dragoman.forking import foreign
from dragoman.options import milliseconds
from dragoman.rpc.address import Address
from dragoman.rpc.blocking import BlockingCalls
from dragoman.rpc.client import Client
from dragoman.rpc.limits import Limits
from dragoman.rpc.loop_thread import LoopThread
from dragoman.rpc.opening import CONNECT_TIMEOUT_MS
from dragoman.rpc.options import ClientOptions
from dragoman.rpc.statistics import ClientStatistics
from dragoman.rpc.tick import tick_of


def connect_sync(
    address: str | Address,
    *,
    timeout_ms: int | None = Limits.timeout_ms,
    on_full: Literal["fail", "wait"] = "wait",
    calls_max: int = Limits.calls_max,
    bytes_max: int = Limits.bytes_max,
    waiting_max: int = Limits.waiting_max,
    waiting_bytes_max: int = Limits.waiting_bytes_max,
    buffers_bytes_max: int = Limits.buffers_bytes_max,
    body_bytes_max: int = Limits.body_bytes_max,
    heartbeat_ms: int = Limits.heartbeat_ms,
    reconnect: bool = True,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> SyncClient:
    """Connect to the server at ``address`` for blocking calls from any thread; close the client
    when done with it, or use it in ``with``.

    The options are those of ``connect``, and so are the errors raised.
    """
    options = ClientOptions(
        address=address if isinstance(address, Address) else Address.parse(address),
        limits=Limits(
            timeout_ms=timeout_ms,
            on_full=on_full,
            calls_max=calls_max,
            bytes_max=bytes_max,
            waiting_max=waiting_max,
            waiting_bytes_max=waiting_bytes_max,
            buffers_bytes_max=buffers_bytes_max,
            body_bytes_max=body_bytes_max,
            heartbeat_ms=heartbeat_ms,
        ),
        reconnect=reconnect,
        tls=tls,
        server_hostname=server_hostname,
    )
    milliseconds("connect_timeout_ms", connect_timeout_ms)
    return SyncClient(options, connect_timeout_ms)


class SyncClient(BlockingCalls[Client]):
    """A connection to a server for blocking calls; get one from ``rpc.connect_sync``. Thread-safe.

    After a fork it belongs to the parent: in the child every call raises UsageError, and the child
    connects anew.
    """

    def __init__(self, options: ClientOptions, connect_timeout_ms: int) -> None:
        self.address = options.address
        self._start(
            LoopThread(str(options.address), lambda loop, create: Client(loop, options, create)),
            connect_timeout_ms,
        )

    def statistics(self) -> ClientStatistics:
        """The client's counters now."""
        if tick_of(self._core.loop).foreign:
            raise foreign(f"the client of {self.address}")
        return self._core.client.statistics()

    def __repr__(self) -> str:
        state = "closed" if self.closed else self._core.client._told()
        return f"<SyncClient {self.address}, {state}>"

    @property
    def closed(self) -> bool:
        """Whether the client has been closed, or has lost its only connection."""
        return self._core.closed or self._core.client.closed
