"""A hub: all that a client of Dubbo has on its loop.

It has the registry, a pool for each service, and the connections to providers that have no agent
(``dubbo.upstream.direct``). ``dubbo.client.client`` makes one on the caller's loop,
``dubbo.client.sync`` on a loop of its own.

Invariant: a service that is asked for twice has one pool, and one watch of the registry.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dragoman.balance.policies import POLICIES
from dragoman.budget import Budget
from dragoman.cluster.directory import service_key
from dragoman.cluster.options import Options
from dragoman.cluster.peer import Peers
from dragoman.cluster.pools import SERVERS_MAX, connected
from dragoman.cluster.selection import ANY, chosen, is_choice
from dragoman.cluster.service import Service
from dragoman.dubbo.client.calling import JavaPool, RemoteMethod
from dragoman.dubbo.client.stub import UNSET, Expose, Reference, Stub, check_options
from dragoman.dubbo.types.declaration import Declaration
from dragoman.dubbo.upstream.direct import PROTOCOL, DirectProviders
from dragoman.errors import RegistryError, UsageError
from dragoman.options import choice, milliseconds, shown, text, whole
from dragoman.registry import Registration, Registry, open_registry
from dragoman.registry.base import Watch, check_registry
from dragoman.registry.methods import Method
from dragoman.registry.names import check_service, parse_address
from dragoman.registry.static import StaticRegistry, parse_dubbo
from dragoman.registry.url import redact_url
from dragoman.rpc.address import Address
from dragoman.rpc.limits import MIB, Limits
from dragoman.rpc.tick import tick_of

T = TypeVar("T")

STATIC: Final = "dubbo://"
# Through a provider's agent, or Dubbo itself.
PROTOCOLS: Final = ("mesh", PROTOCOL)
TIMEOUT_MS: Final = 5000
BODY_BYTES_MAX: Final = 16 * MIB


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a client is set up; see ``Client``. Raises UsageError for what is out of range."""

    limits: Limits
    policy: str = "demand"
    connections: int = 1

    def __post_init__(self) -> None:
        choice("policy", self.policy, tuple(POLICIES))
        choice("on_full", self.limits.on_full, ("shed", "wait", "fail"))
        whole("connections", self.connections, 1, 64)


def static_providers(url: str) -> list[Registration] | None:
    """The providers that ``dubbo://host:port[?limit=...],...`` names, or ``tcp://host:port``; None
    for another URL. Raises UsageError for an address alone: it may be meant for a registry's."""
    for scheme in (STATIC, "tcp://"):
        if url.startswith(scheme):
            return parse_dubbo(url.removeprefix(scheme))
    if "://" not in url:
        try:
            parse_address(url)
        except UsageError:
            return None
        raise UsageError(
            f"{url!r} is an address alone: dubbo://{url} is a provider there, zookeeper://{url} a"
            " registry"
        )
    return None


def url_of(source: T | Address) -> T | str:
    """A provider's address as a URL; anything else as it is."""
    return f"{STATIC}{source}" if isinstance(source, Address) else source


class Hub:
    """All that a client has on its loop; ``create_future`` makes the futures of its calls."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: str | Registry,
        settings: Settings,
        create_future: Callable[[], Any] | None = None,
    ) -> None:
        check_registry("source", source)
        self._loop = loop
        self._tick = tick_of(loop)
        self._settings = settings
        self._create_future = create_future
        self._static = static_providers(source) if isinstance(source, str) else None
        self._registry: Registry | None = None
        self._owned = isinstance(source, str)
        if self._static is None:
            self._registry = open_registry(source) if isinstance(source, str) else source
        budget = Budget(settings.limits.held_bytes_max)
        self._peers = Peers(loop, budget)
        self._providers = DirectProviders(
            loop,
            connections=settings.connections,
            body_bytes_max=settings.limits.body_bytes_max,
            dialer=self._peers.dialer,
            budget=budget,
        )
        self._pools: dict[bytes, JavaPool] = {}
        self._watches: dict[JavaPool, Watch] = {}
        self.closed = False
        # Whether a ``close`` has come to its end.
        self._ended = False
        self.source = source.location if isinstance(source, Registry) else redact_url(source)

    def told(self) -> str:
        """How it stands, for a person."""
        if tick_of(self._loop).foreign:
            return "of another process"
        if self.closed:
            return "closed"
        pools = list(self._pools.values())
        calls = sum(pool.statistics().calls for pool in pools)
        return f"open, {len(pools)} services, {calls} calls"

    async def start(self, timeout_ms: int) -> None:
        """Do nothing, which ``LoopThread`` awaits first: nothing is connected before it is used."""

    # What ``Inbox`` calls.

    def call(self, caller: RemoteMethod, arguments: Any, *, timeout_ms: Any, order_key: Any) -> Any:
        """Begin a call."""
        return caller.start(*arguments)

    call_many = notify = call

    def pool(self, interface: str, group: str, version: str) -> JavaPool:
        """The pool of a service, which follows the registry from now on."""
        self.check_open()
        check_service(interface)
        if version == "0.0.0":
            version = ""
        key = service_key(interface, group, version)
        pool = self._pools.get(key)
        if pool is None:
            settings = self._settings
            service = Service(
                self._loop,
                key,
                Options.within(
                    settings.limits,
                    policy=settings.policy,
                    identity=self._peers.identity,
                    # A method that takes long is no failure.
                    pings=True,
                    links={PROTOCOL: self._providers.link},
                    peers=self._peers,
                ),
            )
            pool = JavaPool(
                self._loop, service, interface, group, version, create_future=self._create_future
            )
            # A pool that nobody tells of providers is not to be found by the next who asks.
            self._follow(pool)
            self._pools[key] = pool
        return pool

    def _follow(self, pool: JavaPool) -> None:
        """Keep the pool's providers to those that are listed."""
        if self._static is not None:
            named = [_named(each, pool) for each in self._static]
            pool.update([each for each in named if each is not None])
            return
        assert self._registry is not None
        loose = isinstance(self._registry, StaticRegistry)

        def wanted(asked: str, said: str) -> bool:
            # In a fixed list, where nothing is said, any group and version are served.
            return chosen(asked, said) or (loose and said == "")

        def take_over(registrations: Sequence[Registration]) -> None:
            pool.update(
                [
                    each
                    for each in registrations
                    if each.protocol in PROTOCOLS
                    and wanted(pool.group, each.group)
                    and wanted(pool.version, "" if each.version == "0.0.0" else each.version)
                ]
            )

        watch = self._registry.watch(pool.interface, take_over)
        self._watches[pool] = watch
        pool.unread(lambda: watch.why_unread)
        pool.on_close(watch.close)

    def make(
        self,
        declared: Any,
        expose: Expose,
        *,
        version: str | None,
        group: str | None,
        timeout_ms: Any,
        attachments: Mapping[str, str] | None,
        generic: bool,
    ) -> Any:
        """The object that ``Client.service`` gives."""
        check_options(timeout_ms, attachments, generic)
        options = {
            "timeout_ms": self._settings.limits.timeout_ms if timeout_ms is UNSET else timeout_ms,
            "attachments": attachments,
            "generic": generic,
        }
        for name, value in (("group", group), ("version", version)):
            if value is not None:
                text(name, value)
        pool = self._pool_for(declared, group, version)
        if isinstance(declared, str):
            return Reference(pool, expose, options)
        return Stub(pool, Declaration.of(declared), expose, options)

    def _pool_for(self, declared: Any, group: str | None, version: str | None) -> JavaPool:
        if isinstance(declared, str):
            return self.pool(declared, group or "", version or "")
        declaration = Declaration.of(declared)
        return self.pool(
            declaration.interface,
            declaration.group if group is None else group,
            declaration.version if version is None else version,
        )

    def pool_of(self, service: Any) -> JavaPool:
        """The pool behind what ``Client.service`` gave, or of what it is given: a class, or an
        interface; raises UsageError for anything else."""
        if isinstance(service, Stub | Reference):
            pool: JavaPool = service._pool
            return pool
        if not isinstance(service, str | type):
            raise UsageError(
                f"expected what Client.service() gave, its class or its interface, "
                f"not {shown(service)}"
            )
        return self._pool_for(service, None, None)

    async def ready(self, pool: JavaPool, providers_min: int, timeout_ms: float) -> None:
        """Return when providers are connected; see ``Client.ready``."""
        milliseconds("timeout_ms", timeout_ms)
        whole("providers_min", providers_min, 0, SERVERS_MAX)
        self.check_open()
        await connected(pool, providers_min, timeout_ms / 1000)

    async def services(self) -> dict[str, list[Registration]]:
        """Every interface with its providers; see ``Client.services``."""
        self.check_open()
        if self._registry is not None:
            return await self._registry.services()
        found: dict[str, list[Registration]] = {}
        for each in self._static or ():
            found.setdefault(each.interface, []).append(each)
        return found

    def check_open(self) -> None:
        """Raise UsageError where, or when, it must not be used."""
        self._tick.check("the client")
        if self.closed:
            raise UsageError("the client is closed")

    async def methods(self, pool: JavaPool, timeout_ms: float | None) -> tuple[Method, ...]:
        """The methods of a service, as providers publish them; see ``Client.methods``."""
        if timeout_ms is not None:
            milliseconds("timeout_ms", timeout_ms)
        self.check_open()
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                return await self._published(pool)
        except TimeoutError:
            watch = self._watches.get(pool)
            why = f": {watch.why_unread}" if watch is not None and not watch.has_snapshot else ""
            raise RegistryError(
                f"{pool.interface}: its methods were not told within {timeout_ms:g} ms{why}"
            ) from None

    async def _published(self, pool: JavaPool) -> tuple[Method, ...]:
        if self._registry is None:
            return ()
        if is_choice(pool.group, pool.version):
            for each in (await self._registry.services()).get(pool.interface, ()):
                if chosen(pool.group, each.group) and chosen(pool.version, each.version):
                    return await self._registry.metadata(
                        pool.interface, group=each.group, version=each.version
                    )
        return await self._registry.metadata(pool.interface, group=pool.group, version=pool.version)

    async def close(self, *, drain_ms: int) -> None:
        """Let what is under way end, and close everything."""
        if self._tick.foreign or self._ended:
            return
        self._tick.check("the client")
        self.closed = True
        pools = list(self._pools.values())
        await asyncio.gather(*(pool.close(drain_ms=drain_ms) for pool in pools))
        await self._providers.close()
        if self._registry is not None and self._owned:
            with contextlib.suppress(RegistryError):
                await self._registry.close()
        self._ended = True


def _named(registration: Registration, pool: JavaPool) -> Registration | None:
    """A provider that its user named, as one of a service; None if it is said to be of another."""
    if registration.interface not in ("*", pool.interface):
        return None
    fields = {name: getattr(registration, name) for name in registration.__struct_fields__}
    fields |= {"interface": pool.interface}
    # Any is as good as none; of several the first is asked for.
    for name, asked in (("group", pool.group), ("version", pool.version)):
        fields[name] = "" if asked == ANY else asked.partition(",")[0].strip()
    return Registration(**fields)


def echo_of(pool: JavaPool) -> RemoteMethod:
    """The method that every provider has."""
    return RemoteMethod(
        pool, "$echo", None, {"types": "Ljava/lang/Object;", "timeout_ms": TIMEOUT_MS}
    )
