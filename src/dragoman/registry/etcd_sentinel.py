"""Streams that tell at once when a key of ours in etcd is no longer as we put it.

``etcd_lease`` keeps one for each of its keys, so that it need not ask several times a second. The
invariant: a key counts as watched only while etcd has confirmed its stream and nothing has ended
it; whatever a stream says, and its end, is a reason to look, never a fact by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from typing import Final

from dragoman.errors import RegistryError
from dragoman.observe.faults import log_fault
from dragoman.registry.gateway import EtcdGateway, WatchReply

log = logging.getLogger("dragoman.registry")

# A stream is a connection to etcd. Who registers more keys than this has none, and asks instead.
STREAMS_MAX: Final = 16
# Before a stream that ended is made again.
PAUSE_S: Final = 1.0


class EtcdSentinel:
    """Watches over keys that are to stay under one lease; ``on_doubt()`` hears when to look."""

    def __init__(self, gateway: EtcdGateway, on_doubt: Callable[[], None]) -> None:
        self._gateway = gateway
        self._on_doubt = on_doubt
        self._told = False
        self._lease = 0
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._confirmed: set[bytes] = set()

    def watches(self, keys: Collection[bytes]) -> bool:
        """Whether all of ``keys`` are watched now."""
        return bool(keys) and all(key in self._confirmed for key in keys)

    def watch(self, keys: Collection[bytes], lease: int) -> None:
        """Watch these keys, which are under ``lease``, and no others."""
        self._lease = lease
        wanted = keys if len(keys) <= STREAMS_MAX else ()
        for key in [key for key in self._tasks if key not in wanted]:
            self._stop(key)
        for key in wanted:
            if key not in self._tasks:
                self._tasks[key] = asyncio.get_running_loop().create_task(
                    self._follow(key), name="etcd sentinel"
                )

    def told(self) -> bool:
        """Whether a stream has given a reason to look since this was asked last."""
        told, self._told = self._told, False
        return told

    def distrust(self) -> None:
        """The streams have missed something: make them anew."""
        for key in list(self._tasks):
            self._stop(key)

    async def close(self) -> None:
        """Watch nothing any more."""
        tasks = list(self._tasks.values())
        self.distrust()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _doubt(self) -> None:
        self._told = True
        self._on_doubt()

    def _stop(self, key: bytes) -> None:
        self._tasks.pop(key).cancel()
        self._confirmed.discard(key)

    async def _follow(self, key: bytes) -> None:
        while True:
            try:
                with suppress(RegistryError):
                    # What happened before it was confirmed is seen by whoever looks then.
                    async with aclosing(self._gateway.watch(key, b"", 0)) as replies:
                        async for reply in replies:
                            if reply.canceled:
                                break
                            if reply.created:
                                self._confirmed.add(key)
                                self._doubt()
                            elif self._is_doubtful(reply):
                                self._doubt()
            except Exception as error:
                log_fault(log, error, "watching over a registration failed; trying again")
            if key in self._confirmed:
                self._confirmed.discard(key)
                self._doubt()
            await asyncio.sleep(PAUSE_S)

    def _is_doubtful(self, reply: WatchReply) -> bool:
        """Whether anything but our own put has happened to the key."""
        return any(
            event.type == "DELETE" or event.kv.lease != self._lease
            for event in self._gateway.events(reply.events)
        )
