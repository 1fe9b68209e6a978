"""Random events on Dubbo links, against peers that read when they like, or never.

Invariant: whatever a peer sends (heartbeats without end, events, halves of frames, replies to
nobody) and whether it reads, what is held for it stays within a bound that does not grow with what
it sends; nothing raises; and when the connections have ended, nothing is held any more. An input is
a seed, on a simulated network: a provider's link on one side, a served provider on the other.

    python -m fuzz.links --seconds 600 --seed 1
"""

from __future__ import annotations

import asyncio
import gc
import random
import struct
from typing import Any

from dragoman.dubbo.server.connection import Connected

from dragoman.budget import process_budget
from dragoman.dubbo.upstream.link import DubboLink
from dragoman.testing import SimulatedLoop, simulate
from fuzz.running import main

HOST = "peer"
# A connection's buffers of little use, a frame in progress and what one write leaves unsent.
HELD_BYTES_MAX = 1 << 20
BODY_BYTES_MAX = 200_000


def frame(id: int, body: bytes, flags: int, status: int = 20) -> bytes:
    """A Dubbo frame."""
    return struct.pack(">HBBQI", 0xDABB, flags, status, id, len(body)) + body


def some_bytes(source: random.Random) -> bytes:
    """Bytes that a peer might send."""
    what = source.random()
    if what < 0.5:
        # Heartbeats that want an answer, many at once.
        beat = frame(source.randrange(1 << 48), b"N", 0xE2)
        return beat * source.choice((1, 10, 2000))
    if what < 0.6:
        return frame(source.randrange(1 << 48), source.choice((b"\x01R", b"\x01W")), 0xA2)
    if what < 0.8:
        size = source.choice((0, 10, 5000, BODY_BYTES_MAX))
        return frame(source.randrange(1 << 48), source.randbytes(size), source.choice((2, 6)))
    if what < 0.97:
        whole = frame(source.randrange(1 << 48), bytes(BODY_BYTES_MAX), 2)
        return whole[: source.randrange(1, len(whole))]
    return source.randbytes(20)


class Peer(asyncio.Protocol):
    """The other end of a connection: sends, and reads when it likes."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.transport: Any = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.source.random() < 0.6:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def act(self) -> None:
        """One thing that a peer may do."""
        what = self.source.random()
        if self.lost:
            return
        if what < 0.8:
            self.transport.write(some_bytes(self.source))
        elif what < 0.86:
            self.transport.pause_reading()
        elif what < 0.9:
            self.transport.resume_reading()
        elif what < 0.93:
            self.transport.close()
        elif what < 0.95:
            self.transport.abort()


def once(seed: int) -> None:
    """Check the invariant for one seed."""
    source = random.Random(seed)
    budget = process_budget()
    gc.collect()
    before = budget.used

    async def work(loop: SimulatedLoop) -> None:
        peers: list[Peer] = []

        def peer() -> Peer:
            peers.append(Peer(source))
            return peers[-1]

        loop.network.listen(HOST, 1, peer)
        link = DubboLink(loop, HOST, 1, lambda: None, count=source.choice((1, 2)))
        link.start()
        served = Connected(loop, 8 << 20, 60.0, 10)
        loop.network.listen(HOST, 2, served.connection)
        for _ in range(source.randrange(1, 4)):
            await loop.create_connection(peer, HOST, 2)
        for _ in range(source.randrange(5, 60)):
            await asyncio.sleep(source.choice((0.001, 0.01, 0.3, 2.0)))
            for each in list(peers):
                each.act()
            held = budget.used - before
            open_ends = len(link.connections) + served.open_connections
            assert held <= HELD_BYTES_MAX * max(1, open_ends), (seed, held)
        await link.close()
        served.close(at_once=True)
        for each in peers:
            if not each.lost:
                each.transport.abort()
        await asyncio.sleep(1)

    simulate(seed, work)
    gc.collect()
    assert budget.used == before, (seed, budget.used, before)


if __name__ == "__main__":
    main(once, __doc__)
