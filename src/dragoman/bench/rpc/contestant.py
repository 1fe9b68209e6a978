"""The interface of an RPC under test, its tasks and its results.

Implemented by the modules ``library``, ``prototype``, ``floor_*`` and ``peer_*``; used by
``server`` and ``client``, each in a process of its own. The invariant: a contestant offers only the
styles in ``styles``, and every call that a sample counts was answered (``notify``: was handled).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec
import uvloop

from dragoman.errors import DragomanError

HOST = "127.0.0.1"
# The method that is called; NOTE is the one without a reply.
ECHO = "echo"
NOTE = "note"


class BenchError(DragomanError):
    """A measurement could not be made, or a reply was wrong."""


class Work(msgspec.Struct, frozen=True):
    """One measurement; ``in_flight`` counts calls outstanding at once, or batches of ``batch``.

    ``variant`` tells measurements of one style apart.
    """

    style: str
    size: int = 128
    connections: int = 1
    in_flight: int = 1
    batch: int = 1
    seconds: float = 1.0
    variant: str = ""


class Cpu(msgspec.Struct, frozen=True):
    """CPU seconds of one process, all its threads together."""

    user_s: float
    system_s: float


class Sample(msgspec.Struct, frozen=True):
    """The client's figures; ``latency_us`` (see ``latency``) for one call at a time, else None."""

    calls: int
    seconds: float
    cpu: Cpu
    latency_us: dict[str, float] | None = None


class Connection(Protocol):
    """One connection of an asyncio contestant; only the methods of its styles need to be there.

    A reply is bytes-like. What has no names for methods ignores ``method``.
    """

    def call(self, method: str, body: bytes, /) -> Awaitable[Any]:
        """One call."""

    def call_soon(
        self, method: str, body: bytes, callback: Callable[[Any, Exception | None], object], /
    ) -> object:
        """One call that ends in ``callback(reply, error)``; ``error`` is None if it succeeded."""

    def call_many(self, method: str, bodies: list[bytes], /) -> Awaitable[Any]:
        """Many calls; a sequence of replies, in the order of ``bodies``."""

    def map(self, method: str, bodies: Iterable[bytes], /, *, in_flight: int) -> AsyncIterator[Any]:
        """Replies in order, at most ``in_flight`` calls outstanding."""

    def notify(self, method: str, body: bytes, /) -> object:
        """A call without a reply."""

    async def noted(self) -> int:
        """The number of calls without a reply that the server has handled, of all connections."""
        ...

    async def close(self) -> None:
        """Close the connection."""


class BenchCaller(Protocol):
    """The client's side: one measurement is ``prepare``, ``measure``, ``finish``."""

    def prepare(self, work: Work) -> None:
        """Connect, check replies, warm up. Raises BenchError when a reply is wrong."""

    def measure(self) -> Sample:
        """Measure what was prepared; returns when nothing is outstanding any more."""

    def finish(self) -> None:
        """Close the connections."""


class Contestant(Protocol):
    """An RPC under test. ``name`` is for options and JSON, ``title`` for people.

    ``single``: the number of connections is not the caller's to choose.
    """

    name: str
    title: str
    styles: frozenset[str]
    single: bool

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""

    def run_server(self, ready: Callable[[str], None]) -> None:
        """Serve an echo on a free loopback port until the process ends.

        ``ready`` is told ``host:port``.
        """

    def caller(self, address: str) -> BenchCaller:
        """The client's side, not yet connected."""


class AsyncContestant(ABC):
    """A contestant on asyncio: the shared styles of ``calling`` drive its connections."""

    name: str
    title: str
    styles: frozenset[str]
    single = False

    def missing(self) -> str | None:
        """See ``Contestant``."""
        return None

    @staticmethod
    def new_loop() -> asyncio.AbstractEventLoop:
        """The loop of both processes: all are faster on uvloop than on asyncio's own."""
        return uvloop.new_event_loop()

    @abstractmethod
    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve until cancelled."""

    @abstractmethod
    async def connect(self, address: str) -> Any:
        """A ``Connection``, ready for calls."""

    def run_server(self, ready: Callable[[str], None]) -> None:
        """See ``Contestant``."""
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            runner.run(self.serve(ready))

    def caller(self, address: str) -> BenchCaller:
        """See ``Contestant``."""
        from dragoman.bench.rpc.calling import AsyncCaller

        return AsyncCaller(lambda: self.connect(address), self.new_loop)
