"""A closed-loop load that counts every answer and verifies each.

The invariant: each request ends as exactly one outcome: ``ok``, ``wrong``, an error such as
``502 upstream-lost``, ``lost`` (the connection ended first), or ``unanswered`` (see ``stop``).
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dragoman.demo.javahash import java_hash
from tests.faults.http import form

RETRY_S = 0.02


class Load:
    """``connections`` callers on ``port``, each asking again when it is answered."""

    def __init__(self, port: int, connections: int, *fields: str, seed: int = 7) -> None:
        self._port = port
        self._fields = fields
        self._random = random.Random(seed)
        self._callers = [_Caller(self) for _ in range(connections)]
        self._alphabet = string.ascii_letters + string.digits
        self.stopping = False
        self.outcomes: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        self.slowest_s = 0.0
        self.refused = 0

    async def start(self) -> None:
        """Connect everybody and begin."""
        await asyncio.gather(*(self._connect(each) for each in self._callers))

    async def stop(self, timeout_s: float = 10.0) -> Counter[str]:
        """No new requests; wait for the answers to those under way; the outcomes."""
        self.stopping = True
        end_s = time.monotonic() + timeout_s
        while any(each.asked for each in self._callers) and time.monotonic() < end_s:
            await asyncio.sleep(0.005)
        for each in self._callers:
            if each.asked:
                self.outcomes["unanswered"] += 1
            each.leave()
        return self.outcomes

    @property
    def failed(self) -> Counter[str]:
        """The outcomes so far that are not ``ok``."""
        return Counter({name: n for name, n in self.outcomes.items() if name != "ok"})

    async def run(self, seconds: float) -> None:
        """Let it go on for a while."""
        await asyncio.sleep(seconds)

    async def answered(self, more: int = 200, timeout_s: float = 10.0) -> None:
        """Return once ``more`` further requests have gone well."""
        aim = self.outcomes["ok"] + more
        async with asyncio.timeout(timeout_s):
            while self.outcomes["ok"] < aim:
                await asyncio.sleep(0.005)

    def question(self) -> tuple[str, bytes]:
        """A random text, and the request for its hash."""
        text = "".join(self._random.choices(self._alphabet, k=self._random.randrange(64)))
        return text, form(text, *self._fields)

    def count(self, outcome: str) -> None:
        """A request has ended."""
        self.outcomes[outcome] += 1
        if outcome != "ok":
            self.failures.append((time.monotonic(), outcome))

    async def _connect(self, caller: _Caller) -> None:
        while not self.stopping:
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: caller, "127.0.0.1", self._port
                )
            except OSError:
                self.refused += 1
                await asyncio.sleep(RETRY_S)
            else:
                return

    def reconnect(self, caller: _Caller) -> None:
        """A caller's connection has ended."""
        if not self.stopping:
            caller.task = asyncio.ensure_future(self._connect(caller))


class _Caller(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Future[None] | None = None
        self.asked = ""
        self.asked_s = 0.0
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""
        self._ask()

    def _ask(self) -> None:
        if self.load.stopping or self.transport is None:
            return
        text, request = self.load.question()
        self.asked = f"?{text}"
        self.asked_s = time.monotonic()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        assert len(rest) == length, "more than one answer to one request"
        self.received = b""
        assert self.asked, "an answer that nobody asked for"
        status = int(head[9:12])
        if status == 200:
            right = rest == str(java_hash(self.asked[1:])).encode()
            self.load.count("ok" if right else "wrong")
        else:
            name = lower.partition(b"\r\nx-dragoman-error:")[2].partition(b"\r\n")[0].strip()
            self.load.count(f"{status} {name.decode()}")
        self.asked = ""
        self.load.slowest_s = max(self.load.slowest_s, time.monotonic() - self.asked_s)
        if b"\r\nconnection: close" not in lower:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.asked:
            self.asked = ""
            self.load.count("lost")
        self.load.reconnect(self)

    def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self.asked = ""
        if self.transport is not None:
            self.transport.abort()


@asynccontextmanager
async def load(port: int, connections: int, *fields: str) -> AsyncIterator[Load]:
    """A load for the length of a block."""
    made = Load(port, connections, *fields)
    await made.start()
    try:
        yield made
    finally:
        if not made.stopping:
            await made.stop(1.0)
