"""Services against a plain model, in worlds where everything comes, goes, hangs and breaks.

Several consumers, several providers, requests of every kind. However it goes: each request ends
exactly once (or never, if it was withdrawn), with its own reply; nothing that may have run is tried
again; no provider is overrun; in the end nothing is out of its place. Two lives of a seed are
equal.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from dragoman.balance.policies import POLICIES
from dragoman.cluster.options import Options
from dragoman.cluster.service import Service
from dragoman.errors import (
    DeadlineError,
    DragomanError,
    LinkLostError,
    OverloadError,
    RemoteError,
    UnavailableError,
)
from dragoman.registry.registration import Registration
from dragoman.testing import SimulatedLoop, simulate
from dragoman.testing.mesh import Server
from dragoman.testing.services import ServiceRequest, submit
from dragoman.testing.sessions import IncomingRequest

HOSTS = "abcd"
LIMIT_MAX = 15
STEPS = 80


class World:
    """Consumers, providers and what became of every request."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        loop.network.delay_s = (0.0, self.random.choice((0.0005, 0.01)))
        loop.network.piece_bytes_max = self.random.choice((None, None, 20))
        self.servers: dict[str, Server] = {}
        self.hanging: set[str] = set()
        self.held: list[IncomingRequest] = []
        for host in HOSTS:
            limit = self.random.randint(1, LIMIT_MAX)
            server = Server(loop, limit=limit, address=(host, 1), heartbeat_s=1.0)
            server.work = lambda request, host=host: self.handle(host, request)
            self.servers[host] = server
        policy = self.random.choice(list(POLICIES))
        self.consumers = [
            Service(loop, b"a.B", Options(policy=policy, seed=loop.seed * 10 + n, queue_max=30))
            for n in range(self.random.randint(1, 3))
        ]
        self.listening = set(HOSTS)
        self.next_number = 0
        self.requests: dict[int, ServiceRequest] = {}
        self.ends: dict[int, list[bytes | DragomanError]] = {}
        self.withdrawn: set[int] = set()
        self.ran: dict[bytes, int] = {}

    def handle(self, host: str, request: IncomingRequest) -> None:
        assert self.servers[host].handler.in_progress <= LIMIT_MAX
        if host in self.hanging:
            self.held.append(request)
            return
        what = self.random.random()
        if what < 0.05:
            # It certainly did not run.
            request.fail(OverloadError("pool exhausted"))
            return
        self.ran[request.body] = self.ran.get(request.body, 0) + 1
        if what < 0.1:
            raise ValueError(request.body.decode())
        delay_s = self.random.choice((0.0, 0.02, 0.05, 0.05, 0.3))
        self.loop.call_later(delay_s, request.reply, b"re:" + request.body)

    def update(self, consumer: Service) -> None:
        hosts = [host for host in HOSTS if self.random.random() < 0.7]
        consumer.update(
            [
                Registration(interface="a.B", host=h, port=1, weight=self.random.randint(1, 3))
                for h in hosts
            ]
        )

    def submit(self, timeout_ms: int) -> None:
        number = self.next_number
        self.next_number += 1
        ends = self.ends[number] = []
        self.requests[number] = submit(
            self.random.choice(self.consumers),
            self.random.choice((b"one", b"two")),
            b"%d" % number,
            ends.append,
            ends.append,
            timeout_ms=timeout_ms,
        )

    def act(self) -> None:
        """One random event."""
        what = self.random.random()
        host = self.random.choice(HOSTS)
        if what < 0.75:
            for _ in range(self.random.choice((1, 2, 10, 40))):
                self.submit(self.random.choice((20, 200, 1000, 3000)))
        elif what < 0.82:
            going = [n for n, request in self.requests.items() if not request.done]
            if going:
                number = self.random.choice(going)
                self.requests[number].cancel()
                self.withdrawn.add(number)
        elif what < 0.86:
            self.update(self.random.choice(self.consumers))
        elif what < 0.88:
            for connection in self.loop.network.connections:
                if connection.to[0] == host:
                    connection.reset()
        elif what < 0.90:
            self.toggle(host)
        elif what < 0.93:
            self.hanging ^= {host}
            if host not in self.hanging:
                self.release()
        elif what < 0.94:
            self.random.choice(self.loop.network.connections).fall_silent()
        elif what < 0.97:
            for session in sorted(self.servers[host].sessions, key=lambda s: s.peer):
                session.goodbye()
        else:
            self.servers[host].pool.set_limit(self.random.randint(1, LIMIT_MAX))

    def toggle(self, host: str) -> None:
        """The program at ``host`` stops listening, or listens again."""
        if host in self.listening:
            self.loop.network.refuse(host, 1)
        else:
            self.loop.network.listen(host, 1, self.servers[host].session)
        self.listening ^= {host}

    def release(self) -> None:
        """What hung is answered."""
        held, self.held = self.held, []
        for request in held:
            self.ran[request.body] = self.ran.get(request.body, 0) + 1
            request.reply(b"re:" + request.body)

    def check_end(self) -> None:
        for number, ends in self.ends.items():
            if number in self.withdrawn:
                assert ends == []
                continue
            assert len(ends) == 1, (number, ends)
            (end,) = ends
            if isinstance(end, bytes):
                assert end == b"re:%d" % number
            elif isinstance(end, RemoteError):
                assert str(end) == f"ValueError: {number}"
            else:
                assert isinstance(
                    end, DeadlineError | OverloadError | UnavailableError | LinkLostError
                ), end
        # What may have run is never tried again.
        assert all(count == 1 for count in self.ran.values())
        for server in self.servers.values():
            server.assert_quiet()
        for consumer in self.consumers:
            status = consumer.status()
            assert status["waiting"] == 0
            for endpoint in status["endpoints"]:
                assert endpoint["inflight"] == 0, endpoint


async def live(loop: SimulatedLoop) -> tuple[str, int, int]:
    """One world from beginning to end: its trace, its requests, how many ended well."""
    world = World(loop)
    for consumer in world.consumers:
        world.update(consumer)
    await asyncio.sleep(0.1)
    for _ in range(STEPS):
        world.act()
        await asyncio.sleep(loop.random.choice((0, 0.001, 0.02, 0.1)))
    world.hanging.clear()
    for _ in range(6):
        world.release()
        await asyncio.sleep(1)
    world.check_end()
    # Once everything is in order again, so are the requests.
    for host in set(HOSTS) - world.listening:
        world.toggle(host)
    everybody = [Registration(interface="a.B", host=host, port=1) for host in HOSTS]
    for consumer in world.consumers:
        consumer.update(everybody)
    await asyncio.sleep(8)
    world.ends.clear()
    world.withdrawn.clear()
    world.requests.clear()
    for _ in range(10):
        world.submit(timeout_ms=3000)
        await asyncio.sleep(1.2)
    # Only what the providers themselves said: refused, failed, done.
    ends = [type(end) for (end,) in world.ends.values()]
    assert set(ends) <= {bytes, RemoteError, OverloadError}, ends
    well = ends.count(bytes)
    assert well >= 5
    for consumer in world.consumers:
        await consumer.close()
    await asyncio.sleep(2)
    assert not any(server.sessions for server in world.servers.values())
    return loop.network.trace(), len(world.ran), well


@pytest.mark.parametrize("first", range(0, 50, 10))
def test_every_request_ends_once_with_its_own_reply_whatever_happens(first: int) -> None:
    ran = sum(simulate(seed, live)[1] for seed in range(first, first + 10))
    assert ran > 500


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_two_thousand_worlds_keep_their_promises(first: int) -> None:
    for seed in range(first, first + 100):
        simulate(seed, live)


@pytest.mark.parametrize("seed", [4, 8, 15])
def test_a_seed_lives_the_same_life_twice(seed: int) -> None:
    assert simulate(seed, live) == simulate(seed, live)
