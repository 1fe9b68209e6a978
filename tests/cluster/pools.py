"""Servers for tests of pools, in this process and in others."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from dragoman import cluster, rpc
from dragoman.cluster import Pool
from dragoman.errors import (
    OverloadError,
)


def run(work: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 20) -> None:
    """Run a test on uvloop; what nobody looked at (a task's error) fails it."""
    unseen: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        async with asyncio.timeout(timeout_s):
            await work()
        gc.collect()

    uvloop.run(main())
    assert unseen == []


class Node:
    """A server of a test: counts, and answers with its letter and the body after ``delay_s``."""

    def __init__(self, letter: str, delay_s: float = 0.0, **options: Any) -> None:
        self.letter = letter.encode()
        self.delay_s = delay_s
        self.options = options
        self.taken: list[bytes] = []
        self.ended: list[bytes] = []
        self.now = 0
        self.most = 0
        self.server: Any = None

    async def work(self, body: bytes) -> bytes:
        self.taken.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            return self.letter + b":" + body
        finally:
            self.now -= 1
            self.ended.append(body)

    async def refuse(self, body: bytes) -> bytes:
        self.taken.append(body)
        raise OverloadError("not here")

    async def fail(self, body: bytes) -> bytes:
        self.taken.append(body)
        raise ValueError(body.decode())

    async def start(self, port: int = 0) -> Node:
        methods = {"work": self.work, "fail": self.fail, "refuse": self.refuse}
        self.server = await rpc.serve(methods, f"127.0.0.1:{port}", **self.options)
        return self

    @property
    def address(self) -> str:
        return str(self.server.address)


@asynccontextmanager
async def nodes(letters: str, **options: Any) -> AsyncIterator[dict[str, Node]]:
    """A node for each letter."""
    made = {letter: await Node(letter, **options).start() for letter in letters}
    try:
        yield made
    finally:
        for node in made.values():
            await node.server.close(drain_ms=0)


async def pool_of(made: dict[str, Node], **options: Any) -> Pool:
    return await cluster.connect(
        "test", endpoints=[node.address for node in made.values()], **options
    )


def assert_quiet(pool: Pool) -> None:
    """Nothing is counted as outstanding any more."""
    statistics = pool.statistics()
    assert (statistics.calls, statistics.bytes) == (0, 0)
    assert (statistics.waiting, statistics.waiting_bytes) == (0, 0)
    assert [endpoint.calls for endpoint in statistics.endpoints] == [0] * len(statistics.endpoints)


def kinds(ends: list[Any]) -> Counter[str]:
    return Counter("ok" if isinstance(end, bytes) else type(end).__name__ for end in ends)
