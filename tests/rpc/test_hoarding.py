"""Callers that hold credits and use none, on real sockets: honest calls are served all the same."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dragoman import rpc
from dragoman.testing.mesh import NAMES, frame
from dragoman.wire.mesh import MeshDecoder

LIMIT = 20
MANY = 1000
# What is asked of one caller a second, whatever it answers; with much in reserve.
RECLAIMS_A_SECOND = 2000


def hello(identity: bytes) -> bytes:
    """A HELLO of who says it is ``identity``."""
    fixed = b"DRGM" + bytes([1, 0, 1, 0]) + bytes(4) + (1 << 20).to_bytes(4, "little") + identity
    return frame("HELLO", fixed + b"hostile")


class Hoarder:
    """A caller that demands credits for ever. ``on_reclaim`` gives what it answers to a reclaim."""

    def __init__(
        self,
        port: int,
        *,
        source: str = "127.0.0.1",
        demand: int = MANY,
        on_reclaim: Callable[[Hoarder, int], bytes] = lambda hoarder, n: frame("RETURN", value=0),
        pongs: bool = True,
        comes_back: bool = False,
    ) -> None:
        self.port = port
        self.source = source
        self.demand = demand
        self.on_reclaim = on_reclaim
        self.pongs = pongs
        self.comes_back = comes_back
        self.credits = 0
        self.reclaims = 0
        self.sessions = 0
        self.goodbyes: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self.writer: asyncio.StreamWriter | None = None
        self.started = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(self.source, 0)
            )
            self.writer = writer
            try:
                await self._session(reader, writer)
            except OSError:
                pass
            finally:
                writer.close()
            if not self.comes_back:
                return

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = MeshDecoder()
        self.credits = 0
        self.sessions += 1
        writer.write(hello(os.urandom(16)) + frame("DEMAND", value=self.demand))
        while data := await reader.read(65536):
            for kind, _, _, _, value, body in decoder.frames(data):
                name = NAMES[kind]
                if name == "CREDIT":
                    self.credits += value
                    self.started.set()
                    writer.write(frame("DEMAND", value=self.demand))
                elif name == "RECLAIM":
                    self.reclaims += 1
                    writer.write(self.on_reclaim(self, value))
                elif name == "PING" and self.pongs:
                    writer.write(frame("PONG", value=value))
                elif name == "GOODBYE":
                    self.goodbyes.append(body.decode())


def gives_back(hoarder: Hoarder, n: int) -> bytes:
    """What a caller owes, and the next demand at once."""
    n = min(n, hoarder.credits)
    hoarder.credits -= n
    return frame("RETURN", value=n) + frame("DEMAND", value=hoarder.demand)


def one_less(hoarder: Hoarder, n: int) -> bytes:
    """One less than it owes."""
    n = max(0, min(n, hoarder.credits) - 1)
    hoarder.credits -= n
    return frame("RETURN", value=n)


def honestly(hoarder: Hoarder, n: int) -> bytes:
    """What a caller owes."""
    n = min(n, hoarder.credits)
    hoarder.credits -= n
    return frame("RETURN", value=n)


def nothing(hoarder: Hoarder, n: int) -> bytes:
    """No answer."""
    return b""


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """A server whose work takes a moment; its port."""

    async def work(body: bytes) -> bytes:
        await asyncio.sleep(0.001)
        return body

    async with await rpc.serve(
        {"echo": work}, "127.0.0.1:0", limit=LIMIT, heartbeat_ms=2000
    ) as server:
        yield server.address.port


async def honest_calls(port: int, calls: int = 200) -> None:
    """Calls as many as are to be answered, in time, by one who connects after the hoarders."""
    async with await rpc.connect(f"127.0.0.1:{port}", timeout_ms=20_000) as client:
        replies = await asyncio.gather(
            *(client.call("echo", str(i).encode()) for i in range(calls))
        )
        assert replies == [str(i).encode() for i in range(calls)]


HOSTILE = {
    "nothing given back": {},
    "one credit less than asked": {"on_reclaim": one_less},
    "no answer but to pings": {"on_reclaim": nothing},
    "no answer at all": {"on_reclaim": nothing, "pongs": False},
    "all given back and demanded again": {"on_reclaim": gives_back},
    "as many as can be said": {"demand": 0xFFFFFFFF},
    "a new identity each time": {"comes_back": True},
    "given back, under new identities": {"on_reclaim": gives_back, "comes_back": True},
    "kept, under new identities, from another address": {"comes_back": True, "source": "127.0.0.2"},
    "given back, from another address": {"on_reclaim": gives_back, "source": "127.0.0.2"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_calls_are_served_beside_callers_that_keep_what_they_do_not_use(name: str) -> None:
    async def scenario() -> None:
        async with served() as port:
            hoarders = [Hoarder(port, **HOSTILE[name]) for _ in range(3)]  # type: ignore[arg-type]
            for hoarder in hoarders:
                hoarder.start()
                await asyncio.wait_for(hoarder.started.wait(), 20)
                hoarder.started.clear()
                if hoarder is hoarders[0]:
                    # It had them all.
                    assert hoarder.credits == LIMIT
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(20):
                await honest_calls(port)
            passed = asyncio.get_running_loop().time() - began
            for hoarder in hoarders:
                assert hoarder.reclaims <= 100 + RECLAIMS_A_SECOND * passed
                await hoarder.stop()
            if "kept" in name or "nothing" in name or "less" in name or "as can be said" in name:
                reasons = list(itertools.chain(*(hoarder.goodbyes for hoarder in hoarders)))
                assert any("kept that were asked back" in reason for reason in reasons)

    asyncio.run(scenario())


def test_honest_callers_that_are_idle_keep_their_sessions_whatever_others_do() -> None:
    async def scenario() -> None:
        async with served() as port:
            idle = [await rpc.connect(f"127.0.0.1:{port}") for _ in range(5)]
            for client in idle:
                assert await client.call("echo", b"x") == b"x"
            hoarders = [Hoarder(port, comes_back=True) for _ in range(2)]
            for hoarder in hoarders:
                hoarder.start()
            for _ in range(5):
                await honest_calls(port, 100)
            for client in idle:
                assert await client.call("echo", b"x", timeout_ms=20_000) == b"x"
                assert client.statistics().connections == 1
                await client.close()
            for hoarder in hoarders:
                await hoarder.stop()

    asyncio.run(scenario())
