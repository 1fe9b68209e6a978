"""The synchronous pool: blocking calls from any thread, over all servers of a service.

``connect_sync`` makes one. A ``Pool`` lives on a loop of its own in a thread of its own (a daemon,
see ``rpc.loop_thread``), and the calls are those of ``rpc.blocking``.

Invariants: every call ends once, at the latest when the pool is closed; the thread ends with
``close``, with the last reference to the pool, or with the interpreter.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from dragoman.cluster.pool import Pool
from dragoman.cluster.pools import CONNECT_TIMEOUT_MS, PoolOptions, open_pool
from dragoman.cluster.statistics import PoolStatistics
from dragoman.errors import UnavailableError, UsageError
from dragoman.rpc.address import Address
from dragoman.rpc.blocking import BlockingCalls
from dragoman.rpc.limits import Limits
from dragoman.rpc.loop_thread import LoopThread


def connect_sync(
    name: str,
    *,
    registry: str | None = None,
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
) -> SyncPool:
    """Connect to all servers of the service ``name`` for blocking calls from any thread; close the
    pool when done with it, or use it in ``with``.

    The options are those of ``connect``, and so are the errors raised. ``registry`` is a URL: an
    open Registry belongs to another loop.
    """
    if registry is not None and not isinstance(registry, str):
        raise UsageError(f"registry: expected a URL, not {type(registry).__name__}")
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
    return SyncPool(options)


class _LatePool:
    """A pool that is made on the loop's own thread, where it belongs."""

    def __init__(self, options: PoolOptions, create_future: Callable[[], Any]) -> None:
        self._options = options
        self._create_future = create_future
        self.pool: Pool | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self, timeout_ms: int) -> None:
        """Make the pool, and connect."""
        self._opening = asyncio.current_task()
        pool = self.pool = await open_pool(self._options, self._create_future)
        # What the inbox calls: the pool's own, without a step between.
        self.call, self.call_many, self.notify = pool.call, pool.call_many, pool.notify

    async def close(self, *, drain_ms: int) -> None:
        """Close the pool; or end its opening, which nobody waits for any more."""
        if self.pool is not None:
            await self.pool.close(drain_ms=drain_ms)
        elif self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])


class SyncPool(BlockingCalls[_LatePool]):
    """All servers of one service, for blocking calls; get one from ``cluster.connect_sync``.
    Thread-safe.

    After a fork it belongs to the parent: in the child every call raises UsageError, and the child
    connects anew.
    """

    def __init__(self, options: PoolOptions) -> None:
        self.name = name = options.name

        def make(loop: asyncio.AbstractEventLoop, create_future: Callable[[], Any]) -> _LatePool:
            return _LatePool(options, create_future)

        core = LoopThread(
            name,
            make,
            what=f"the pool of {name}",
            refusal=lambda: UnavailableError(f"{name} is closed here"),
        )
        self._start(core, options.connect_timeout_ms)

    @property
    def _pool(self) -> Pool:
        pool = self._core.client.pool
        assert pool is not None
        return pool

    def __repr__(self) -> str:
        return f"<SyncPool {self.name}, {'closed' if self.closed else self._pool._told()}>"

    def statistics(self) -> PoolStatistics:
        """The pool's counters now."""
        return self._pool.statistics()
