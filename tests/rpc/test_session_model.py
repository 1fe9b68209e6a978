"""Sessions against a plain model, under everything that a seed can think of.

Clients and servers that come and go, calls with and without deadlines, cancelled calls, handlers
that answer, fail or take long, connections that break, jam and fall silent. However it goes: each
call ends exactly once (or never, if it was cancelled), its reply is its own, and in the end nothing
is out of its place.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from dragoman.errors import (
    DeadlineError,
    DragomanError,
    LinkLostError,
    OverloadError,
    ProtocolError,
    RemoteError,
)
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Client, Server
from dragoman.testing.sessions import IncomingRequest, tell_waiting

STEPS = 120
LIMIT_MAX = 12


class World:
    """All servers and clients, and what became of every call."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        loop.network.delay_s = (0.0, self.random.choice((0.0001, 0.01, 0.1)))
        loop.network.piece_bytes_max = self.random.choice((None, 1, 9, 3000))
        self.servers = [
            self.server(("server", number), self.random.randint(1, LIMIT_MAX))
            for number in range(self.random.randint(1, 2))
        ]
        self.clients: list[Client] = []
        self.next_number = 0
        self.bodies: dict[int, bytes] = {}
        self.cancelled: set[int] = set()
        self.ran: dict[bytes, int] = {}

    def server(self, address: tuple[str, int], limit: int) -> Server:
        server = Server(self.loop, limit=limit, address=address, heartbeat_s=1.0)
        server.work = self.handle
        return server

    def handle(self, request: IncomingRequest) -> None:
        self.ran[request.body] = self.ran.get(request.body, 0) + 1
        what = self.random.random()
        if what < 0.2:
            request.reply(request.method + request.body)
        elif what < 0.3:
            raise ValueError(request.body[:50].hex())
        elif what < 0.4:
            self.loop.call_later(
                self.random.uniform(0, 0.5), request.fail, OverloadError(request.body[:50].hex())
            )
        else:
            # A few take longer than anybody waits.
            delay_s = self.random.choice((0.0, 0.02, 0.3, 3.0))
            self.loop.call_later(delay_s, request.reply, request.method + request.body)

    async def connect(self) -> None:
        client = Client(self.loop, heartbeat_s=1.0)
        server = self.random.choice(self.servers)
        await self.loop.create_connection(lambda: client.session, *server.address)
        client.connection = self.loop.network.connections[-1]
        self.clients.append(client)

    def call(self, client: Client) -> None:
        number = self.next_number
        self.next_number += 1
        tiny = (self.loop.network.piece_bytes_max or 3000) < 3000
        size = self.random.choice((0, 10, 10, 10, 100 if tiny else 5000))
        body = b"%d:" % number + self.random.randbytes(size)
        timeout_ms = self.random.choice((None, None, 30, 200, 2000))
        try:
            client.call(number, body, b"method%d" % self.random.randrange(4), timeout_ms)
            self.bodies[number] = body
        except (OverloadError, LinkLostError):
            del client.ends[number]
            tell_waiting(client.session, self.random.randint(0, 50))

    def act(self) -> None:
        """One random event."""
        what = self.random.random()
        open_clients = [client for client in self.clients if not client.session.closed]
        if not open_clients:
            return
        client = self.random.choice(open_clients)
        if what < 0.8:
            for _ in range(self.random.choice((1, 1, 3, 20))):
                self.call(client)
        elif what < 0.9:
            open_calls = [n for n, call in client.calls.items() if not call.done]
            if open_calls:
                number = self.random.choice(open_calls)
                client.calls[number].cancel()
                self.cancelled.add(number)
        elif what < 0.91:
            client.connection.reset()
        elif what < 0.92:
            client.connection.fall_silent()
        elif what < 0.94:
            end = self.random.choice((client.connection.client, client.connection.server))
            client.connection.jam(end)
            self.loop.call_later(self.random.choice((0.1, 5.0)), client.connection.unjam, end)
        elif what < 0.95:
            client.session.close()
        elif what < 0.96:
            for session in sorted(
                self.random.choice(self.servers).sessions, key=lambda session: session.peer
            ):
                session.goodbye()
        else:
            server = self.random.choice(self.servers)
            server.pool.set_limit(self.random.randint(1, LIMIT_MAX))

    def check_sums(self) -> None:
        """What holds at every moment."""
        for server in self.servers:
            held = sum(session.holder.held for session in server.all_sessions)
            assert server.pool.granted == held + server.pool.orphaned
            assert server.pool.granted <= LIMIT_MAX
            assert server.handler.in_progress <= LIMIT_MAX
            for session in server.all_sessions:
                assert session.closed or 0 <= session.holder.in_use <= session.holder.held
                assert not isinstance(session.failure, ProtocolError), session.failure
        for client in self.clients:
            assert client.session.credits >= 0
            assert client.session.inflight >= 0
            assert not isinstance(client.session.failure, ProtocolError), client.session.failure

    def check_end(self) -> None:
        """What holds when everything has come to rest."""
        for client in self.clients:
            for number, ends in client.ends.items():
                if number in self.cancelled:
                    assert ends == []
                    continue
                assert len(ends) == 1, (number, ends)
                self.check_reply(self.bodies[number], ends[0])
            assert client.session.inflight == 0
            assert client.losses <= 1
        for server in self.servers:
            server.assert_quiet()
            open_clients = [
                client
                for client in self.clients
                if not client.session.closed and client.connection.to == server.address
            ]
            credits = sum(client.session.credits for client in open_clients)
            assert credits == server.pool.granted
        # Nothing runs twice.
        assert all(count == 1 for count in self.ran.values())

    def check_reply(self, body: bytes, end: bytes | DragomanError) -> None:
        if isinstance(end, bytes):
            assert end[:6] == b"method" and end[7:] == body
        elif isinstance(end, RemoteError):
            assert str(end) == f"ValueError: {body[:50].hex()}"
        elif isinstance(end, OverloadError):
            assert str(end) == body[:50].hex()
        else:
            assert isinstance(end, DeadlineError | LinkLostError)
            if end.retry_safe:
                assert body not in self.ran


async def live(loop: SimulatedLoop) -> tuple[str, int, int]:
    """One world from beginning to end: its trace, its calls, and how many ended well."""
    world = World(loop)
    for _ in range(loop.random.randint(1, 4)):
        await world.connect()
    for _ in range(STEPS):
        world.act()
        await asyncio.sleep(loop.random.choice((0, 0, 0.001, 0.05, 0.3)))
        if sum(not client.session.closed for client in world.clients) < 3:
            await world.connect()
        world.check_sums()
    # Long enough for heartbeats, jams and the slowest handler.
    for _ in range(20):
        await asyncio.sleep(1)
        world.check_sums()
    world.check_end()
    well = sum(
        isinstance(ends[0], bytes)
        for client in world.clients
        for ends in client.ends.values()
        if ends
    )
    return loop.network.trace(), len(world.bodies), well


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_every_call_ends_once_with_its_own_reply_whatever_happens(first: int) -> None:
    calls = well = 0
    for seed in range(first, first + 10):
        _, some_calls, some_well = simulate(seed, live)
        calls += some_calls
        well += some_well
    assert calls > 400 and well > calls / 4


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 100))
def test_two_thousand_worlds_keep_their_promises(first: int) -> None:
    for seed in range(first, first + 100):
        simulate(seed, live)


@pytest.mark.parametrize("seed", [3, 14, 15])
def test_a_seed_lives_the_same_life_twice(seed: int) -> None:
    assert simulate(seed, live) == simulate(seed, live)
