"""``dragoman queue serve``: a store, its server, and their end on a signal."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from typing import Any

from dragoman import broker
from dragoman.broker.messages import DEFAULT_NAME
from dragoman.observe.logs import set_up_logging
from dragoman.queue import QueueStore
from dragoman.stopping import told_to_stop

log = logging.getLogger("dragoman.queue")
DRAIN_MS = 8000


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    path: str
    listen: str
    registry: str | None
    name: str | None
    advertise: str | None
    limit: int
    log_level: str
    store: dict[str, Any]


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in progress and close the store.

    Says on standard output where it listens, when it does. Raises what opening and listening raise,
    and StorageError when the store could not be made durable at the end.
    """
    set_up_logging(settings.log_level, "queue")
    stop = asyncio.Event()
    with told_to_stop(stop.set):
        await _serve(settings, stop)
    log.info("stopped")


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    store = await asyncio.to_thread(QueueStore, settings.path, **settings.store)
    try:
        options: dict[str, Any] = {"limit": settings.limit}
        if settings.registry is not None:
            options |= {
                "registry": settings.registry,
                "name": settings.name or DEFAULT_NAME,
                "advertise": settings.advertise,
            }
        server = await broker.serve(store, settings.listen, **options)
        try:
            # Whoever started it reads this line.
            print(f"serving {settings.path} on {server.address}", flush=True)
            log.info(
                "serving %s: %d queues, durability %s",
                settings.path,
                store.statistics().queues,
                store.durability,
            )
            await stop.wait()
            log.info("stopping")
        finally:
            await server.close(drain_ms=DRAIN_MS)
    finally:
        sys.stdout.flush()
        await asyncio.to_thread(store.close)
