"""``serve``: a ``QueueStore`` for other processes, listening and registered.

The invariant: a server that is closed in order has answered what it took, and its store holds it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dragoman import rpc
from dragoman.broker.messages import DEFAULT_NAME, REQUEST_BYTES_MAX
from dragoman.broker.server import StoreService
from dragoman.errors import UsageError
from dragoman.queue import QueueStore
from dragoman.rpc.address import Address
from dragoman.rpc.options import MIB

if TYPE_CHECKING:
    from dragoman.cluster import RegisteredServer
    from dragoman.registry import Registry


class BrokerServer:
    """A store that is served. ``address`` is where it listens. The store stays its owner's."""

    def __init__(self, service: StoreService, server: rpc.Server | RegisteredServer) -> None:
        self._service = service
        self._server = server
        self.address: Address = server.address

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

    async def __aenter__(self) -> BrokerServer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(drain_ms=10_000 if kind is None else 0)


async def serve(
    store: QueueStore,
    address: str | Address,
    *,
    registry: str | Registry | None = None,
    name: str = DEFAULT_NAME,
    limit: int = 10_000,
    bytes_max: int = 64 * MIB,
    **options: Any,
) -> BrokerServer:
    """Serve ``store`` on ``address`` (``host:port``, port 0 for any; or ``unix:/path``); close the
    server when done with it, or use it in ``async with``, and then the store.

    - ``registry``: where to register it as ``name``, so that ``open_store`` finds it: a URL, or an
      open Registry, which stays the caller's. One name is one store: do not register two.
    - ``limit``: requests taken at once; half of them may wait for messages to come.
    - ``bytes_max``: while the requests in progress are more than this, clients that send more are
      not read. In memory small messages take up to fifteen times that.
    - The other ``options`` are those of ``rpc.serve``, or with a registry of ``cluster.serve``.

    Raises ConnectError when the address cannot be listened on, RegistryError when it is not
    registered in time, UsageError for options out of range.
    """
    if not isinstance(store, QueueStore):
        raise UsageError(f"serve: expected a QueueStore, not {type(store).__name__}")
    service = StoreService(store, waiters_max=max(1, limit // 2))
    options = {"body_bytes_max": REQUEST_BYTES_MAX, **options}
    handlers = service.handlers()
    server: rpc.Server | RegisteredServer
    try:
        if registry is None:
            server = await rpc.serve(handlers, address, limit=limit, bytes_max=bytes_max, **options)
        else:
            # Late, since it takes a while and few need it: registries speak HTTP.
            from dragoman import cluster

            server = await cluster.serve(
                handlers,
                address,
                name=name,
                registry=registry,
                limit=limit,
                bytes_max=bytes_max,
                **options,
            )
    except (asyncio.CancelledError, Exception):
        await service.close()
        raise
    return BrokerServer(service, server)
