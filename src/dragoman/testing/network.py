"""Connections that delay, split, jam, break and fall silent, as the seed and the test say.

Bytes of one direction of one connection keep their order; everything else may be reordered by the
delays. A connection behaves like a TCP connection under asyncio: what was written before ``close``
still arrives, ``abort`` resets, a full buffer pauses the writer, a paused reader fills the buffer.
Any name is a host: there is no name resolution, and no TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

# Bytes unread by the other end at which a writer pauses, and at which it goes on: asyncio's own.
HIGH_WATER = 65536
LOW_WATER = 16384
# Names of all addresses of a host.
ANY_HOST = (None, "", "0.0.0.0", "::")


class Network:
    """All listeners and connections of one loop.

    The faults may be set at any time, and hold for whatever is written from then on:

    - ``delay_s``: least and greatest time that a piece of data takes, in seconds; each is drawn.
    - ``piece_bytes_max``: a write arrives in pieces of 1 to so many bytes; None: whole.
    - ``connections``: every ``Connection`` that was ever made, the oldest first, to ``reset``,
      ``jam`` or silence.
    """

    def __init__(self, loop: Any, source: random.Random) -> None:
        self._loop = loop
        self._random = source
        self._listeners: dict[tuple[str, int], Callable[[], Any]] = {}
        self.delay_s = (0.0001, 0.002)
        self.piece_bytes_max: int | None = None
        self.connections: list[Connection] = []
        self._last_port = 40000
        self._trace = hashlib.sha256()

    def listen(self, host: str, port: int, factory: Callable[[], Any]) -> None:
        """Accept connections to ``host:port`` with protocols of ``factory``."""
        self._listeners[host, port] = factory

    def serve(self, factory: Callable[[], Any], host: str | None, port: int) -> Listener:
        """As ``loop.create_server``; port 0 is any that is free. Raises OSError for one in use."""
        if host is None or host in ANY_HOST:
            host = ""
        while port == 0 or (host, port) in self._listeners:
            if port:
                raise OSError(98, "Address already in use")
            self._last_port += 1
            port = self._last_port
        self.listen(host, port, factory)
        return Listener(self, host, port)

    def refuse(self, host: str, port: int) -> None:
        """Accept no more connections to ``host:port``; those that are there stay."""
        del self._listeners[host, port]

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[End, Any]:
        """As ``loop.create_connection``; raises ConnectionRefusedError where nobody listens."""
        await asyncio.sleep(self.delay())
        accept = self._listeners.get((host, port)) or self._listeners.get(("", port))
        if accept is None:
            raise ConnectionRefusedError(111, "Connection refused")
        connection = Connection(self, self._loop, (host, port))
        self.connections.append(connection)
        client, server = connection.client, connection.server
        client.protocol = factory()
        client.protocol.connection_made(client)
        self._loop.call_later(self.delay(), server.accepted, accept)
        return client, client.protocol

    def delay(self) -> float:
        """The next delay in seconds, drawn from ``delay_s``."""
        return self._random.uniform(*self.delay_s)

    def pieces(self, data: bytes) -> list[bytes]:
        """``data`` as it will arrive."""
        if self.piece_bytes_max is None:
            return [data]
        found = []
        while data:
            n = self._random.randint(1, self.piece_bytes_max)
            found.append(data[:n])
            data = data[n:]
        return found

    def delivered(self, end: End, data: bytes) -> None:
        """Note it in the trace."""
        number = self.connections.index(end.connection)
        self._trace.update(f"{self._loop.time():.9f} {number} {end.name} ".encode() + data)

    def trace(self) -> str:
        """A hash over all that was delivered up to now, and when: runs of one seed agree on it."""
        return self._trace.hexdigest()


class Listener:
    """As much of an ``asyncio.Server`` as servers look at; its connections outlive it."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._network = network
        self._address = (host, port)
        self.sockets = [self]
        self._open = True

    def getsockname(self) -> tuple[str, int]:
        """Host and port."""
        return self._address

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._open

    async def wait_closed(self) -> None:
        """Return at once: nothing of a closed one is left."""

    def close(self) -> None:
        """Accept no more connections."""
        if self._open:
            self._open = False
            self._network.refuse(*self._address)


class Connection:
    """Two ends, ``client`` and ``server``. ``to`` is the address that was connected to."""

    def __init__(self, network: Network, loop: Any, to: tuple[str, int]) -> None:
        self.network = network
        self.to = to
        self.silent = False
        port = 50000 + len(network.connections)
        self.client = End("client", self, loop, peername=to)
        self.server = End("server", self, loop, peername=("10.0.0.1", port))
        self.client.other, self.server.other = self.server, self.client

    def reset(self) -> None:
        """Break the connection: both ends hear of it at once, what was under way is lost."""
        for end in (self.client, self.server):
            end.broken(ConnectionResetError(104, "Connection reset by peer"))

    def fall_silent(self) -> None:
        """Swallow all data from now on, either way; neither end is told."""
        self.silent = True

    def jam(self, end: End) -> None:
        """Have ``end`` (``client`` or ``server``) stop reading, as a program does that hangs."""
        end.hung = True

    def unjam(self, end: End) -> None:
        """Have ``end`` read again."""
        end.hung = False
        end.pump()


class End(asyncio.Transport):
    """One end's transport. The ``protocol`` on it is the program's."""

    def __init__(self, name: str, connection: Connection, loop: Any, peername: Any) -> None:
        super().__init__({"peername": peername})
        self.name = name
        self.connection = connection
        self.protocol: Any = None
        self.other: End = self
        self.hung = False
        self._loop = loop
        self._network = connection.network
        self._inbox: deque[bytes | None] = deque()
        self._wire: deque[bytes | None] = deque()
        self._arrives_s = 0.0
        self._unread = 0  # bytes written here that the other end has not taken
        self._reading = True
        self._full = False
        self._closing = False
        self._lost = False

    def accepted(self, factory: Callable[[], Any]) -> None:
        """The server's end comes to life, unless the connection is gone already."""
        if self._lost:
            return
        self.protocol = factory()
        self.protocol.connection_made(self)
        self.pump()

    # asyncio.Transport

    def write(self, data: Any) -> None:
        """Send ``data``, in pieces as the network says."""
        if self._closing or not data:
            return
        self._unread += len(data)
        for piece in self._network.pieces(bytes(data)):
            self._post(piece)
        if self._unread > HIGH_WATER and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """As one ``write``."""
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not read yet."""
        return self._unread

    def is_closing(self) -> bool:
        """Whether it is closed or being closed."""
        return self._closing

    def close(self) -> None:
        """Send what was written, then end the stream."""
        if self._closing:
            return
        self._closing = True
        self._post(None)
        self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Reset the connection."""
        if self._lost:
            return
        self._closing = True
        self._loop.call_soon(self._lose, None)
        if not self.connection.silent:
            self._loop.call_later(
                self._network.delay(),
                self.other.broken,
                ConnectionResetError(104, "Connection reset by peer"),
            )

    def pause_reading(self) -> None:
        """Leave what comes in the buffer."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._loop.call_soon(self.pump)

    # the network's side

    def _post(self, piece: bytes | None) -> None:
        """Send one piece; it arrives after those before it."""
        arrives_s = max(self._loop.time() + self._network.delay(), self._arrives_s)
        self._arrives_s = arrives_s
        # The loop's timers keep no order among equals: whichever fires takes the next piece.
        self._wire.append(piece)
        self._loop.call_at(arrives_s, self.other.arrive)

    def arrive(self) -> None:
        """The next piece (None: the end of the stream) has come."""
        piece = self.other._wire.popleft()
        if not self._lost and not self.connection.silent:
            self._inbox.append(piece)
            self.pump()

    def pump(self) -> None:
        """Hand over what has come, as far as it is being read: one read a tick, as loops do."""
        if self._inbox and self._reading and not (self.hung or self._closing):
            if self.protocol is None:
                return
            piece = self._inbox.popleft()
            if piece is None:
                if not self.protocol.eof_received():
                    self.close()
                return
            n = self._read(piece)
            if n < len(piece):
                self._inbox.appendleft(piece[n:])
            self.other.taken(n)
            if self._inbox:
                self._loop.call_soon(self.pump)

    def _read(self, data: bytes) -> int:
        """One read of the protocol: how much of ``data`` it took."""
        if not hasattr(self.protocol, "get_buffer"):
            self._network.delivered(self, data)
            self.protocol.data_received(data)
            return len(data)
        view = self.protocol.get_buffer(-1)
        n = min(len(view), len(data))
        view[:n] = data[:n]
        del view
        self._network.delivered(self, data[:n])
        self.protocol.buffer_updated(n)
        return n

    def taken(self, n: int) -> None:
        """The other end has read ``n`` bytes of what was written here."""
        self._unread -= n
        if self._full and self._unread <= LOW_WATER and not self._lost:
            self._full = False
            self.protocol.resume_writing()

    def broken(self, error: Exception) -> None:
        """The connection is gone."""
        self._closing = True
        self._inbox.clear()
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if self.protocol is not None:
            self.protocol.connection_lost(error)
