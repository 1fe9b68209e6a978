"""How a pool is made: its options, the servers it follows, and the waiting for the first of them.

``cluster.opening`` makes pools on the caller's loop, ``cluster.sync`` on one in a thread.

Invariant: options are checked before anything opens; a pool that does not come about leaves nothing
open.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dragoman.balance.policies import POLICIES
from dragoman.cluster.member import Member
from dragoman.cluster.options import Options
from dragoman.cluster.peer import peers_of
from dragoman.cluster.pool import Pool
from dragoman.cluster.server import PROTOCOL
from dragoman.cluster.service import Service
from dragoman.errors import RegistryError, UnavailableError, UsageError
from dragoman.options import choice, milliseconds, shown, text, tls_context, whole
from dragoman.registry import Registration, Registry, open_registry
from dragoman.registry.base import check_registry
from dragoman.registry.names import check_service
from dragoman.rpc.address import Address
from dragoman.rpc.limits import Limits

CONNECT_TIMEOUT_MS = 5000
POLL_S = 0.002
# When enough servers are connected, how long the others are waited for, so that the first calls
# find them all.
SETTLE_S = 0.1
WEIGHT_MAX = 1_000_000
SERVERS_MAX = 1 << 24


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """See ``cluster.connect``; raises UsageError for what is out of range."""

    name: str
    registry: str | Registry | None = None
    endpoints: Iterable[str | Address] | Mapping[str, float] | None = None
    group: str = ""
    version: str = ""
    policy: str = "demand"
    limits: Limits = field(default_factory=Limits)
    servers_min: int = 1
    connect_timeout_ms: int = CONNECT_TIMEOUT_MS
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    # The named servers, read once: an iterator would have nothing left.
    members: Sequence[Member] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if (self.registry is None) == (self.endpoints is None):
            raise UsageError("connect: expected either a registry or endpoints")
        text("name", self.name)
        if self.registry is not None:
            check_registry("registry", self.registry)
            check_service(self.name)
        text("group", self.group)
        text("version", self.version)
        choice("policy", self.policy, tuple(POLICIES))
        whole("servers_min", self.servers_min, 0, SERVERS_MAX)
        milliseconds("connect_timeout_ms", self.connect_timeout_ms)
        choice("on_full", self.limits.on_full, ("fail", "wait"))
        tls_context("tls", self.tls)
        if self.server_hostname is not None:
            text("server_hostname", self.server_hostname)
        members = () if self.endpoints is None else _members(self.endpoints)
        object.__setattr__(self, "members", members)


def _members(endpoints: Iterable[str | Address] | Mapping[str, float]) -> list[Member]:
    """The servers that ``endpoints`` names; raises UsageError."""
    if isinstance(endpoints, str | bytes | bytearray) or not isinstance(endpoints, Iterable):
        raise UsageError(
            "endpoints: expected a list of addresses, or a dict of their weights, "
            f"not {shown(endpoints)}"
        )
    named = endpoints.items() if isinstance(endpoints, Mapping) else [(at, 1) for at in endpoints]
    members: dict[str, Member] = {}
    for address, weight in named:
        try:
            at = str(address if isinstance(address, Address) else Address.parse(address))
        except UsageError as error:
            raise UsageError(f"endpoints: {error}") from None
        if type(weight) not in (int, float) or not 0 < weight <= WEIGHT_MAX:
            raise UsageError(
                f"endpoints: expected a weight up to {WEIGHT_MAX}, not {shown(weight)}"
            )
        members[at] = Member(at, weight)
    return list(members.values())


async def open_pool(options: PoolOptions, create_future: Callable[[], Any] | None = None) -> Pool:
    """The pool, connected; see ``cluster.connect``, whose errors it raises. ``create_future`` makes
    the futures of its calls, the loop's own unless it is given."""
    loop = asyncio.get_running_loop()
    # A server has one connection from here, whatever the number of pools that it is in.
    peers = peers_of(loop, options.limits.held_bytes_max)
    service = Service(
        loop,
        options.name.encode(),
        Options.within(
            options.limits,
            policy=options.policy,
            identity=peers.identity,
            tls=options.tls,
            server_hostname=options.server_hostname,
            pings=True,
            peers=peers,
        ),
    )
    pool = Pool(loop, service, timeout_ms=options.limits.timeout_ms, create_future=create_future)
    if options.registry is None:
        pool.update(options.members)
    else:
        _follow(pool, options.name, options.registry, options.group, options.version)
    try:
        await connected(pool, options.servers_min, options.connect_timeout_ms / 1000)
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
        if pool.closed:
            raise UnavailableError(f"{pool.name} is closed here")
        connected, connecting = pool.ready()
        now_s = loop.time()
        if connected >= servers_min:
            settled_s = settled_s or now_s + SETTLE_S
            if not connecting or now_s >= settled_s:
                return
        elif pool.closed:
            raise UnavailableError(f"{pool.name} is closed here")
        elif now_s >= until_s:
            within = f"within {timeout_s * 1000:g} ms"
            if not pool.known:
                raise RegistryError(f"no list of {pool.name} {within}: the registry is silent")
            why = "; ".join(f"{where}: {reason}" for where, reason in pool.reasons().items())
            raise UnavailableError(
                f"{connected} servers of {pool.name} connected {within}: {why or 'none is listed'}"
            )
        await asyncio.sleep(POLL_S)
