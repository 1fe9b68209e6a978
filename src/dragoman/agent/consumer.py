"""The consumer's agent: HTTP in, mesh out, or Dubbo itself to providers without an agent.

One of these runs on each worker's loop.

It follows the registry, serves HTTP on the listening address, and reports itself. Started by
``agent.runtime`` from a ``ConsumerConfig``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from dragoman.accepting import ACCEPTS_A_TICK, Acceptor
from dragoman.agent.access import Access
from dragoman.agent.bounds import (
    MemoryGuard,
    connections_allowed,
    hold_within,
    memory_bytes_max,
)
from dragoman.agent.config import ConsumerConfig
from dragoman.agent.consumer_metrics import snapshot
from dragoman.agent.ingress import Ingress, IngressConnection, Limits
from dragoman.agent.listening import BACKLOG, listening_socket, shares_port
from dragoman.agent.published import PublishedTypes
from dragoman.cluster.directory import Directory
from dragoman.cluster.options import NO_IDENTITY, Options
from dragoman.cluster.peer import peers_of
from dragoman.dubbo.upstream.direct import PROTOCOL, DirectProviders
from dragoman.errors import RegistryError
from dragoman.observe.metrics import Snapshot
from dragoman.registry.base import Registry, Watch
from dragoman.registry.changes import Change
from dragoman.registry.static import StaticRegistry
from dragoman.registry.url import open_registry

READY_POLL_S = 0.02
# With every so many more entries than ever before their objects are taken from the collector.
FREEZE_ENTRIES = 1000
# A kept connection that nothing comes on for this part of the drain is let go of: a client that
# meant to use it would have, or is so slow that it hardly sends just now.
QUIET_SHARE = 4


class ConsumerAgent:
    """Serves HTTP callers on one loop. ``start``, then ``drain`` when it is time to stop.

    ``share`` is the number of this worker and how many there are, ``identity`` the agent's to those
    that it calls: the same in all its workers. ``sockets``, if there are any, are what it listens
    on, as soon as it knows who serves what. ``registry`` is an open one, the caller's, in place of
    that of ``config``.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        reuse_port: bool = False,
        share: tuple[int, int] = (0, 1),
        sockets: Sequence[socket.socket] = (),
        identity: bytes = NO_IDENTITY,
        registry: Registry | None = None,
    ) -> None:
        self._config = config
        self._reuse_port = reuse_port
        self._given = list(sockets)
        self._memory_bytes_max = memory_bytes_max(config.memory_mib_max, share[1])
        self._loop = asyncio.get_running_loop()
        self._owned = registry is None
        self._registry: Registry = open_registry(config.registry) if registry is None else registry
        self._watch: Watch | None = None
        self.providers = DirectProviders(
            self._loop, share=share, dialer=peers_of(self._loop).dialer
        )
        self.directory = Directory(
            self._loop,
            Options(
                policy=config.policy,
                queue_max=config.queue_max,
                body_bytes_max=max(config.body_bytes_max * 2, 16 << 20),
                identity=identity,
                links={PROTOCOL: self.providers.link},
            ),
            catch_all=isinstance(self._registry, StaticRegistry),
        )
        self._published = PublishedTypes(self._loop, self._registry)
        self.ingress = Ingress(
            self._loop,
            self.directory,
            Limits(
                head_bytes_max=config.head_bytes_max,
                body_bytes_max=config.body_bytes_max,
                connections_max=connections_allowed(config.connections_max),
                timeout_ms=config.timeout_ms,
                request_timeout_ms=config.header_timeout_ms,
                body_timeout_ms=config.body_timeout_ms,
                body_rate_min=config.body_rate_min,
                idle_timeout_ms=config.idle_timeout_ms,
            ),
            self._published.signature,
            Access(config.allow_host, config.allow_origin, config.allow_get),
        )
        self._memory = MemoryGuard(self._loop, self._memory_bytes_max, self.ingress.shed)
        self._acceptor: Acceptor | None = None
        self._opening: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self.port = 0
        self._entries = 0
        self._frozen = 0
        self.draining = False

    async def start(self) -> None:
        """Listen and follow the registry; raises UsageError when the address cannot be used."""
        waits = self._reuse_port or bool(self._given)
        if not waits:
            self._listen()  # before anybody is asked or told anything
        watch = self._registry.watch_services(self._listed, self.directory.complete)
        self._watch = watch
        self.directory.why_unread = lambda: watch.why_unread
        hold_within(self._memory_bytes_max)
        self._memory.start()
        if waits:
            self._opening = self._loop.create_task(self._listen_when_known())

    def _listed(self, changes: list[Change]) -> None:
        self.directory.change(changes)
        self._published.change(changes)
        self.changed.set()
        for before, now in changes:
            self._entries += (now is not None) - (before is not None)
        if self._entries >= self._frozen + FREEZE_ENTRIES:
            # A full collection looks at every object and would stop the loop for a third of a
            # second with a hundred thousand entries. What serves them lets go of itself.
            self._frozen = self._entries
            gc.collect(1)
            gc.freeze()

    async def _listen_when_known(self) -> None:
        """A worker that was started again while etcd is away has no list, but its fellows have:
        as long as it does not listen, connections go to them. So it is with an agent that takes
        another's place; and to a socket that somebody else holds clients wait in the queue."""
        while self.directory.ready_reason() is not None:
            await asyncio.sleep(READY_POLL_S)
        self._listen()

    def _listen(self) -> None:
        listeners = self._given
        a_tick = ACCEPTS_A_TICK
        for each in listeners:
            each.listen(BACKLOG)
            if self._reuse_port and not shares_port(each):
                a_tick = 1  # all workers accept from it: leave the next to the others
        if not listeners:
            listeners = [listening_socket(self._config.listen, reuse_port=self._reuse_port)]
        self.port = listeners[0].getsockname()[1]
        connection = partial(IngressConnection, self.ingress)
        self._acceptor = Acceptor(self._loop, listeners, connection, a_tick=a_tick)
        self._acceptor.start()
        self.changed.set()

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on, or will."""
        return self._acceptor.sockets if self._acceptor is not None else self._given

    def ready_reason(self) -> str | None:
        """None when requests can be served, else why not."""
        if self.draining:
            return "draining"
        if self._opening is not None and self._opening.done():
            self._opening.result()  # a port that cannot be listened on ends the worker
        reason = self.directory.ready_reason()
        if reason is None and self._acceptor is None:
            return "not listening yet"
        return reason

    async def drain(self) -> None:
        """Accept nothing new, answer what still comes on the connections that are there, telling
        clients to close them, and end when they have, or are silent, or after ``drain_ms``."""
        self.draining = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._acceptor is not None:
            self._acceptor.close(rest=True)
        for each in self._given:
            each.close()
        self.ingress.drain()
        quiet_ms = self._config.drain_ms // QUIET_SHARE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_ms / 1000):
                # What has just been accepted is known a few ticks of the loop later.
                await asyncio.sleep(READY_POLL_S)
                while self.ingress.connections:
                    self.ingress.close_silent(quiet_ms)
                    await asyncio.sleep(READY_POLL_S)
        self.ingress.abort()
        self._memory.stop()
        # First, since what is told of yet would be connected to.
        if self._watch is not None:
            await self._watch.close()
        await self._published.close()
        await self.directory.close()
        await self.providers.close()
        if self._owned:
            with contextlib.suppress(RegistryError):
                await self._registry.close()

    async def snapshot(self) -> Snapshot:
        """The agent's metrics."""
        return await snapshot(self.ingress, self.directory, self._registry)

    async def status(self) -> dict[str, Any]:
        """Plain data for the status page."""
        return {
            "role": "consumer",
            "listen": self._config.listen,
            "policy": self._config.policy,
            "registry": self._registry.location,
            "ready": self.ready_reason() or True,
            "services_known": len(self.directory.services),
            "services": await self.directory.status(),
            "providers": self.providers.status(),
        }
