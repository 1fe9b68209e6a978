"""``rpc.connect`` and ``rpc.serve`` together against a plain model, in worlds made from seeds.

Calls of every style, with deadlines and order keys, some cancelled; functions that answer at once,
later, never in time, wrongly, or that will not be cancelled; limits of every kind; connections that
break, jam and fall silent; servers that drain and come back. However it goes:

- each call ends exactly once, in time, and a reply is its own;
- what ended with a retry-safe error never ran, and nothing runs twice;
- of one client's calls with one key at most one runs at a time, and they begin in the order made;
- no bound is passed, and in the end every counter and every credit is where it belongs;
- the same seed lives the same life.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman import rpc
from dragoman.errors import (
    BatchError,
    DeadlineError,
    DragomanError,
    LimitError,
    LinkError,
    OverloadError,
    ProtocolError,
    RemoteError,
)
from dragoman.testing import SimulatedLoop, at_rest, simulate

STEPS = 80
LIMIT_MAX = 100
BODY_MAX = 3000
# Two grains of the timers, and a little for the arithmetic of the clock.
LATE_S = 0.011


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What handlers raise is logged, thousands of times here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Made:
    """One request of one call, as the model knows it."""

    def __init__(self, world: World, style: str, key: str | None, timeout_ms: int | None) -> None:
        self.number = len(world.made)
        self.style = style
        self.key = key
        self.timeout_ms = timeout_ms
        self.made_s = world.loop.time()
        self.ends: list[bytes | BaseException] = []
        self.cancelled = False
        self.began = 0
        size = world.random.choice((0, 10, 10, 100, 100 if world.tiny else 2000))
        self.body = b"%d:" % self.number + world.random.randbytes(size)
        world.made.append(self)


class Caller:
    """A client and where it calls."""

    def __init__(self, client: rpc.Client, place: int, options: dict[str, Any]) -> None:
        self.client = client
        self.place = place
        self.options = options


class World:
    """All servers and clients, and what became of every request."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.random: random.Random = loop.random
        loop.network.delay_s = (0.0, self.random.choice((0.0001, 0.01, 0.1)))
        loop.network.piece_bytes_max = self.random.choice((None, None, 9, 3000))
        self.tiny = (loop.network.piece_bytes_max or 3000) < 3000
        self.made: list[Made] = []
        self.servers: list[rpc.Server] = []
        self.old_servers: list[rpc.Server] = []
        self.callers: list[Caller] = []
        self.closers: list[asyncio.Future[Any]] = []
        self.maps: list[asyncio.Task[None]] = []
        # By server's number of life, client and key: the number that runs, and the last that began.
        self.running: dict[Any, int] = {}
        self.last: dict[Any, int] = {}
        self.owners: dict[int, Caller] = {}
        self.lives = 0

    # the servers' side

    async def serve(self, place: int) -> rpc.Server:
        self.lives += 1
        life = self.lives

        def begin(body: bytes) -> tuple[Made, Any]:
            made = self.made[int(body.split(b":")[0])]
            assert body == made.body
            made.began += 1
            assert made.began == 1, "it ran twice"
            name = None
            if made.key is not None:
                name = (life, id(self.owners[made.number]), made.key)
                assert name not in self.running, (made.number, self.running[name])
                assert made.number > self.last.get(name, -1)
                self.last[name] = made.number
                self.running[name] = made.number
            return made, name

        def now(body: bytes) -> bytes:
            _, name = begin(body)
            self.running.pop(name, None)
            if self.random.random() < 0.2:
                raise ValueError(body[:20].hex())
            return b"=" + body

        async def later(body: bytes) -> bytes:
            _, name = begin(body)
            try:
                await asyncio.sleep(self.random.choice((0.0, 0.0, 0.01, 0.01, 0.1, 0.1, 3.0)))
                if self.random.random() < 0.2:
                    raise RemoteError(body[:20].hex(), code=1234)
                return b"=" + body
            finally:
                self.running.pop(name, None)

        async def stubborn(body: bytes) -> bytes:
            _, name = begin(body)
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                await asyncio.sleep(0.3)
            finally:
                self.running.pop(name, None)
            return b"=" + body

        return await rpc.serve(
            {"now": now, "later": later, "stubborn": stubborn},
            f"server{place}:1",
            limit=self.random.choice((1, 5, 20, LIMIT_MAX)),
            bytes_max=self.random.choice((1, 3000, 1 << 20)),
            body_bytes_max=BODY_MAX,
            heartbeat_ms=1000,
        )

    async def restart(self, place: int) -> None:
        """A server drains, and another takes its place."""
        server = self.servers[place]
        self.old_servers.append(server)
        drain_ms = self.random.choice((0, 100, 5000))
        self.closers.append(asyncio.ensure_future(server.close(drain_ms=drain_ms)))
        await asyncio.sleep(self.random.choice((0, 0.2)))
        self.servers[place] = await self.serve(place)

    # the clients' side

    async def connect(self) -> None:
        place = self.random.randrange(len(self.servers))
        options: dict[str, Any] = {
            "on_full": self.random.choice(("wait", "wait", "fail")),
            "calls_max": self.random.choice((2, 10, 1000)),
            "bytes_max": self.random.choice((100, 3000, 1 << 20)),
            "waiting_max": self.random.choice((0, 5, 1000)),
            "waiting_bytes_max": self.random.choice((100, 1 << 20)),
            "timeout_ms": self.random.choice((None, 4000)),
        }
        try:
            client = await rpc.connect(f"server{place}:1", heartbeat_ms=1000, **options)
        except (LinkError, OverloadError):
            return
        self.callers.append(Caller(client, place, options))

    def make(self, caller: Caller, style: str, key: str | None, timeout_ms: int | None) -> Made:
        made = Made(self, style, key, timeout_ms)
        if timeout_ms is None:
            made.timeout_ms = caller.options["timeout_ms"]
        self.owners[made.number] = caller
        return made

    def call(self, caller: Caller) -> None:
        """A call of any style."""
        client = caller.client
        style = self.random.choice(("call", "call", "call_soon", "call_many", "notify", "map"))
        method = self.random.choice(("now", "now", "later", "later", "stubborn", "unknown"))
        key = self.random.choice((None, None, "a", "b"))
        timeout_ms = self.random.choice((None, None, None, 30, 300, 2000))
        options: dict[str, Any] = {} if timeout_ms is None else {"timeout_ms": timeout_ms}
        if style == "map":
            self.maps.append(asyncio.ensure_future(self.iterate(caller, method, timeout_ms)))
            return
        if key is not None:
            options["order_key"] = key
        if style == "call_many":
            batch = [
                self.make(caller, style, key, timeout_ms)
                for _ in range(self.random.choice((1, 3, 20)))
            ]
            future = client.call_many(method, [made.body for made in batch], **options)
            future.add_done_callback(lambda done: self.batch_ended(batch, done))
            self.perhaps_cancel(future, batch)
            return
        made = self.make(caller, style, key, timeout_ms)
        if style == "call":
            one = client.call(method, made.body, **options)
            one.add_done_callback(lambda done: self.ended(made, done))
            self.perhaps_cancel(one, [made])
        elif style == "call_soon":
            client.call_soon(
                method,
                made.body,
                lambda reply, error: made.ends.append(error if reply is None else reply),
                **options,
            )
        else:
            try:
                client.notify(method, made.body, **options)
            except DragomanError as error:
                made.ends.append(error)

    async def iterate(self, caller: Caller, method: str, timeout_ms: int | None) -> None:
        options: dict[str, Any] = {} if timeout_ms is None else {"timeout_ms": timeout_ms}
        under_way: list[Made] = []
        taken = 0
        most = self.random.choice((1, 4))

        def bodies() -> Iterator[bytes]:
            for _ in range(6):
                made = self.make(caller, "map", None, timeout_ms)
                under_way.append(made)
                assert len(under_way) - taken <= most + 1
                yield made.body

        replies = caller.client.map(method, bodies(), in_flight=most, **options)
        try:
            async for reply in replies:
                under_way[taken].ends.append(reply)
                taken += 1
        except DragomanError as error:
            under_way[taken].ends.append(error)
            taken += 1
        finally:
            # What the iteration was not asked for any more was withdrawn.
            for made in under_way[taken:]:
                made.cancelled = True

    def perhaps_cancel(self, future: asyncio.Future[Any], batch: list[Made]) -> None:
        if self.random.random() < 0.15:

            def cancel() -> None:
                if future.cancel():
                    for made in batch:
                        made.cancelled = True

            self.loop.call_later(self.random.choice((0.0, 0.05, 0.5)), cancel)

    def ended(self, made: Made, done: asyncio.Future[bytes]) -> None:
        if not done.cancelled():
            made.ends.append(done.exception() or done.result())
            self.check_time(made)

    def batch_ended(self, batch: list[Made], done: asyncio.Future[list[bytes]]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        for index, made in enumerate(batch):
            if error is None:
                made.ends.append(done.result()[index])
            elif isinstance(error, BatchError):
                reply = error.replies[index]
                assert (reply is None) == (index in error.errors)
                made.ends.append(error.errors[index] if reply is None else reply)
            else:
                made.ends.append(error)
        self.check_time(batch[0])

    def check_time(self, made: Made) -> None:
        if made.timeout_ms is not None:
            took_s = self.loop.time() - made.made_s
            assert took_s <= made.timeout_ms / 1000 + LATE_S, (made.number, made.style, took_s)

    # what happens

    async def act(self) -> None:
        """One random event."""
        what = self.random.random()
        callers = [caller for caller in self.callers if not caller.client.closed]
        if what < 0.7 and callers:
            for _ in range(self.random.choice((1, 3, 8))):
                self.call(self.random.choice(callers))
        elif what < 0.8:
            open_ones = [
                one for one in self.loop.network.connections if not one.client.is_closing()
            ]
            if open_ones:
                self.harm(self.random.choice(open_ones))
        elif what < 0.83 and callers:
            caller = self.random.choice(callers)
            drain_ms = self.random.choice((0, 300, 5000))
            self.closers.append(asyncio.ensure_future(caller.client.close(drain_ms=drain_ms)))
        elif what < 0.86:
            await self.restart(self.random.randrange(len(self.servers)))
        else:
            self.random.choice(self.servers).set_limit(self.random.choice((1, 5, 20, LIMIT_MAX)))
        if len(callers) < 3:
            await self.connect()

    def harm(self, connection: Any) -> None:
        what = self.random.random()
        if what < 0.4:
            connection.reset()
        elif what < 0.6:
            connection.fall_silent()
        else:
            end = self.random.choice((connection.client, connection.server))
            connection.jam(end)
            self.loop.call_later(self.random.choice((0.1, 1.0, 5.0)), connection.unjam, end)

    def check_bounds(self) -> None:
        """What holds at every moment."""
        for server in self.servers + self.old_servers:
            now = server.statistics()
            assert now.in_progress >= 0 and now.bytes >= 0
            assert 0 <= now.granted <= LIMIT_MAX
        for caller in self.callers:
            mine = caller.client.statistics()
            most = caller.options
            assert 0 <= mine.calls <= most["calls_max"], mine
            assert 0 <= mine.bytes <= most["bytes_max"] or mine.calls == 1, (mine, most)
            # A batch counts as one in line, and goes there whatever it has sent.
            assert mine.waiting >= 0, mine
            assert mine.credits >= 0

    async def come_to_rest(self) -> None:
        """Let everything end: the slowest function, every heartbeat, every jam, every line."""
        for second in range(600):
            await asyncio.sleep(1)
            self.check_bounds()
            busy = any(
                caller.client.calls or caller.client.waiting for caller in self.callers
            ) or any(server.statistics().in_progress for server in self.servers)
            if second >= 10 and not busy:
                break
        await asyncio.sleep(5)
        assert all(closer.done() for closer in self.closers)
        assert all(task.done() for task in self.maps)
        for done in [*self.closers, *self.maps]:
            await done

    def check_end(self) -> None:
        for made in self.made:
            self.check_made(made)
        for caller in self.callers:
            at_rest(caller.client)
        for place, server in enumerate(self.servers):
            at_rest(server)
            mine = [c.client for c in self.callers if c.place == place and not c.client.closed]
            assert server.statistics().clients == len(mine)
            assert server.statistics().granted == sum(c.statistics().credits for c in mine)
        at_rest(*self.old_servers)
        assert not self.running

    def check_made(self, made: Made) -> None:
        about = (made.number, made.style, made.ends, made.cancelled)
        if made.style == "notify":
            assert len(made.ends) <= 1, about
            assert not (made.ends and made.began), about
            return
        if made.cancelled:
            assert len(made.ends) <= 1, about
            return
        assert len(made.ends) == 1, about
        end = made.ends[0]
        if isinstance(end, bytes):
            assert end == b"=" + made.body and made.began, about
            return
        assert isinstance(end, DragomanError), about
        if isinstance(end, RemoteError):
            text = made.body[:20].hex()
            assert str(end) == (text if end.code == 1234 else f"ValueError: {text}"), about
            return
        # Nobody broke the protocol, and nobody has sent what was too long.
        assert not isinstance(end, ProtocolError | LimitError), about
        if isinstance(end, DeadlineError):
            assert made.timeout_ms is not None, about
        if end.retry_safe:
            assert not made.began, about


async def live(loop: SimulatedLoop) -> tuple[str, int, int]:
    """One world from beginning to end: its trace, its requests, and how many ended well."""
    world = World(loop)
    for place in range(world.random.randint(1, 2)):
        world.servers.append(await world.serve(place))
    for _ in range(world.random.randint(1, 3)):
        await world.connect()
    for _ in range(STEPS):
        await world.act()
        await asyncio.sleep(world.random.choice((0, 0, 0.001, 0.05, 0.3)))
        world.check_bounds()
    await world.come_to_rest()
    world.check_end()
    for caller in world.callers:
        await caller.client.close()
    for server in world.servers:
        await server.close()
    await asyncio.sleep(1)
    at_rest(*world.servers, *[caller.client for caller in world.callers])
    well = sum(bool(made.ends) and isinstance(made.ends[0], bytes) for made in world.made)
    return loop.network.trace(), len(world.made), well


@pytest.mark.parametrize("first", range(0, 240, 60))
def test_every_call_ends_once_in_time_and_with_its_own_reply(first: int) -> None:
    made = well = 0
    for seed in range(first, first + 60):
        _, some, some_well = simulate(seed, live)
        made += some
        well += some_well
    assert made > 10_000 and well > made / 20


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 6000, 250))
def test_thousands_of_worlds_keep_their_promises(first: int) -> None:
    for seed in range(first, first + 250):
        simulate(seed, live)


@pytest.mark.parametrize("seed", [3, 14, 15])
def test_a_seed_lives_the_same_life_twice(seed: int) -> None:
    assert simulate(seed, live) == simulate(seed, live)
