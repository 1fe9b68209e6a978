"""``serve``: a ``QueueStore`` for other processes, listening and registered.

The invariant: a server that is closed in order has answered what it took, and its store holds it.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
from typing import TYPE_CHECKING, Any

from dragoman import rpc
from dragoman.broker.messages import DEFAULT_NAME, REQUEST_BYTES_MAX
from dragoman.broker.server import StoreService
from dragoman.errors import UsageError
from dragoman.opening import Drained, opening
from dragoman.queue import QueueStore
from dragoman.rpc.address import Address
from dragoman.rpc.limits import MIB
from dragoman.unclosed import unwatch, watch

if TYPE_CHECKING:
    from dragoman.cluster import RegisteredServer
    from dragoman.registry import Registry


class BrokerServer(Drained):
    """A store that is served. ``address`` is where it listens. The store stays its owner's."""

    def __init__(self, service: StoreService, server: rpc.Server | RegisteredServer) -> None:
        self._service = service
        self._server = server
        self.address: Address = server.address

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or is being closed."""
        return self._server.closed

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        await self._server.serve_forever()

    def statistics(self) -> rpc.ServerStatistics:
        """The RPC server's counters now."""
        return self._server.statistics()

    async def close(self, *, drain_ms: int = 10_000) -> None:
        """Deregister, take nothing new, answer what is in progress, for ``drain_ms`` milliseconds
        at most. The store is not closed; nothing of this server uses it any more."""
        self._service.stop_waiting()
        await self._server.close(drain_ms=drain_ms)
        await self._service.close()

    def __repr__(self) -> str:
        return f"<BrokerServer of {self._service._store!r} on {self.address}>"


@opening
async def serve(
    store: QueueStore,
    address: str | Address,
    *,
    registry: str | Registry | None = None,
    name: str = DEFAULT_NAME,
    limit: int = 10_000,
    bytes_max: int = 64 * MIB,
    buffers_bytes_max: int = 256 * MIB,
    clients_max: int = 100_000,
    body_bytes_max: int = REQUEST_BYTES_MAX,
    heartbeat_ms: int = 5000,
    reuse_port: bool = False,
    tls: ssl.SSLContext | None = None,
    advertise: str | None = None,
    weight: int = 1,
    group: str = "",
    version: str = "",
    zone: str = "",
    lease_ttl_s: int = 10,
    register_timeout_ms: int = 5000,
) -> BrokerServer:
    """Serve ``store`` on ``address`` (``host:port``, port 0 for any; or ``unix:/path``); close the
    server when done with it, or use it in ``async with``, and then the store.

    - ``registry``: where to register it as ``name``, so that ``open_store`` finds it: a URL, or an
      open Registry, which stays the caller's. One name is one store: do not register two.
    - ``limit``: requests taken at once; half of them may wait for messages to come.
    - ``bytes_max``: while the requests in progress are more than this, clients that send more are
      not read. In memory small messages take up to fifteen times that.
    - ``buffers_bytes_max``, ``clients_max``, ``body_bytes_max`` (the longest request taken),
      ``heartbeat_ms``, ``reuse_port`` and ``tls``: see ``rpc.serve``.
    - ``advertise`` and what follows are about the registry: see ``cluster.serve``.

    Raises ConnectError when the address cannot be listened on, RegistryError when it is not
    registered in time, UsageError for options out of range.
    """
    if not isinstance(store, QueueStore):
        raise UsageError(f"serve: expected a QueueStore, not {type(store).__name__}")
    listening: dict[str, Any] = {
        "limit": limit,
        "bytes_max": bytes_max,
        "buffers_bytes_max": buffers_bytes_max,
        "clients_max": clients_max,
        "body_bytes_max": body_bytes_max,
        "heartbeat_ms": heartbeat_ms,
        "reuse_port": reuse_port,
        "tls": tls,
    }
    registering: dict[str, Any] = {
        "advertise": advertise,
        "weight": weight,
        "group": group,
        "version": version,
        "zone": zone,
        "lease_ttl_s": lease_ttl_s,
        "register_timeout_ms": register_timeout_ms,
    }
    if registry is None:
        for option, value in registering.items():
            if value != _DEFAULTS[option].default:
                raise UsageError(f"{option} is for the registry: say which one, by registry=")
    else:
        listening |= {"registry": registry, "name": name, **registering}
    service = StoreService(store, waiters_max=max(1, limit // 2))
    try:
        server = await _listen(service, address, listening)
    except (asyncio.CancelledError, Exception):
        await service.close()
        raise
    served = BrokerServer(service, server)
    unwatch(server)
    watch(served)
    return served


async def _listen(
    service: StoreService, address: str | Address, options: dict[str, Any]
) -> rpc.Server | RegisteredServer:
    if "registry" not in options:
        return await rpc.serve(service.handlers(), address, **options)
    # Late, since it takes a while and few need it: registries speak HTTP.
    from dragoman import cluster

    return await cluster.serve(service.handlers(), address, **options)


_DEFAULTS = inspect.signature(serve).parameters
