"""A connection that is kept: connects, waits until it is lost, backs off, connects again.

One link a loop and endpoint. What the connection carries is the protocol's business: the link is
given a factory of protocols, and is told through ``lost`` when one has ended. Used by ``cluster``
for mesh sessions and by ``dubbo`` for connections to a provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from dragoman.reasons import reason
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff

CONNECT_TIMEOUT_S = 3.0


class Link:
    """Keeps one connection to ``address`` while started.

    ``factory`` makes the protocol of each connection; ``on_down(reason)`` hears of every attempt
    that failed. A connection counts as held, and the backoff starts anew, when the protocol calls
    ``held()``. The protocol must call ``lost()`` exactly once when its connection has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        factory: Callable[[], asyncio.BaseProtocol],
        on_down: Callable[[str], None],
        backoff: Backoff | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        self._loop = loop
        self._address = address
        self._tls = tls
        self._server_hostname = server_hostname
        self._factory = factory
        self._on_down = on_down
        self._backoff = backoff or Backoff()
        self._task: asyncio.Task[None] | None = None
        # What it waits for: futures, since there may be thousands of links and events are large.
        self._gone: asyncio.Future[None] | None = None
        self._pause: asyncio.Future[None] | None = None
        self._hurried = False
        self.transport: asyncio.BaseTransport | None = None
        self.attempts = 0
        self.connect_timeout_s = CONNECT_TIMEOUT_S

    def start(self) -> None:
        """Begin connecting; returns at once."""
        if self._task is None:
            self._task = self._loop.create_task(self._keep())

    def held(self) -> None:
        """The connection works: the next loss starts with the least delay."""
        self._backoff.reset()

    def lost(self) -> None:
        """The current connection has ended."""
        self.transport = None
        _end(self._gone)

    def hurry(self) -> None:
        """Try again now rather than after the backoff."""
        self._backoff.reset()
        self._hurried = True
        _end(self._pause)

    @property
    def stopped(self) -> bool:
        """Whether no connection is kept."""
        return self._task is None

    def abandon(self) -> None:
        """Connect no more; the current connection is left to its protocol."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Stop keeping the connection; the current one is left to its protocol."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self) -> None:
        while True:
            gone = self._gone = self._loop.create_future()
            self._hurried = False
            self.attempts += 1
            try:
                async with asyncio.timeout(self.connect_timeout_s):
                    self.transport = await self._address.connect(
                        self._loop, self._factory, self._tls, self._server_hostname
                    )
            except TimeoutError:
                self._on_down(f"no connection within {self.connect_timeout_s:g} s")
            except OSError as error:
                self._on_down(reason(error))
            except ValueError:
                if self._tls is not None and not self._server_hostname:
                    self._on_down("TLS needs a server_hostname to check here")
                else:
                    self._on_down("a host name that can be none")
            except Exception as error:
                # A fault of ours or of the loop's: who waits for a connection is to hear of it.
                self._on_down(f"{type(error).__name__}: {error}")
            else:
                await gone
            if not self._hurried:
                pause = self._pause = self._loop.create_future()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._backoff.next_s()):
                        await pause


def _end(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
