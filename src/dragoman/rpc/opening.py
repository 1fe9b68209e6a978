"""``connect`` and ``serve``: how programs come by clients and servers."""

from __future__ import annotations

import asyncio
import ssl
from typing import Literal

from dragoman.opening import opening
from dragoman.options import milliseconds
from dragoman.rpc.address import Address
from dragoman.rpc.client import Client
from dragoman.rpc.limits import MIB, Limits
from dragoman.rpc.options import ClientOptions, ServerOptions
from dragoman.rpc.server import Server
from dragoman.rpc.service import Handlers, functions_of
from dragoman.unclosed import watch

CONNECT_TIMEOUT_MS = 5000


@opening
async def connect(
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
) -> Client:
    """Connect to the server at ``address`` (``host:port`` or ``unix:/path``); close the client when
    done with it, or use it in ``async with``.

    - ``timeout_ms``: how long a call may take unless it says otherwise (None: as long as it likes).
    - ``on_full``: what becomes of a call that finds no room: it fails at once with OverloadError,
      or waits in line until there is room or its time has passed.
    - Room is the server's credits, and at most ``calls_max`` requests with ``bytes_max`` bytes of
      bodies unanswered. In line stand at most ``waiting_max`` calls with ``waiting_bytes_max``
      bytes; what comes on top fails with OverloadError.
    - ``buffers_bytes_max``: what has arrived in part, waits to be sent, or is kept of a batch until
      all of it has been answered; a reply or a request that finds no room fails with OverloadError.
      Two of the longest replies have room in any case. A reply that is whole is the caller's.
    - ``body_bytes_max``: the longest reply taken.
    - ``heartbeat_ms``: a server that is silent for two of these is given up.
    - ``reconnect``: connect again after a loss, with a backoff from 50 ms to 5 s; calls wait for
      it in line, or fail with ConnectError when ``on_full`` is "fail". Without it the client is
      closed by the loss. Calls that were under way fail with LinkLostError either way.
    - ``tls``: a client's ``ssl.SSLContext``; ``server_hostname``: the name to check the certificate
      against, if it is not the address's host.

    Raises ConnectError when no connection comes about within ``connect_timeout_ms``, OverloadError
    when the server has too many clients, ProtocolError when it does not speak the protocol,
    UsageError for options out of range.
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
    client = Client(asyncio.get_running_loop(), options)
    await client.start(connect_timeout_ms)
    watch(client)
    return client


@opening
async def serve(
    handler: Handlers,
    address: str | Address,
    *,
    limit: int = 10_000,
    bytes_max: int = 256 * MIB,
    buffers_bytes_max: int = 256 * MIB,
    clients_max: int = 100_000,
    body_bytes_max: int = 64 * MIB,
    heartbeat_ms: int = 5000,
    threads: int = 0,
    reuse_port: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Listen on ``address`` (``host:port``, port 0 for any; or ``unix:/path``) and answer with
    ``handler``; close the server when done with it, or use it in ``async with``.

    ``handler`` maps method names to functions, or is an object of a class that ``rpc.service``
    declared, or a list of such mappings and objects, or one function for every name. A function
    takes the request's body (bytes) and returns the reply's, or is a coroutine function that does.
    What it raises is the caller's error: a DragomanError as it is, anything else as RemoteError
    with the exception's type and text.

    - ``limit``: requests taken at once, over all clients; they share it fairly by demand.
    - ``bytes_max``: while the bodies in progress are more than this, clients that send more are not
      read.
    - ``clients_max``: connections at once; more are sent away.
    - ``buffers_bytes_max``: what has arrived in part, or waits to be sent, of all clients; a
      body that finds no room is refused with OverloadError. Two of the longest bodies have room in
      any case.
    - ``body_bytes_max``: the longest request taken.
    - ``heartbeat_ms``: a client that is silent for two of these is given up.
    - ``threads``: run plain functions on so many threads instead of on the loop, so that they may
      block; ``limit`` then bounds those that wait for a thread too.
    - ``reuse_port``: let several processes listen on one port.
    - ``tls``: a server's ``ssl.SSLContext``.

    Raises ConnectError when the address cannot be listened on, UsageError for options out of range.
    """
    options = ServerOptions(
        address=address if isinstance(address, Address) else Address.parse(address),
        limit=limit,
        buffers_bytes_max=buffers_bytes_max,
        bytes_max=bytes_max,
        clients_max=clients_max,
        body_bytes_max=body_bytes_max,
        heartbeat_ms=heartbeat_ms,
        threads=threads,
        reuse_port=reuse_port,
        tls=tls,
    )
    functions = functions_of(handler)
    server = Server(asyncio.get_running_loop(), functions, options)
    await server.start()
    watch(server)
    return server
