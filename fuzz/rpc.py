"""Mutated conversations and plain bytes against a live server and a live client.

Invariant: whatever a peer sends, and however it leaves, nothing raises where nobody could catch it,
nothing hangs, what comes back is well-formed, each call of the client ends, a neighbour on the same
server is served as if nothing were, and every counter and credit is back in the end. All of it on a
simulated network: an input is a seed, and happens again from it.

    python -m fuzz.rpc --seconds 600 --seed 1
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Any

from tests.calibration import too_many_pieces

from dragoman import rpc
from dragoman.errors import DragomanError
from dragoman.testing import SimulatedLoop, at_rest, simulate
from dragoman.testing.mesh import RawPeer, frame, hello, raw_client
from fuzz.mesh import mutate
from fuzz.running import main

# What one input may take, in pieces of work (tests/calibration.py).
PIECES_MAX = 1200
AT = "server:1"
LIMIT = 10
METADATA = (b"\1k\1\0v", b"\6tenant\4\0blue", b"\1k\0\0\1l\0\0", b"\0\0\0", b"\1k\xff\xff")


def some_number(source: random.Random, most: int) -> int:
    """Small as a rule, now and then an edge."""
    if source.random() < 0.03:
        return source.choice((0, 255, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1))
    return source.randrange(1, most)


def in_pieces(source: random.Random, frames: list[bytes], id: int, body: bytes) -> bytes:
    """Put pieces of a body before its last part, which is returned; now and then they are wrong."""
    length = len(body) if source.random() < 0.95 else source.choice((0, 1, 1001, 1 << 31))
    ends = sorted(source.randrange(len(body) + 1) for _ in range(source.randrange(1, 4)))
    for start, end in zip([0, *ends], ends, strict=False):
        frames.append(frame("PIECE", body[start:end], id=id, value=length))
        if source.random() < 0.2:
            frames.append(frame("PING", value=7))
        if source.random() < 0.05:
            frames.append(frame("CANCEL", id=id))
    return body[ends[-1] :]


def client_frames(source: random.Random) -> list[bytes]:
    """Frames that a client might send after its HELLO."""
    frames = [frame("NAME", name, target=i) for i, name in enumerate((b"now", b"later", b"x"), 1)]
    id = 0
    for _ in range(source.randrange(30)):
        what = source.random()
        if what < 0.6:
            id = (id + 1) & 0xFFFFFFFF if source.random() < 0.95 else some_number(source, 10)
            body = source.randbytes(source.choice((0, 1, 20, 300)))
            if source.random() < 0.2:
                body = in_pieces(source, frames, id, body)
            if source.random() < 0.2:
                frames.append(frame("METADATA", source.choice(METADATA), id=id))
            if source.random() < 0.3:
                frames.append(frame("ORDER", source.choice((b"a", b"b")), id=id))
            frames.append(
                frame(
                    "REQUEST",
                    body,
                    flags=int(source.random() < 0.2),
                    target=some_number(source, 4) & 0xFFFF,
                    id=id,
                    value=some_number(source, 500),
                )
            )
        elif what < 0.7:
            frames.append(frame("CANCEL", id=some_number(source, 30)))
        elif what < 0.8:
            frames.append(frame("DEMAND", value=some_number(source, 30)))
        elif what < 0.85:
            frames.append(frame("RETURN", value=source.randrange(2)))
        elif what < 0.97:
            frames.append(frame(source.choice(("PING", "PONG")), value=7))
        else:
            frames.append(frame("GOODBYE", b"bye", flags=int(source.random() < 0.3)))
    return frames


def server_frames(source: random.Random) -> list[bytes]:
    """Frames that a server might send after its HELLO."""
    frames = [frame("CREDIT", value=LIMIT)]
    for _ in range(source.randrange(40)):
        what = source.random()
        id, value = some_number(source, 30), source.randrange(2)
        body = source.randbytes(source.choice((0, 1, 20, 300)))
        if what < 0.2:
            body = in_pieces(source, frames, id, body)
        if what < 0.5:
            frames.append(frame("REPLY", body, id=id, value=value))
        elif what < 0.7:
            code = some_number(source, 14) & 0xFFFF
            frames.append(frame("ERROR", body, id=id, value=value, target=code))
        elif what < 0.8:
            frames.append(frame("CREDIT", value=some_number(source, 5)))
        elif what < 0.88:
            frames.append(frame("RECLAIM", value=some_number(source, 20)))
        elif what < 0.97:
            frames.append(frame(source.choice(("PING", "PONG")), value=7))
        else:
            frames.append(frame("GOODBYE", b"bye", flags=int(source.random() < 0.3)))
    return frames


async def converse(loop: SimulatedLoop, peer: RawPeer, frames: list[bytes]) -> None:
    """Send a HELLO and ``frames``, or something made of them, and leave somehow."""
    source = loop.random
    first = hello(
        features=source.choice((3, 7, 15)), body_bytes_max=source.choice((0, 100, 1 << 24))
    )
    what = source.random()
    if what < 0.05:
        data = source.randbytes(source.randrange(200))
    elif what < 0.1:
        data = mutate(first + b"".join(frames), source)
    else:
        if what < 0.3:
            source.shuffle(frames)
        data = first + b"".join(frames)
        if what < 0.7:
            data = first + mutate(data[len(first) :], source)
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.randrange(4)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if peer.transport is not None:
            peer.transport.write(data[start:end])
        await asyncio.sleep(source.choice((0, 0.001, 0.05)))
    await asyncio.sleep(source.choice((0, 0.01, 0.3, 1.0)))
    if peer.transport is not None:
        source.choice((peer.transport.close, peer.transport.abort, lambda: None))()


async def against_server(loop: SimulatedLoop) -> None:
    """Strange clients beside an ordinary one."""
    source = loop.random

    async def later(body: bytes) -> bytes:
        await asyncio.sleep(source.choice((0.0, 0.01, 0.5)))
        return body

    def now(body: bytes) -> bytes:
        return body if len(body) < 100 else body[:0] + str(1 // 0).encode()

    async with (
        await rpc.serve(
            {"now": now, "later": later},
            AT,
            limit=LIMIT,
            bytes_max=source.choice((200, 1 << 20)),
            body_bytes_max=1000,
            heartbeat_ms=500,
        ) as server,
        await rpc.connect(AT) as neighbour,
    ):
        call = neighbour.call("later", b"before", timeout_ms=60_000)
        for _ in range(source.randrange(1, 3)):
            await converse(loop, await raw_client(loop), client_frames(source))
        assert await call == b"before"
        assert await neighbour.call("later", b"after", timeout_ms=60_000) == b"after"
        # Those that said nothing more are given up by now.
        await asyncio.sleep(3)
        assert server.statistics().clients == 1, server.statistics()
        at_rest(server, neighbour)
        assert neighbour.statistics().credits == LIMIT
        assert neighbour.statistics().connections == 1


async def against_client(loop: SimulatedLoop) -> None:
    """A client of strange servers."""
    source = loop.random
    talks: list[asyncio.Task[None]] = []

    class Peer(RawPeer):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            talks.append(loop.create_task(converse(loop, self, server_frames(source))))

    loop.network.listen("server", 1, Peer)
    ends: list[object] = []
    made = 0
    try:
        client = await rpc.connect(
            AT,
            heartbeat_ms=500,
            timeout_ms=2000,
            body_bytes_max=1000,
            reconnect=source.random() < 0.7,
            on_full=source.choice(("wait", "fail")),
            connect_timeout_ms=1500,
        )
    except DragomanError:
        pass
    else:
        waiting: list[asyncio.Future[Any]] = []
        for _ in range(source.randrange(1, 30)):
            key = source.choice((None, "k"))
            body = source.randbytes(source.choice((0, 30)))
            what = source.random()
            if what < 0.4:
                waiting.append(client.call("a", body, order_key=key))
            elif what < 0.6:
                made += 1
                client.call_soon("b", body, lambda reply, error: ends.append(error or reply))
            elif what < 0.8:
                waiting.append(client.call_many("a", [body] * source.randrange(5), order_key=key))
            else:
                with contextlib.suppress(DragomanError):
                    client.notify("c", body)
            if waiting and source.random() < 0.1:
                source.choice(waiting).cancel()
            await asyncio.sleep(source.choice((0, 0, 0.001, 0.1)))
        for end in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(end, bytes | list | DragomanError | asyncio.CancelledError), end
        await asyncio.sleep(2.1)
        assert len(ends) == made
        await client.close()
        at_rest(client)
    for talk in talks:
        await talk


def once(seed: int) -> None:
    """Check the invariant for one seed."""
    started_s = time.thread_time()
    # What is refused is logged; here that is nearly everything.
    logging.disable(logging.CRITICAL)
    try:
        simulate(seed, against_server if seed % 2 else against_client)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    finally:
        logging.disable(logging.NOTSET)
    spent_s = time.thread_time() - started_s
    assert not too_many_pieces(spent_s, PIECES_MAX), f"seed {seed} took too long"


if __name__ == "__main__":
    main(once, __doc__)
