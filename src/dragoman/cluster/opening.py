"""``connect`` and ``serve``: how programs come by pools, and by servers that pools find."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from dragoman.balance.policies import POLICIES
from dragoman.cluster.member import Member
from dragoman.cluster.options import Options
from dragoman.cluster.peer import peers_of
from dragoman.cluster.pool import Pool
from dragoman.cluster.server import PROTOCOL, RegisteredServer
from dragoman.cluster.service import Service
from dragoman.errors import RegistryError, UnavailableError, UsageError
from dragoman.registry import Registration, Registry, format_address, open_registry
from dragoman.registry.base import parse_address
from dragoman.rpc.address import Address
from dragoman.rpc.opening import serve as listen
from dragoman.rpc.options import MIB, ClientOptions
from dragoman.rpc.server import Function

POLL_S = 0.002
# When enough servers are connected, how long the others are waited for, so that the first calls
# find them all.
SETTLE_S = 0.1
WEIGHT_MAX = 1_000_000
ANY_HOST = ("", "0.0.0.0", "::")


def _members(endpoints: Iterable[str | Address] | Mapping[str, float]) -> list[Member]:
    """The servers that ``endpoints`` names; raises UsageError."""
    if isinstance(endpoints, str):
        raise UsageError("endpoints: expected a list of addresses, or a dict of their weights")
    weights = endpoints if isinstance(endpoints, Mapping) else dict.fromkeys(endpoints, 1)
    members = []
    for address, weight in weights.items():
        parsed = address if isinstance(address, Address) else Address.parse(address)
        if type(weight) not in (int, float) or not 0 < weight <= WEIGHT_MAX:
            raise UsageError(f"endpoints: expected a weight up to {WEIGHT_MAX}, not {weight!r}")
        members.append(Member(str(parsed), weight))
    return members


async def connect(
    name: str,
    *,
    registry: str | Registry | None = None,
    endpoints: Iterable[str | Address] | Mapping[str, float] | None = None,
    group: str = "",
    version: str = "",
    policy: str = "demand",
    timeout_ms: int | None = None,
    on_full: Literal["fail", "wait"] = "wait",
    calls_max: int = 100_000,
    bytes_max: int = 256 * MIB,
    waiting_max: int = 100_000,
    waiting_bytes_max: int = 256 * MIB,
    buffers_bytes_max: int = 256 * MIB,
    body_bytes_max: int = 64 * MIB,
    heartbeat_ms: int = 5000,
    servers_min: int = 1,
    connect_timeout_ms: int = 5000,
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
    - ``timeout_ms``: how long a call may take unless it says otherwise (None: as long as it likes).
    - ``on_full``: what becomes of a call that finds no room, or no server: it fails at once with
      OverloadError or UnavailableError, or waits in line until there is room, or its time has
      passed.
    - Room is the servers' credits, and at most ``calls_max`` requests with ``bytes_max`` bytes of
      bodies unanswered. In line stand at most ``waiting_max`` calls with ``waiting_bytes_max``
      bytes; what comes on top fails with OverloadError.
    - ``buffers_bytes_max``: see ``rpc.connect``; of all pools on one loop together, the largest of
      what they say, since they share their connections.
    - ``body_bytes_max``, ``heartbeat_ms``, ``tls``, ``server_hostname``: see ``rpc.connect``.
    - ``servers_min``: return when so many servers are connected; 0: at once.

    Raises UnavailableError when so many servers are not connected within ``connect_timeout_ms``,
    RegistryError when the registry has not even answered, UsageError for options out of range.
    """
    if (registry is None) == (endpoints is None):
        raise UsageError("connect: expected either a registry or endpoints")
    if policy not in POLICIES:
        raise UsageError(f"policy: expected one of {', '.join(POLICIES)}, not {policy!r}")
    members = None if endpoints is None else _members(endpoints)
    # One check for what a client and a pool have in common.
    checked = ClientOptions(
        address=Address(host=name),
        timeout_ms=timeout_ms,
        on_full=on_full,
        calls_max=calls_max,
        bytes_max=bytes_max,
        waiting_max=waiting_max,
        waiting_bytes_max=waiting_bytes_max,
        buffers_bytes_max=buffers_bytes_max,
        body_bytes_max=body_bytes_max,
        heartbeat_ms=heartbeat_ms,
        tls=tls,
        server_hostname=server_hostname,
    )
    loop = asyncio.get_running_loop()
    # A server has one connection from here, whatever the number of pools that it is in.
    peers = peers_of(loop, checked.held_bytes_max)
    service = Service(
        loop,
        name.encode(),
        Options(
            policy=policy,
            queue_max=checked.waiting_max,
            body_bytes_max=checked.body_bytes_max,
            on_full=checked.on_full,
            calls_max=checked.calls_max,
            bytes_max=checked.bytes_max,
            waiting_bytes_max=checked.waiting_bytes_max,
            heartbeat_ms=checked.heartbeat_ms,
            identity=peers.identity,
            tls=tls,
            server_hostname=server_hostname,
            pings=True,
            peers=peers,
        ),
    )
    pool = Pool(loop, service, timeout_ms=timeout_ms)
    if registry is None:
        pool.update(members or ())
    else:
        _follow(pool, name, registry, group, version)
    try:
        await connected(pool, servers_min, connect_timeout_ms / 1000)
    except BaseException:
        await pool.close(drain_ms=0)
        raise
    return pool


def _follow(pool: Pool, name: str, registry: str | Registry, group: str, version: str) -> None:
    """Keep the pool's servers to those that the registry lists."""
    opened = open_registry(registry) if isinstance(registry, str) else registry

    def take_over(registrations: Sequence[Registration]) -> None:
        pool.update(
            [
                each
                for each in registrations
                if each.protocol in (PROTOCOL, "mesh")
                and (each.group, each.version) == (group, version)
            ]
        )

    watch = opened.watch(name, take_over)
    pool.unread(lambda: watch.why_unread)
    pool.on_close(watch.close if opened is registry else opened.close)


async def connected(pool: Pool, servers_min: int, timeout_s: float) -> None:
    """Return when enough servers are connected; see ``connect``, whose errors it raises."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    settled_s = None
    while servers_min:
        connected, connecting = pool.ready()
        now_s = loop.time()
        if connected >= servers_min:
            settled_s = settled_s or now_s + SETTLE_S
            if not connecting or now_s >= settled_s:
                return
        elif now_s >= until_s:
            within = f"within {timeout_s * 1000:g} ms"
            if not pool.known:
                raise RegistryError(f"no list of {pool.name} {within}: the registry is silent")
            why = "; ".join(f"{where}: {reason}" for where, reason in pool.reasons().items())
            raise UnavailableError(
                f"{connected} servers of {pool.name} connected {within}: {why or 'none is listed'}"
            )
        await asyncio.sleep(POLL_S)


async def serve(
    handler: Mapping[str, Function] | Function,
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
    **options: Any,
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
    - ``limit`` and the other ``options`` are those of ``rpc.serve``.

    Raises ConnectError when the address cannot be listened on, RegistryError when it is not
    registered in time, UsageError for options out of range, or an address that pools cannot reach.
    """
    wanted = address if isinstance(address, Address) else Address.parse(address)
    host, port = advertised(wanted, advertise)
    # Looked at before anything opens.
    Registration(interface=name, host=host, port=port or 1, weight=weight)
    opened = (
        open_registry(registry, lease_ttl_s=lease_ttl_s) if isinstance(registry, str) else registry
    )
    server = None
    try:
        server = await listen(handler, wanted, limit=limit, **options)
        registration = Registration(
            interface=name,
            host=host,
            port=port or server.address.port,
            weight=weight,
            limit=limit,
            protocol=PROTOCOL,
            serialization="",
            group=group,
            version=version,
            zone=zone,
        )
        handle = await opened.register(registration)
        registered = RegisteredServer(server, handle, None if opened is registry else opened)
        if register_timeout_ms:
            await handle.ready(register_timeout_ms / 1000)
    except BaseException:
        if server is not None:
            await server.close(drain_ms=0)
        if opened is not registry:
            await opened.close()
        raise
    return registered


def advertised(address: Address, advertise: str | None) -> tuple[str, int]:
    """The host and port to register, 0 for the port that is got; raises UsageError."""
    if advertise is not None:
        if advertise.rpartition(":")[2].isdigit() and not advertise.endswith("]"):
            return parse_address(advertise)
        return parse_address(format_address(advertise.strip("[]"), 1))[0], address.port
    if address.path or address.host in ANY_HOST:
        raise UsageError(f"advertise: expected a host, since nobody can connect to {address}")
    return address.host, address.port
