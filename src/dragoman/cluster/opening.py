"""``connect`` and ``serve``: how programs come by pools, and by servers that pools find."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import structs

from dragoman.cluster.pool import Pool
from dragoman.cluster.pools import CONNECT_TIMEOUT_MS, PoolOptions, open_pool
from dragoman.cluster.server import PROTOCOL, RegisteredServer
from dragoman.errors import UsageError
from dragoman.opening import opening
from dragoman.options import milliseconds, text, whole
from dragoman.registry import Registration, Registry, format_address, open_registry
from dragoman.registry.base import check_registry
from dragoman.registry.names import parse_address
from dragoman.registry.url import LEASE_TTL_S_MAX
from dragoman.rpc.address import Address
from dragoman.rpc.limits import MIB, Limits
from dragoman.rpc.opening import serve as listen
from dragoman.rpc.service import Handlers
from dragoman.unclosed import unwatch, watch

ANY_HOST = ("", "0.0.0.0", "::")


@opening
async def connect(
    name: str,
    *,
    registry: str | Registry | None = None,
    endpoints: Iterable[str | Address] | Mapping[str, float] | None = None,
    group: str = "",
    version: str = "",
    policy: str = "demand",
    timeout_ms: int | None = Limits.timeout_ms,
    on_full: Literal["fail", "wait"] = "wait",
    calls_max: int = Limits.calls_max,
    bytes_max: int = Limits.bytes_max,
    waiting_max: int = Limits.waiting_max,
    waiting_bytes_max: int = Limits.waiting_bytes_max,
    buffers_bytes_max: int = Limits.buffers_bytes_max,
    body_bytes_max: int = Limits.body_bytes_max,
    heartbeat_ms: int = Limits.heartbeat_ms,
    servers_min: int = 1,
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
) -> Pool:
    """Connect to all servers of the service ``name``; close the pool when done with it, or use it
    in ``async with``.

    - The servers are those that ``registry`` lists now and from then on: a URL (``etcd://...``,
      ``static://...``), or an open Registry, which stays the caller's. Or they are ``endpoints``:
      addresses (``host:port`` or ``unix:/path``), or a dict of addresses with weights; ``name`` is
      then only what the pool is called.
    - ``group``, ``version``: of the registered servers only those with these.
    - ``policy``: who gets the next call, one of ``balance.policies.POLICIES``.
    - ``on_full``: what becomes of a call that finds no room, or no server: it fails at once with
      OverloadError or UnavailableError, or waits in line until there is room, or its time has
      passed.
    - ``timeout_ms``, ``calls_max``, ``bytes_max``, ``waiting_max``, ``waiting_bytes_max``: see
      ``rpc.connect``; of all servers together.
    - ``buffers_bytes_max``: see ``rpc.connect``; of all pools on one loop together, the largest of
      what they say, since they share their connections.
    - ``body_bytes_max``, ``heartbeat_ms``, ``tls``, ``server_hostname``: see ``rpc.connect``.
    - ``servers_min``: return when so many servers are connected; 0: at once.

    Raises UnavailableError when so many servers are not connected within ``connect_timeout_ms``,
    RegistryError when the registry has not even answered, UsageError for options out of range.
    """
    options = PoolOptions(
        name=name,
        registry=registry,
        endpoints=endpoints,
        group=group,
        version=version,
        policy=policy,
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
        servers_min=servers_min,
        connect_timeout_ms=connect_timeout_ms,
        tls=tls,
        server_hostname=server_hostname,
    )
    pool = await open_pool(options)
    watch(pool)
    return pool


@opening
async def serve(
    handler: Handlers,
    address: str | Address,
    *,
    name: str,
    registry: str | Registry,
    advertise: str | None = None,
    weight: int = 1,
    group: str = "",
    version: str = "",
    zone: str = "",
    lease_ttl_s: int = 10,
    register_timeout_ms: int = 5000,
    limit: int = 10_000,
    bytes_max: int = 256 * MIB,
    buffers_bytes_max: int = 256 * MIB,
    clients_max: int = 100_000,
    body_bytes_max: int = 64 * MIB,
    heartbeat_ms: int = 5000,
    threads: int = 0,
    reuse_port: bool = False,
    tls: ssl.SSLContext | None = None,
) -> RegisteredServer:
    """``rpc.serve``, registered as a server of ``name`` where pools find it; close it when done
    with it, or use it in ``async with``: it is then deregistered, and drained.

    - ``registry``: a URL (``etcd://...``), or an open Registry, which stays the caller's.
    - ``advertise``: the ``host`` or ``host:port`` to register, if it is not where it listens.
    - ``weight``: its capacity compared with the other servers'; ``group``, ``version``, ``zone``:
      see ``docs/registry.md``.
    - ``lease_ttl_s``: how long it is listed after its process has died.
    - ``register_timeout_ms``: how long to wait until it is registered; 0: not at all, it is
      registered as soon as the registry answers.
    - ``limit`` and what follows are those of ``rpc.serve``.

    Raises ConnectError when the address cannot be listened on, RegistryError when it is not
    registered in time, UsageError for options out of range, or an address that pools cannot reach.
    """
    wanted = address if isinstance(address, Address) else Address.parse(address)
    # Looked at before anything opens.
    registration, port = _registration(
        name, wanted, advertise, weight=weight, group=group, version=version, zone=zone
    )
    check_registry("registry", registry)
    whole("lease_ttl_s", lease_ttl_s, 1, LEASE_TTL_S_MAX)
    milliseconds("register_timeout_ms", register_timeout_ms)
    opened = (
        open_registry(registry, lease_ttl_s=lease_ttl_s) if isinstance(registry, str) else registry
    )
    server = None
    try:
        server = await listen(
            handler,
            wanted,
            limit=limit,
            bytes_max=bytes_max,
            buffers_bytes_max=buffers_bytes_max,
            clients_max=clients_max,
            body_bytes_max=body_bytes_max,
            heartbeat_ms=heartbeat_ms,
            threads=threads,
            reuse_port=reuse_port,
            tls=tls,
        )
        handle = await opened.register(
            structs.replace(registration, port=port or server.address.port, limit=limit)
        )
        registered = RegisteredServer(server, handle, None if opened is registry else opened)
        if register_timeout_ms:
            await handle.ready(register_timeout_ms / 1000)
    except BaseException:
        if server is not None:
            await server.close(drain_ms=0)
        if opened is not registry:
            await opened.close()
        raise
    unwatch(server)
    watch(registered)
    return registered


def _registration(
    name: str,
    address: Address,
    advertise: str | None,
    *,
    weight: int,
    group: str,
    version: str,
    zone: str,
) -> tuple[Registration, int]:
    """What to register and the port, 0 for the one that is got; raises UsageError."""
    text("name", name, empty=False)
    for option, label in (("group", group), ("version", version), ("zone", zone)):
        text(option, label)
    host, port = advertised(address, advertise)
    registration = Registration(
        interface=name,
        host=host,
        port=port or 1,
        weight=weight,
        protocol=PROTOCOL,
        serialization="",
        group=group,
        version=version,
        zone=zone,
    )
    return registration, port


def advertised(address: Address, advertise: str | None) -> tuple[str, int]:
    """The host and port to register, 0 for the port that is got; raises UsageError."""
    if advertise is not None:
        text("advertise", advertise, empty=False)
        try:
            return _host_and_port(address, advertise)
        except UsageError as error:
            raise UsageError(f"advertise: {error}") from None
    if address.path or address.host in ANY_HOST:
        raise UsageError(f"advertise: expected a host, since nobody can connect to {address}")
    return address.host, address.port


def _host_and_port(address: Address, advertise: str) -> tuple[str, int]:
    if advertise.rpartition(":")[2].isdigit() and not advertise.endswith("]"):
        return parse_address(advertise)
    return parse_address(format_address(advertise.strip("[]"), 1))[0], address.port
