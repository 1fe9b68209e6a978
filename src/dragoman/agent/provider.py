"""The provider's agent: mesh in, Dubbo out. One of these runs on each worker's loop.

It keeps connections to its provider, serves mesh sessions on the listening address, and registers
the provider's interfaces. Started by ``agent.runtime`` from a ``ProviderConfig``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from dragoman.accepting import Acceptor
from dragoman.agent.bounds import (
    MemoryGuard,
    connections_allowed,
    hold_within,
    memory_bytes_max,
)
from dragoman.agent.config import AUTO, ProviderConfig
from dragoman.agent.listening import listening_socket
from dragoman.agent.spoken import Said
from dragoman.dubbo.upstream.connection import GREETED
from dragoman.dubbo.upstream.departure import Departure
from dragoman.dubbo.upstream.egress import Egress
from dragoman.dubbo.upstream.finding import Finding
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.dubbo.upstream.transcoder import Transcoder
from dragoman.errors import Code, RegistryError
from dragoman.flow.credits import CreditPool
from dragoman.observe.metrics import Snapshot
from dragoman.registry.base import Handle, Registry
from dragoman.registry.names import parse_address
from dragoman.registry.registration import DEFAULT_SERIALIZATION
from dragoman.registry.report import add_registry_metrics
from dragoman.registry.url import open_registry
from dragoman.rpc.server_session import ServerSession

POLL_S = 0.02
# What a learner starts from; it grows by one for each reply under full use.
LEARN_FROM = 50


class ProviderAgent:
    """Serves mesh callers on one loop, as one of ``workers``. ``start``, then ``drain`` when it is
    time to stop. ``registry`` is an open one, the caller's, in place of that of ``config``.
    """

    def __init__(
        self,
        config: ProviderConfig,
        *,
        reuse_port: bool = False,
        workers: int = 1,
        registry: Registry | None = None,
    ) -> None:
        self._config = config
        self._reuse_port = reuse_port
        self._loop = asyncio.get_running_loop()
        self._owned = registry is None
        self._registry: Registry = (
            open_registry(config.registry, lease_ttl_s=config.lease_ttl_s)
            if registry is None
            else registry
        )
        host, port = parse_address(config.provider)
        learning = config.limit == "auto"
        self._finds = config.serialization == AUTO
        self.pool = CreditPool(LEARN_FROM if learning else int(config.limit))
        self.link = DubboLink(
            self._loop, host, port, self._on_provider_change, count=config.connections
        )
        self._departure = Departure(self.link)
        memory = memory_bytes_max(config.memory_mib_max, workers)
        self._memory_bytes_max = memory
        self._transcoder = Transcoder(self._loop, memory_bytes_max=memory)
        self.egress = Egress(
            self._loop,
            self.link,
            self.pool,
            group=config.group,
            version=config.version,
            serialization=DEFAULT_SERIALIZATION if self._finds else config.serialization,
            path=config.path,
            token=config.token,
            learning=learning,
            timeout_ms=config.timeout_ms,
            interfaces=None if config.allow_any_interface else config.interface,
            transcoder=self._transcoder,
        )
        self._finding: Finding | None = None
        self._said: Said | None = None
        if self._finds:
            self.link.greeter = self._finding = Finding(self.egress, config.interface[0])
            self._said = Said(host, port, self._finding.expect)
        self.sessions: set[ServerSession] = set()
        self._sessions_max = connections_allowed(config.connections_max)
        self._memory = MemoryGuard(self._loop, memory, self.egress.shed)
        self._handles: list[Handle] = []
        self._acceptor: Acceptor | None = None
        self.changed = asyncio.Event()
        self.port = 0
        self.draining = False

    def _on_provider_change(self) -> None:
        """The provider came or went, which the request path sees for itself. One that is about to
        stop is let go with the last reply that it owed."""
        self.changed.set()
        if self.link.stopping and self.link.idle and not self.draining:
            self._departure.begin()

    def _session(self) -> asyncio.BaseProtocol:
        return ServerSession(
            self._loop,
            self.egress,
            self.pool,
            self.sessions,
            body_bytes_max=self._config.body_bytes_max,
            sessions_max=self._sessions_max,
        )

    async def start(self) -> None:
        """Listen, connect and register; raises UsageError when the address cannot be used."""
        listener = listening_socket(self._config.listen, reuse_port=self._reuse_port)
        self.port = listener.getsockname()[1]
        self._acceptor = Acceptor(self._loop, [listener], self._session)
        self._acceptor.start()
        if self._said is not None:
            await self._said.follow(self._registry, self._config.interface[0])
        self.link.start()
        if self._config.probe_ms:
            self.egress.probe(self._config.interface[0], self._config.probe_ms)
        hold_within(self._memory_bytes_max)
        self._memory.start()
        for registration in self._config.registrations(self.port):
            self._handles.append(await self._registry.register(registration))

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on."""
        return self._acceptor.sockets if self._acceptor is not None else []

    def ready_reason(self) -> str | None:
        """None when requests can be served, else why not."""
        if self.draining:
            return "draining"
        if not self.link.usable:
            if self.link.reason == GREETED:
                return GREETED
            return f"the provider cannot be reached: {self.link.reason or 'not connected yet'}"
        if self.link.silent:
            return "the provider is silent: it answers neither calls nor heartbeats"
        if self.egress.silent:
            return "the provider does not answer its probe"
        if not all(handle.registered for handle in self._handles):
            return "not registered yet"
        return None

    async def drain(self) -> None:
        """Unregister, say goodbye to callers, finish what is in progress within ``drain_ms``,
        close."""
        self.draining = True
        deadline = self._loop.time() + self._config.drain_ms / 1000
        if self._acceptor is not None:
            # First of all: a caller that has let go would be back at once.
            self._acceptor.close()
        unregistering = [
            self._loop.create_task(handle.unregister(timeout_s=2.0)) for handle in self._handles
        ]
        for session in list(self.sessions):
            session.goodbye()
        # A caller closes its session when its last request is answered; no new one is accepted.
        while (self.sessions or self.egress.in_progress) and self._loop.time() < deadline:
            await asyncio.sleep(POLL_S)
        await asyncio.gather(*unregistering, return_exceptions=True)
        for session in list(self.sessions):
            session.close()
        self._memory.stop()
        self.egress.stop()
        if self._said is not None:
            await self._said.close()
        await self._transcoder.close()
        await self._departure.stop()
        await self.link.close()
        if self._owned:
            with contextlib.suppress(RegistryError):
                await self._registry.close()

    def _why_spoken(self) -> str:
        """Why the provider is asked in what it is asked in."""
        if self._finding is None:
            return "as configured"
        return self._finding.told or "not found out yet"

    async def snapshot(self) -> Snapshot:
        """The agent's metrics."""
        out = Snapshot()
        egress = self.egress
        out.counter("dragoman_provider_requests_total", egress.requests, "Requests received.")
        out.counter(
            "dragoman_provider_replies_total", egress.succeeded, "Requests answered.", code="ok"
        )
        for code, count in sorted(egress.errors.items()):
            out.counter(
                "dragoman_provider_replies_total",
                count,
                "Requests answered.",
                code=Code(code).name.lower().replace("_", "-"),
            )
        out.counter(
            "dragoman_provider_rejections_total",
            egress.rejections,
            "Requests that the provider rejected because its pool was exhausted.",
        )
        out.counter(
            "dragoman_provider_sent_again_total",
            egress.sent_again,
            "Rejections of requests within the limit that were put to the provider again.",
        )
        out.counter(
            "dragoman_provider_late_total",
            egress.late,
            "Replies that came after their deadline.",
        )
        out.gauge(
            "dragoman_provider_in_progress", egress.in_progress, "Requests at the provider now."
        )
        credits = self.pool.statistics()
        out.gauge("dragoman_provider_limit", credits["limit"], "Requests the provider may have.")
        out.gauge("dragoman_provider_credits", credits["granted"], "Credits granted to callers.")
        out.gauge("dragoman_provider_sessions", len(self.sessions), "Callers connected.")
        out.gauge(
            "dragoman_provider_connections",
            len(self.link.connections),
            "Connections to the provider.",
        )
        out.histogram("dragoman_provider_latency_seconds", egress.latency, "From request to reply.")
        add_registry_metrics(out, self._registry.statistics())
        return out

    async def status(self) -> dict[str, Any]:
        """Plain data for the status page."""
        return {
            "role": "provider",
            "listen": self._config.listen,
            "provider": self._config.provider,
            "interfaces": list(self._config.interface),
            "serialization": self.egress.serialization,
            "serialization_why": self._why_spoken(),
            "registry": self._registry.location,
            "ready": self.ready_reason() or True,
            "credits": self.pool.statistics(),
            "in_progress": self.egress.in_progress,
            "callers": [session.peer for session in self.sessions],
        }
