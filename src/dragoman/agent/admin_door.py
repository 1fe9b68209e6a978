"""The connections of the admin port: few, with deadlines, and from descriptors of their own.

Whoever can reach the admin port must not be able to harm what the agent is for, nor keep out who
watches it. Used by ``agent.admin``; the pages are served by aiohttp's protocol, which this one
stands before.

Invariants: at most ``CONNECTIONS_MAX`` are open (fewer where descriptors are few), and the
descriptors of as many are held in reserve from the start, so that pages answer while the agent has
no descriptor left; a connection that sends no whole request in time ends, and at once when others
wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from dragoman.accepting import Acceptor

CONNECTIONS_MAX: Final = 32
# At most one of so many descriptors that the process may have.
SHARE: Final = 16
# For a request's head; for the next request of a connection; for a page.
HEAD_S: Final = 5.0
IDLE_S: Final = 90.0
PAGE_S: Final = 30.0
# A client sends its request as soon as it is connected: beyond this it keeps others out.
PATIENCE_S: Final = 0.05
SWEEP_S: Final = 0.5


class AdminDoor(Acceptor):
    """Accepts on ``sock`` with protocols of ``pages``, aiohttp's server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        pages: Callable[[], Any],
    ) -> None:
        super().__init__(loop, [sock], self._connection)
        self._pages = pages
        self._known: dict[object, _Connection] = {}
        self._spare: list[int] = []
        self._accepted = 0
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A process with few descriptors needs them for its work.
        self._most = CONNECTIONS_MAX if soft < 0 else min(CONNECTIONS_MAX, max(2, soft // SHARE))
        self._sweep: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._refill()
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._look_after)
        super().start()

    def close(self, *, rest: bool = False) -> None:
        """Listen no longer; aiohttp closes the connections."""
        super().close(rest=rest)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._spare:
            os.close(self._spare.pop())

    @contextlib.contextmanager
    def request(self, protocol: object) -> Iterator[None]:
        """While a page is made for a request of aiohttp's ``protocol``."""
        connection = self._known.get(protocol)
        if connection is not None:
            connection.begin(self._loop.time() + PAGE_S)
        try:
            yield
        finally:
            if connection is not None:
                connection.rest(self._loop.time() + IDLE_S)

    def _connection(self) -> _Connection:
        return _Connection(self, self._pages(), self._loop)

    def _refill(self) -> bool:
        """Hold the descriptors of those that may still come; whether there is any."""
        while self.sockets and len(self._spare) + self._accepted < self._most:
            try:
                self._spare.append(os.dup(self.sockets[0].fileno()))
            except OSError:
                break
        return bool(self._spare)

    def _take(self, sock: socket.socket, most: int) -> bool:
        for _ in range(most):
            if not self._refill():
                self._hurry()
                return False
            # The lowest that is free is the next connection's.
            os.close(self._spare.pop())
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                self._refill()
                return True
            except OSError:
                self._refill()
                return False
            self._accepted += 1
            self._open(connection)
        return True

    def _opened(self, task: asyncio.Task[Any], connection: socket.socket) -> None:
        super()._opened(task, connection)
        if task.cancelled() or task.exception() is not None:
            self._accepted -= 1

    def _room(self) -> bool:
        self._hurry()
        return self._refill()

    def _tell_pause(self) -> None:
        """Nothing: it is full for a moment, and whoever waits is heard next."""

    def _hurry(self) -> None:
        """Others wait: whoever asks for nothing makes room."""
        now_s = self._loop.time()
        for each in list(self._known.values()):
            if not each.busy and now_s - each.since_s > PATIENCE_S:
                each.end()

    def _look_after(self) -> None:
        now_s = self._loop.time()
        for each in list(self._known.values()):
            if now_s > each.until_s:
                each.end()
        self._sweep = self._loop.call_later(SWEEP_S, self._look_after)

    def came(self, connection: _Connection) -> None:
        """A connection is there."""
        self._known[connection.inner] = connection

    def left(self, connection: _Connection) -> None:
        """A connection is gone."""
        if self._known.pop(connection.inner, None) is not None:
            self._accepted -= 1
            # Its descriptor is free a turn later.
            self._loop.call_soon(self._refill)


class _Connection(asyncio.Protocol):
    """Stands before aiohttp's ``inner`` protocol and knows how long its client may take."""

    def __init__(self, door: AdminDoor, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._door = door
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._begun = True
        self.inner = inner
        self.busy = False
        self.since_s = loop.time()
        self.until_s = self.since_s + HEAD_S

    def begin(self, until_s: float) -> None:
        """A whole request is there."""
        self.busy = True
        self.until_s = until_s

    def rest(self, until_s: float) -> None:
        """Its page is made."""
        self.busy = self._begun = False
        self.since_s = self._loop.time()
        self.until_s = until_s

    def end(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._door.came(self)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.left(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._begun and not self.busy:
            # The head of one more request: from now on it is to come soon.
            self._begun = True
            self.since_s = self._loop.time()
            self.until_s = self.since_s + HEAD_S
        self.inner.data_received(data)

    def eof_received(self) -> Any:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()
