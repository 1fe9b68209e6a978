"""A server: listens, registers, serves Dubbo with the methods of Python objects, and stops without
losing a call.

``serve`` makes one, ``run`` is a whole program. The connections and calls are
``dubbo.server.dispatch``'s.

Invariant: what is registered is served; a server that stops is unregistered first, tells its peers,
and leaves when nothing is at work and nothing has come for a moment, or when its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import uvloop

from dragoman.accepting import Acceptor, listen
from dragoman.budget import Budget
from dragoman.cluster.opening import advertised
from dragoman.dubbo.server.binding import BoundService
from dragoman.dubbo.server.dispatch import Dispatcher
from dragoman.dubbo.server.registered import (
    APPLICATION,
    check_keys,
    published_methods,
    registrations,
)
from dragoman.dubbo.types.declaration import Declaration
from dragoman.dubbo.types.info import ServerStatistics
from dragoman.errors import ConnectError, RegistryError, UsageError
from dragoman.forking import foreign
from dragoman.opening import Drained, opening
from dragoman.options import milliseconds, number, text, whole
from dragoman.reasons import reason
from dragoman.registry import Handle, Registration, Registry, open_registry
from dragoman.registry.base import check_registry
from dragoman.registry.methods import Method
from dragoman.registry.registration import LIMIT_MAX, WEIGHT_MAX
from dragoman.registry.url import JAVA_REGISTRIES, LEASE_TTL_S_MAX, default_weight
from dragoman.rpc.address import Address
from dragoman.rpc.tick import tick_of
from dragoman.stopping import told_to_stop
from dragoman.unclosed import watch

DEFAULT_PORT: Final = 20880
DEFAULT_HOST: Final = "127.0.0.1"
# A real provider's pool.
DEFAULT_LIMIT: Final = 200
PAYLOAD_BYTES_MAX: Final = 8 << 20
BUFFERS_BYTES_MAX: Final = 256 << 20
# Read within about 20 ms on a usual machine, for as long nobody else is answered.
VALUES_MAX: Final = 200_000
UNREGISTER_TIMEOUT_S: Final = 2.0
BACKLOG: Final = 1024
# What a connection may be silent for.
IDLE_S_MIN: Final = 0.001
IDLE_S_MAX: Final = 31_536_000
# A peer that has been told may have sent calls before it heard: as long as none came for this long.
QUIET_S: Final = 0.2
POLL_S: Final = 0.01
# How long a peer has for reading the last replies.
FLUSH_S: Final = 1.0
DRAIN_MS: Final = 10_000


class Server(Drained):
    """Serves until it is closed. ``address`` is where it listens, with the port that it got."""

    def __init__(
        self,
        services: Sequence[BoundService],
        provider: Dispatcher,
        executor: ThreadPoolExecutor | None,
        registry: Registry | None,
        published: Sequence[Sequence[Method]],
        *,
        owned: bool,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = tick_of(self._loop)
        self._services = services
        self._provider = provider
        self._executor = executor
        self._registry = registry
        self._owned = owned
        self._published = published
        self._listener: Acceptor | asyncio.Server | None = None
        self._handles: list[Handle] = []
        self._closing = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.address = Address("", 0)

    async def start(self, address: Address) -> None:
        """Listen; used by ``serve``. Raises ConnectError when the address cannot be had."""
        try:
            listener = await listen(
                self._loop,
                self._provider.connection,
                address.host,
                address.port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise ConnectError(f"cannot listen on {address}: {reason(error)}") from None
        self._listener = listener
        self.address = Address(address.host, listener.sockets[0].getsockname()[1])

    async def register(self, registrations: Sequence[Registration], timeout_ms: int) -> None:
        """Have the services listed; used by ``serve``. Raises RegistryError after the time."""
        assert self._registry is not None
        for registration in registrations:
            self._handles.append(await self._registry.register(registration))
        for service, methods in zip(self._services, self._published, strict=True):
            await self._registry.publish(
                service.interface,
                methods,
                group=service.group,
                version=service.version,
                application=APPLICATION,
            )
        if timeout_ms:
            for handle in self._handles:
                await handle.ready(timeout_ms / 1000)

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or is being closed."""
        return self._closing

    def __repr__(self) -> str:
        if tick_of(self._loop).foreign:
            state = "of another process"
        elif self._closing:
            state = "closed" if self._closed.done() else "closing"
        else:
            state = (
                f"listening, {self._provider.open_connections} clients,"
                f" {self._provider.in_progress} calls in progress"
            )
        names = ", ".join(service.interface for service in self._services)
        return f"<Server of {names} on {self.address}, {state}>"

    @property
    def registrations(self) -> list[Registration]:
        """What the registry is told."""
        return [handle.registration for handle in self._handles]

    @property
    def registered(self) -> bool:
        """Whether, as far as is known, the registry lists all services now."""
        return all(handle.registered for handle in self._handles)

    def _check_mine(self) -> None:
        self._tick.check(f"the server at {self.address}")

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        self._check_mine()
        await asyncio.shield(self._closed)

    def set_limit(self, limit: int) -> None:
        """From now on have at most ``limit`` calls at work; raises UsageError for what is none."""
        whole("limit", limit, 1, LIMIT_MAX)
        self._check_mine()
        self._provider.set_limit(limit)

    def statistics(self) -> ServerStatistics:
        """The server's counters now."""
        if self._tick.foreign:
            raise foreign(f"the server at {self.address}")
        return self._provider.statistics()

    async def close(self, *, drain_ms: int = DRAIN_MS) -> None:
        """Unregister, listen no longer, tell every peer to go elsewhere, finish what is at work,
        for ``drain_ms`` milliseconds at most; then close every connection. Never fails for a
        registry that is away."""
        milliseconds("drain_ms", drain_ms)
        if self._tick.foreign:
            return
        if self._closed.done():
            return
        self._check_mine()
        if self._closing:
            await asyncio.shield(self._closed)
            return
        self._closing = True
        unregistering = [
            asyncio.create_task(handle.unregister(timeout_s=UNREGISTER_TIMEOUT_S))
            for handle in self._handles
        ]
        try:
            if self._listener is not None:
                self._listener.close()
            self._provider.announce_stop()
            if drain_ms:
                await self._drain(drain_ms / 1000)
            await asyncio.gather(*unregistering, return_exceptions=True)
        finally:
            # Also when whoever closes the server waits no longer.
            self._provider.close()
            await self._let_go()
            if self._executor is not None:
                self._executor.shutdown(wait=False, cancel_futures=True)
            if self._registry is not None and self._owned:
                with contextlib.suppress(RegistryError):
                    await self._registry.close()
            if not self._closed.done():
                self._closed.set_result(None)

    async def _drain(self, drain_s: float) -> None:
        """Wait until nothing is at work and nothing comes any more."""
        provider = self._provider
        quiet_from = self._loop.time()
        end = quiet_from + drain_s
        requests = -1
        while (now := self._loop.time()) < end:
            if provider.in_progress or provider.requests != requests:
                requests = provider.requests
                quiet_from = now
            elif provider.open_connections == 0 or now - quiet_from >= QUIET_S:
                return
            await asyncio.sleep(POLL_S)

    async def _let_go(self) -> None:
        """Wait until the last replies have been sent, though not for peers that do not read."""
        until = self._loop.time() + FLUSH_S
        # A connection that is being accepted takes a few ticks of the loop until it is known.
        for _ in range(3):
            await asyncio.sleep(0)
        while self._provider.open_connections and self._loop.time() < until:
            await asyncio.sleep(0.001)
        self._provider.close(at_once=True)
        await asyncio.sleep(0)


@opening
async def serve(
    services: object,
    port: int | str | Address = DEFAULT_PORT,
    *,
    host: str = DEFAULT_HOST,
    registry: str | Registry | None = None,
    advertise: str | None = None,
    limit: int = DEFAULT_LIMIT,
    threads: int | None = None,
    weight: int | None = None,
    zone: str = "",
    lease_ttl_s: int = 10,
    register_timeout_ms: int = 5000,
    payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    buffers_bytes_max: int = BUFFERS_BYTES_MAX,
    values_max: int = VALUES_MAX,
    clients_max: int = 100_000,
    idle_s: float = 180.0,
) -> Server:
    """Serve Dubbo on ``host`` and ``port`` (0: any free one) with ``services``: an object of a
    class that ``dubbo.service`` declared, or a list of such objects. In place of the port may stand
    the whole address, ``host:port``. Close the server when done with it, or use it in
    ``async with``.

    - ``registry``: where the services are listed for consumers, a URL (``zookeeper://...``,
      ``etcd://...``) or an open Registry, which stays the caller's; None: nowhere.
    - ``advertise``: the ``host`` or ``host:port`` to register, if it is not where it listens.
    - ``limit``: calls at work at once; a call beyond it is answered with status 100 at once, and
      a one-way call beyond it is dropped, as a real provider's pool does.
    - ``threads``: threads for methods that are no coroutine functions (None: ``limit``, as many as
      are needed); 0: they run on the loop, and must not block.
    - ``weight``: its capacity compared with other providers' (None: what they have by default in
      this registry, 100 where Java registers and else 1); ``zone``: where it runs.
    - ``lease_ttl_s``: how long it is listed after its process has died.
    - ``register_timeout_ms``: how long to wait until it is registered; 0: not at all, it is
      registered as soon as the registry answers.
    - ``payload_bytes_max``: the longest body of a request or reply.
    - ``buffers_bytes_max``: what has arrived in part, or waits to be sent, of all clients; a
      request that finds no room is rejected. Two of the longest bodies have room in any case.
    - ``values_max``: how many values a call may have; a list, a map, a bean or a date counts as
      eight more, a map's entry as four more, a value in fastjson as eight. A call with more is
      refused with status 40, for while it is read nobody else is answered.
    - ``clients_max``: connections at once; ``idle_s``: a connection that is silent for longer is
      closed.

    Raises ConnectError when the address cannot be listened on, RegistryError when it is not
    registered in time, UsageError for options out of range.
    """
    address = _address(port, host)
    whole("limit", limit, 1, LIMIT_MAX)
    whole("threads", 0 if threads is None else threads, 0, 10_000)
    whole("weight", 1 if weight is None else weight, 1, WEIGHT_MAX)
    text("zone", zone)
    whole("payload_bytes_max", payload_bytes_max, 1, 0x7FFFFFFF)
    whole("buffers_bytes_max", buffers_bytes_max, 1, 1 << 50)
    whole("values_max", values_max, 1, 1 << 40)
    whole("clients_max", clients_max, 1, 1 << 24)
    number("idle_s", idle_s, IDLE_S_MIN, IDLE_S_MAX)
    whole("lease_ttl_s", lease_ttl_s, 1, LEASE_TTL_S_MAX)
    milliseconds("register_timeout_ms", register_timeout_ms)
    if registry is not None:
        check_registry("registry", registry)
    instances = list(services) if isinstance(services, list | tuple) else [services]
    if not instances:
        raise UsageError("services: expected at least one")
    bound = [BoundService(_declaration_of(each), each, threads=threads != 0) for each in instances]
    registered = Address("", 0)
    if registry is not None:
        registered = Address(*advertised(address, advertise))
    # Looked at before anything opens.
    registrations(bound, registered, address.port or 1, limit, weight or 1, zone)
    opened = (
        open_registry(registry, lease_ttl_s=lease_ttl_s) if isinstance(registry, str) else registry
    )
    executor = ThreadPoolExecutor(threads or min(limit, 10_000), "dragoman-dubbo")
    server = None
    try:
        of_java = opened is not None and opened.location.startswith(JAVA_REGISTRIES)
        if opened is not None and not of_java:
            check_keys(bound)
        if weight is None:
            weight = default_weight(opened.location) if opened is not None else 1
        provider = Dispatcher(
            asyncio.get_running_loop(),
            bound,
            limit=limit,
            executor=executor,
            payload_bytes_max=payload_bytes_max,
            budget=Budget(max(buffers_bytes_max, 2 * payload_bytes_max)),
            idle_s=idle_s,
            clients_max=clients_max,
            values_max=values_max,
        )
        published = [published_methods(Declaration.of(type(each))) for each in instances]
        server = Server(bound, provider, executor, opened, published, owned=opened is not registry)
        await server.start(address)
        if opened is not None:
            await server.register(
                registrations(bound, registered, server.address.port, limit, weight, zone),
                register_timeout_ms,
            )
    except BaseException:
        if server is not None:
            await server.close(drain_ms=0)
        elif opened is not None and opened is not registry:
            await opened.close()
        raise
    watch(server)
    return server


def run(
    services: object,
    port: int | str | Address = DEFAULT_PORT,
    *,
    ready: Callable[[Server], object] | None = None,
    drain_ms: int = DRAIN_MS,
    host: str = DEFAULT_HOST,
    registry: str | Registry | None = None,
    advertise: str | None = None,
    limit: int = DEFAULT_LIMIT,
    threads: int | None = None,
    weight: int | None = None,
    zone: str = "",
    lease_ttl_s: int = 10,
    register_timeout_ms: int = 5000,
    payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    buffers_bytes_max: int = BUFFERS_BYTES_MAX,
    values_max: int = VALUES_MAX,
    clients_max: int = 100_000,
    idle_s: float = 180.0,
) -> None:
    """``serve`` as a whole program: until SIGTERM or SIGINT, on a loop of its own; then it stops as
    ``Server.close`` does. A second signal ends the waiting. ``ready`` is called with the server
    once it serves. Options and errors are those of ``serve``."""

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None

        def on_signal() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        with told_to_stop(on_signal):
            server = await serve(
                services,
                port,
                host=host,
                registry=registry,
                advertise=advertise,
                limit=limit,
                threads=threads,
                weight=weight,
                zone=zone,
                lease_ttl_s=lease_ttl_s,
                register_timeout_ms=register_timeout_ms,
                payload_bytes_max=payload_bytes_max,
                buffers_bytes_max=buffers_bytes_max,
                values_max=values_max,
                clients_max=clients_max,
                idle_s=idle_s,
            )
            if ready is not None:
                ready(server)
            await stop.wait()
            with contextlib.suppress(asyncio.CancelledError):
                await server.close(drain_ms=drain_ms)

    uvloop.run(main())


def _address(port: int | str | Address, host: str) -> Address:
    """Where to listen; raises UsageError."""
    text("host", host)
    if not isinstance(port, str | Address):
        whole("port", port, 0, 65535)
        return Address(host, port)
    address = port if isinstance(port, Address) else Address.parse(port)
    if address.path:
        raise UsageError(f"address {str(address)!r}: Dubbo is served on host:port")
    if host not in (DEFAULT_HOST, address.host):
        raise UsageError(f"host: {host!r}, but the address says {address.host!r}")
    return address


def _declaration_of(instance: Any) -> Declaration:
    """What the class of a service's object declares; raises UsageError."""
    if isinstance(instance, type):
        raise UsageError(f"serve: expected an object of {instance.__qualname__}, not the class")
    try:
        return Declaration.of(type(instance))
    except UsageError as error:
        raise UsageError(f"services: {error}") from None
