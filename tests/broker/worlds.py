"""The stores that the conformance suite is run against, each as a world: where a store is, how it
is opened, and how everything is stopped and started again around it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dragoman import broker
from dragoman.broker.blocking import BlockingStore
from dragoman.queue import AsyncQueueStore, MessageStore, QueueStore
from tests.broker.nats_servers import NatsServer

SMALL: dict[str, Any] = {
    "segment_bytes": 1 << 20,
    "memory_bytes": 32 << 20,
    "cache_bytes": 1 << 20,
}


class World:
    """One kind of store. ``open`` opens what the last ``open`` has left."""

    # Whether two may be open at once and put.
    shared = True

    def open(self) -> MessageStore:
        raise NotImplementedError

    def restart(self) -> None:
        """What serves the store is stopped in order and started again; no store is open."""

    def stop(self) -> None:
        """The end."""


class Local(World):
    """A ``QueueStore``."""

    shared = False

    def __init__(self, place: Path) -> None:
        self.place = place

    def open(self) -> MessageStore:
        return QueueStore(self.place, **SMALL)


class Async(Local):
    """An ``AsyncQueueStore``."""

    def open(self) -> MessageStore:
        async def opening() -> AsyncQueueStore:
            return AsyncQueueStore(QueueStore(self.place, **SMALL))

        return BlockingStore(opening)


class Serving:
    """A served store on a loop in a thread of its own."""

    def __init__(
        self,
        place: Path,
        address: str = "127.0.0.1:0",
        *,
        read_only_store: bool = False,
        **options: Any,
    ) -> None:
        self.store = QueueStore(place, durability="always", read_only=read_only_store, **SMALL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.server = self.run(lambda: broker.serve(self.store, address, **options))
        self.address = str(self.server.address)

    def run(self, work: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    def stop(self, drain_ms: int = 10_000) -> None:
        self.run(lambda: self.server.close(drain_ms=drain_ms))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.store.close()


class Served(World):
    """A store that is served, by its address."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.serving = Serving(place)

    def open(self) -> MessageStore:
        return broker.open_store(f"dragoman://{self.serving.address}")

    def restart(self) -> None:
        self.serving.stop()
        self.serving = Serving(self.place)

    def stop(self) -> None:
        self.serving.stop()


class OnNats(World):
    """A store on a NATS server, under a prefix of its own."""

    _serial = itertools.count()

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.url = f"nats://127.0.0.1:{server.port}/test{next(self._serial)}"

    def open(self) -> MessageStore:
        return broker.open_store(self.url)

    def restart(self) -> None:
        self.server.stop()
        self.server.start()
