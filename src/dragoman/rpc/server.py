"""A server: listens, gives credits, and answers with the caller's own functions.

``rpc.serve`` makes one. All its clients share one pool of credits; what is in progress is bounded
by requests (``limit``) and by bytes (``bytes_max``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from dragoman.accepting import Acceptor
from dragoman.budget import Budget
from dragoman.errors import ConnectError
from dragoman.flow.credits import CreditPool
from dragoman.forking import foreign
from dragoman.opening import Drained
from dragoman.options import milliseconds
from dragoman.reasons import reason
from dragoman.rpc.address import Address
from dragoman.rpc.dispatch import Dispatcher
from dragoman.rpc.limits import held_bytes_max
from dragoman.rpc.options import ServerOptions
from dragoman.rpc.server_session import ServerSession
from dragoman.rpc.statistics import ServerStatistics
from dragoman.rpc.tick import tick_of

Function = Callable[[bytes], Any]


class Server(Drained):
    """Serves until it is closed. ``address`` is where it listens, with the port that it got."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        functions: Mapping[str, Function] | Function,
        options: ServerOptions,
    ) -> None:
        self._loop = loop
        self._tick = tick_of(loop)
        self._options = options
        self._pool = CreditPool(options.limit)
        self._executor = (
            ThreadPoolExecutor(options.threads, "dragoman-rpc") if options.threads else None
        )
        self._budget = Budget(held_bytes_max(options.buffers_bytes_max, options.body_bytes_max))
        self._dispatcher = Dispatcher(
            loop,
            dict(functions) if isinstance(functions, Mapping) else functions,
            bytes_max=options.bytes_max,
            executor=self._executor,
        )
        self._sessions: set[ServerSession] = set()
        self._listener: Acceptor | asyncio.Server | None = None
        self._connections = 0
        self._closed: asyncio.Future[None] = loop.create_future()
        self._closing = False
        self.address: Address = options.address

    def _session(self) -> ServerSession:
        self._connections += 1
        return ServerSession(
            self._loop,
            self._dispatcher,
            self._pool,
            self._sessions,
            body_bytes_max=self._options.body_bytes_max,
            heartbeat_s=self._options.heartbeat_ms / 1000,
            sessions_max=self._options.clients_max,
            budget=self._budget,
        )

    async def start(self) -> None:
        """Listen; used by ``rpc.serve``. Raises ConnectError when the address cannot be had."""
        options = self._options
        try:
            self._listener, self.address = await options.address.listen(
                self._loop,
                self._session,
                options.tls,
                reuse_port=options.reuse_port,
            )
        except OSError as error:
            raise ConnectError(f"cannot listen on {options.address}: {reason(error)}") from None

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or is being closed."""
        return self._closing

    def __repr__(self) -> str:
        if self.foreign:
            state = "of another process"
        elif self._closing:
            state = "closed" if self._closed.done() else "closing"
        else:
            state = (
                f"listening, {len(self._sessions)} clients,"
                f" {self._dispatcher.in_progress} requests in progress"
            )
        return f"<Server {self.address}, {state}>"

    @property
    def foreign(self) -> bool:
        """Whether it belongs to the process that this one was forked from."""
        return self._tick.foreign

    def check_mine(self) -> None:
        """Raise UsageError where it must not be used."""
        self._tick.check(f"the server at {self.address}")

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        self.check_mine()
        await asyncio.shield(self._closed)

    async def close(self, *, drain_ms: int = 10_000) -> None:
        """Take no new clients and no new requests; answer what is in progress, for ``drain_ms``
        milliseconds at most; then close every connection."""
        milliseconds("drain_ms", drain_ms)
        if self.foreign:
            return
        if self._closed.done():
            return
        self.check_mine()
        if self._closing:
            await asyncio.shield(self._closed)
            return
        self._closing = True
        self._dispatcher.closing = True
        if self._listener is not None:
            self._listener.close()
        try:
            if drain_ms:
                # Clients close when their last request is answered.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(drain_ms / 1000):
                        while self._sessions or self._dispatcher.in_progress:
                            # Also to those that connected a moment ago.
                            for session in list(self._sessions):
                                session.goodbye()
                            await asyncio.sleep(0.005)
        finally:
            # Also when whoever closes the server waits no longer.
            for session in list(self._sessions):
                session.goodbye()
                session.close()
            if self._executor is not None:
                self._executor.shutdown(wait=False, cancel_futures=True)
            if not self._closed.done():
                self._closed.set_result(None)

    def set_limit(self, limit: int) -> None:
        """From now on take ``limit`` requests at once; raises UsageError for what is no limit."""
        self.check_mine()
        self._pool.set_limit(replace(self._options, limit=limit).limit)

    def statistics(self) -> ServerStatistics:
        """The server's counters now."""
        if self.foreign:
            raise foreign(f"the server at {self.address}")
        pool = self._pool.statistics()
        return ServerStatistics(
            clients=len(self._sessions),
            connections=self._connections,
            requests=self._dispatcher.requests,
            errors=self._dispatcher.errors,
            in_progress=self._dispatcher.in_progress,
            bytes=self._dispatcher.bytes,
            limit=pool["limit"],
            granted=pool["granted"],
            buffers_bytes=self._budget.used,
        )
