"""The client: services found in a registry, or at addresses, and called.

    async with Client("zookeeper://127.0.0.1:2181") as client:
        hello = client.service("com.example.Hello", version="1.0.0")
        print(await hello.hash("abc"))

A ``dubbo.client.hub`` has the registry, the pools and the connections; here are the calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, TypeVar, overload

from dragoman.cluster.statistics import PoolStatistics
from dragoman.dubbo.client.calling import RemoteMethod
from dragoman.dubbo.client.hub import BODY_BYTES_MAX, TIMEOUT_MS, Hub, Settings, echo_of, url_of
from dragoman.dubbo.client.stub import UNSET, Reference
from dragoman.errors import UsageError
from dragoman.opening import Drained
from dragoman.options import milliseconds
from dragoman.registry import Registration, Registry
from dragoman.registry.methods import Method
from dragoman.rpc.address import Address
from dragoman.rpc.limits import Limits
from dragoman.unclosed import warn, watch

T = TypeVar("T")


class Client(Drained):
    """Calls Dubbo services. Use it in ``async with``, or close it; it belongs to its loop.

    ``source`` says where the providers are: a registry's URL (``zookeeper://host:2181``,
    ``etcd://...``, ``nacos://...``), an open Registry, which stays the caller's, or the providers
    themselves (an ``Address``, or ``dubbo://host:port,host:port``, ``tcp://...``;
    ``?limit=...&weight=...`` may follow each, or it is the URL that a provider has registered,
    ``dubbo://host:port/path?interface=...``).

    - ``timeout_ms``: how long a call may take unless it says otherwise (None: as long as it likes).
      Unlike ``rpc.connect``, 5,000 by default: a provider of Dubbo is not told that nobody waits
      for a call any more, nor does it show while it works that it lives.
    - ``policy``: which provider gets the next call, one of ``balance.policies.POLICIES``.
    - ``on_full``: what becomes of a call that finds no provider with room. "shed": it waits while
      some provider may take it, but from half of ``waiting_max`` on a growing proportion fails with
      OverloadError; without any provider it fails with UnavailableError at once. "wait": it waits,
      also for a provider to appear. "fail": it fails at once.
    - ``calls_max``, ``bytes_max``: calls under way at once to a service, and their bytes;
      ``waiting_max``, ``waiting_bytes_max``: the same of those that wait.
    - ``buffers_bytes_max``: what has arrived in part, or waits to be sent, of all providers
      together; a reply or a request that finds no room fails with OverloadError. Two of the longest
      replies have room in any case.
    - ``body_bytes_max``: the longest reply taken.
    - ``connections``: to each provider that has no agent.
    - ``heartbeat_ms``: an agent that is silent for two of these is given up.

    Raises UsageError for options out of range, and for a source that is none.
    """

    _drain_ms = 5000

    def __init__(
        self,
        source: str | Address | Registry,
        *,
        timeout_ms: int | None = TIMEOUT_MS,
        policy: str = "demand",
        on_full: Literal["shed", "wait", "fail"] = "shed",
        calls_max: int = Limits.calls_max,
        bytes_max: int = Limits.bytes_max,
        waiting_max: int = Limits.waiting_max,
        waiting_bytes_max: int = Limits.waiting_bytes_max,
        buffers_bytes_max: int = Limits.buffers_bytes_max,
        body_bytes_max: int = BODY_BYTES_MAX,
        connections: int = 1,
        heartbeat_ms: int = Limits.heartbeat_ms,
    ) -> None:
        settings = Settings(
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
            policy=policy,
            connections=connections,
        )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError("a Client is made where a loop runs; see SyncClient") from None
        self._hub = Hub(loop, url_of(source), settings)
        self._process = os.getpid()
        watch(self)

    def __del__(self) -> None:
        hub = self.__dict__.get("_hub")
        if hub is not None and not hub.closed and self._process == os.getpid():
            warn(self)

    def __repr__(self) -> str:
        return f"<Client {self._hub.source}, {self._hub.told()}>"

    @overload
    def service(
        self,
        declared: str,
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> Reference: ...
    @overload
    def service(
        self,
        declared: Callable[..., T],
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> T: ...

    def service(
        self,
        declared: Any,
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> Any:
        """A service: an object whose methods call those of its providers, and are awaited.

        ``declared`` is a class with ``@dubbo.service``, or the name of the Java interface; then the
        object has any method, and the arguments' own types are taken for Java's (``Reference``).

        - ``version``, ``group``: of the service; a declared class's own unless they are given.
          ``*`` is any, ``a,b`` either of the two.
        - ``timeout_ms``: how long its calls may take, waiting and retries included.
        - ``attachments``: texts that go with every call.
        - ``generic``: call through ``$invoke``: Java's types are named, not compiled in, and beans
          come as plain mappings.

        Calls raise JavaError when the method threw, RemoteError when the provider failed otherwise,
        NotFoundError for what it does not serve, DeadlineError, OverloadError, UnavailableError (no
        provider), LinkLostError, ProtocolError (a reply that does not fit); ``retry_safe`` tells
        whether the call certainly never ran. Raises UsageError for arguments that make no call.
        """
        return self._hub.make(
            declared,
            _itself,
            version=version,
            group=group,
            timeout_ms=timeout_ms,
            attachments=attachments,
            generic=generic,
        )

    async def ready(
        self, service: object, *, timeout_ms: int = TIMEOUT_MS, providers_min: int = 1
    ) -> None:
        """Return when ``providers_min`` providers of a service are connected. Raises
        UnavailableError with the reasons after the time, RegistryError if the registry is silent.
        Calls wait by themselves: this is for programs that want to know."""
        await self._hub.ready(self._hub.pool_of(service), providers_min, timeout_ms)

    async def echo(self, service: object, value: Any = "ok") -> Any:
        """Have a provider of a service give ``value`` back (``$echo``): its pool takes calls."""
        return await echo_of(self._hub.pool_of(service))(value)

    def statistics(self, service: object) -> PoolStatistics:
        """The counters of a service's pool now. A service is here, as for ``ready``, ``echo`` and
        ``methods``, what ``service`` gave, or what it was given: the class or the interface."""
        return self._hub.pool_of(service).statistics()

    async def services(self) -> dict[str, list[Registration]]:
        """Every interface that the registry lists, with its providers. Raises RegistryError."""
        return await self._hub.services()

    async def methods(
        self, service: object, *, timeout_ms: float | None = TIMEOUT_MS
    ) -> tuple[Method, ...]:
        """The methods of a service as its providers publish them, with their Java types; nothing
        where they do not. Raises RegistryError, also when they are not told in time."""
        return await self._hub.methods(self._hub.pool_of(service), timeout_ms)

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._hub.closed

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close all connections once the calls made so far have ended, or in ``drain_ms``
        milliseconds at the latest; those that have not ended then fail, and so do later ones."""
        milliseconds("drain_ms", drain_ms)
        await self._hub.close(drain_ms=drain_ms)

    def __await__(self) -> Generator[Any, Any, Client]:
        """``await Client(...)`` is the client: like all that is opened, it may be awaited or not
        before ``async with``."""
        return self
        yield  # Nothing is waited for.


def _itself(caller: RemoteMethod) -> Any:
    return caller
