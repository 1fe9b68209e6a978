"""Real sessions on a simulated loop, and peers that send whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from dragoman.errors import DragomanError, ProtocolError
from dragoman.flow.credits import CreditPool
from dragoman.rpc.client_session import ClientSession
from dragoman.rpc.server_session import ServerSession
from dragoman.testing.loop import SimulatedLoop
from dragoman.testing.network import Connection
from dragoman.testing.sessions import (
    IncomingRequest,
    OutgoingCall,
    RequestHandler,
    SessionEvents,
    send,
)
from dragoman.wire.mesh import KINDS, VERSION, MeshDecoder, encode

Frame = tuple[int, int, int, int, int, bytes]
NAMES = {number: name for name, number in KINDS.items()}


def frame(name: str, body: bytes = b"", **fields: int) -> bytes:
    """One frame by its type's name."""
    return encode(KINDS[name], body=body, **fields)


def hello(
    *,
    magic: bytes = b"DRGM",
    lowest: int = VERSION,
    highest: int = VERSION,
    features: int = 0,
    body_bytes_max: int = 1 << 24,
) -> bytes:
    """A HELLO, right or wrong."""
    fixed = struct.pack("<4sHHII16s", magic, lowest, highest, features, body_bytes_max, bytes(16))
    return frame("HELLO", fixed + b"test")


class Server:
    """Server sessions on ``address`` that hand requests to ``work`` (``echo``, unless a test sets
    another).
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        *,
        limit: int = 10,
        delay_s: float = 0.05,
        address: tuple[str, int] = ("server", 1),
        body_bytes_max: int = 1 << 24,
        methods: list[bytes] | None = None,
        heartbeat_s: float = 5.0,
    ) -> None:
        self.loop = loop
        self.pool = CreditPool(limit)
        self.delay_s = delay_s
        self.sessions: set[ServerSession] = set()
        self.all_sessions: list[ServerSession] = []
        # Called with each request; may be set to something else at any time.
        self.work: Callable[[IncomingRequest], object] = self.echo
        self.handler = RequestHandler(
            self.on_request, methods=methods, on_unwanted=self.on_unwanted
        )
        self.address = address
        self.requests: list[IncomingRequest] = []
        self.unwanted: list[IncomingRequest] = []
        self._body_bytes_max = body_bytes_max
        self._heartbeat_s = heartbeat_s
        self.most_in_progress = 0
        loop.network.listen(*address, self.session)

    def session(self) -> ServerSession:
        """A new session, for a connection that was accepted."""
        session = ServerSession(
            self.loop,
            self.handler,
            self.pool,
            self.sessions,
            body_bytes_max=self._body_bytes_max,
            heartbeat_s=self._heartbeat_s,
        )
        self.all_sessions.append(session)
        return session

    def on_request(self, request: IncomingRequest) -> None:
        """Hand ``request`` to ``work``."""
        self.work(request)

    def echo(self, request: IncomingRequest) -> None:
        """Answer with the body after ``delay_s``."""
        self.requests.append(request)
        self.most_in_progress = max(self.most_in_progress, self.handler.in_progress)
        self.loop.call_later(self.delay_s, request.reply, request.body)

    def on_unwanted(self, request: IncomingRequest) -> None:
        """Note that the caller of ``request`` waits no longer."""
        self.unwanted.append(request)

    def assert_quiet(self) -> None:
        """Nothing is in progress, nothing is lost."""
        assert self.handler.in_progress == 0
        statistics = self.pool.statistics()
        assert statistics["in_use"] == 0
        assert self.pool.orphaned == 0
        assert statistics["granted"] == (statistics["limit"] if statistics["holders"] else 0)


class Client:
    """A client session and how its calls ended. ``ends`` maps a call's number to its results."""

    def __init__(
        self,
        loop: SimulatedLoop,
        *,
        body_bytes_max: int = 1 << 24,
        heartbeat_s: float = 5.0,
        first_id: int = 1,
    ) -> None:
        self.loop = loop
        self.ready = asyncio.Event()
        self.lost = asyncio.Event()
        self.goodbyes = 0
        self.losses = 0
        self.ends: dict[int, list[bytes | DragomanError]] = {}
        self.calls: dict[int, OutgoingCall] = {}
        self.session = ClientSession(
            loop,
            SessionEvents(on_ready=self._ready, on_goodbye=self._goodbye, on_lost=self._lost),
            name=b"test",
            body_bytes_max=body_bytes_max,
            heartbeat_s=heartbeat_s,
            first_id=first_id,
        )
        self.connection: Connection

    def _ready(self, session: ClientSession) -> None:
        self.ready.set()

    def _goodbye(self, session: ClientSession) -> None:
        self.goodbyes += 1

    def _lost(self, session: ClientSession) -> None:
        self.losses += 1
        self.lost.set()

    async def connect(self, address: tuple[str, int] = ("server", 1)) -> Client:
        """Connect, and wait for HELLO and the first credits."""
        transport, _ = await self.loop.create_connection(lambda: self.session, *address)
        self.connection = transport.connection
        await self.ready.wait()
        await asyncio.sleep(0.05)
        return self

    def call(
        self, number: int, body: bytes = b"", method: bytes = b"echo", timeout_ms: int | None = None
    ) -> OutgoingCall:
        """Make call ``number``; how it ends is noted."""
        ends = self.ends.setdefault(number, [])
        call = send(self.session, method, body, ends.append, ends.append, timeout_ms=timeout_ms)
        self.calls[number] = call
        return call

    def end(self, number: int) -> bytes | DragomanError:
        """How call ``number`` ended: exactly once."""
        (end,) = self.ends[number]
        return end

    def error(self, number: int) -> DragomanError:
        """The error that call ``number`` ended with."""
        end = self.end(number)
        assert isinstance(end, DragomanError)
        return end


class RawPeer(asyncio.Protocol):
    """A peer that reads frames and sends what it is told to. Works as client or server."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lost: Exception | bool | None = False
        self.transport: Any = None
        self._decoder = MeshDecoder()

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. Fails on what is no frame."""
        try:
            self.frames += self._decoder.frames(data)
        except ProtocolError as error:
            raise AssertionError(f"the session broke the format: {error}") from None

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.lost = exc or True

    def send(self, *frames: bytes) -> None:
        """Send ``frames`` in one write."""
        self.transport.write(b"".join(frames))

    def kinds(self) -> list[str]:
        """The types of all frames received."""
        return [NAMES[frame[0]] for frame in self.frames]

    def of(self, name: str) -> list[Frame]:
        """The received frames of a type."""
        return [frame for frame in self.frames if frame[0] == KINDS[name]]


async def raw_client(loop: SimulatedLoop, address: tuple[str, int] = ("server", 1)) -> RawPeer:
    """A raw peer connected to a server."""
    peer = RawPeer()
    await loop.create_connection(lambda: peer, *address)
    await asyncio.sleep(0.01)
    return peer
