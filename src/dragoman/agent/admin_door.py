"""The connections of the admin port: few, with deadlines, and from descriptors of their own.

Whoever can reach the admin port must not be able to harm what the agent is for, nor keep out who
watches it. Used by ``agent.admin``; the pages are served by aiohttp's protocol, which this one
stands before.

Invariants: at most ``CONNECTIONS_MAX`` are open (fewer where descriptors are few), and the
descriptors of as many are held in reserve from the start, so that pages answer while the agent has
no descriptor left; a connection that sends no whole request in time ends, and at once when others
wait. aiohttp is given one request of a connection at a time, the next when the page before it is
made and taken, and of all that wait so one in each tick of the loop: whoever sends thousands at
once, or reads nothing, costs the agent no more than any other, and who comes then is heard first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections import deque
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
# Where a request ends: those for pages have no body.
HEAD_END: Final = b"\r\n\r\n"


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
        self._asking: deque[_Connection] = deque()
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

    def _freed(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._look()
        else:
            self._refill()

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

    def ask(self, connection: _Connection) -> None:
        """A connection has one more request, for some later turn."""
        if not self._asking:
            self._loop.call_soon(self._next)
        self._asking.append(connection)

    def _next(self) -> None:
        """The turn of the one that has waited longest."""
        self._asking.popleft().go_on()
        if self._asking:
            self._loop.call_soon(self._next)

    def came(self, connection: _Connection) -> None:
        """A connection is there."""
        self._known[connection.inner] = connection

    def left(self, connection: _Connection) -> None:
        """A connection is gone."""
        if self._known.pop(connection.inner, None) is not None:
            self._accepted -= 1
            # Its descriptor is free a tick later.
            self._loop.call_soon(self._freed)


class _Connection(asyncio.Protocol):
    """Stands before aiohttp's ``inner`` protocol, knows how long its client may take, and holds
    back what comes beyond the request that is being answered."""

    def __init__(self, door: AdminDoor, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._door = door
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._begun = True
        # What aiohttp has not been given yet; the last bytes that it was; whether it owes a page.
        self._held = b""
        self._tail = b""
        self._owes = False
        self._waits = False
        self._unread = False
        self._ended = False
        self.inner = inner
        self.busy = False
        self.since_s = loop.time()
        self.until_s = self.since_s + HEAD_S

    def begin(self, until_s: float) -> None:
        """A whole request is there."""
        self.busy = self._owes = True
        self.until_s = until_s

    def rest(self, until_s: float) -> None:
        """Its page is made."""
        self.busy = self._begun = False
        if not self._held:
            # Who has more to ask than its turn makes room like one who asks for nothing.
            self.since_s = self._loop.time()
        self.until_s = until_s
        self._queue()

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
        self._held = b""
        self._door.left(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._begun and not self.busy:
            # The head of one more request: from now on it is to come soon.
            self._begun = True
            self.since_s = self._loop.time()
            self.until_s = self.since_s + HEAD_S
        if self._owes:
            self._held += data
            self._read_on(False)
        else:
            self._give(data)

    def _give(self, data: bytes) -> None:
        """Pass on what there is of one request, and hold back what follows it."""
        before = len(self._tail)
        end = (self._tail + data).find(HEAD_END)
        if end < 0:
            self._tail = (self._tail + data)[1 - len(HEAD_END) :]
        else:
            end += len(HEAD_END) - before
            data, self._held = data[:end], data[end:]
            self._tail = b""
            self._owes = True
        self._read_on(not self._held)
        self.inner.data_received(data)

    def _queue(self) -> None:
        """Be asked to go on, once the page is made and what was sent before has been taken."""
        if self._owes and not self._waits and not self.busy and not self._unread:
            self._waits = True
            self._door.ask(self)

    def go_on(self) -> None:
        """The next request, if there is any."""
        self._waits = False
        if self._transport is None or self.busy or self._unread:
            return  # gone, or asks again when its client has read
        self._owes = False
        data, self._held = self._held, b""
        if data:
            self._give(data)
        elif self._ended:
            self._transport.close()
        else:
            self._read_on(True)

    def _read_on(self, wanted: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() == wanted:
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def eof_received(self) -> Any:
        self._ended = True
        self.inner.eof_received()
        # Who asks for nothing more is still told what it has asked for.
        return self._owes

    def pause_writing(self) -> None:
        self._unread = True
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._unread = False
        self.inner.resume_writing()
        self._queue()
