"""Workers of stores that are elsewhere: of a served store, and those for threads.

``ServedStore.workers`` and ``BlockingStore.workers`` make them; the server's half is ``sharing``.
The invariant: what is asked twice, because a connection broke, is done once, but for a ``take``:
what its first reply had is given again after its lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from dragoman.broker import messages as wire
from dragoman.errors import NotFoundError, UsageError
from dragoman.queue import AsyncGroupWorkers, Message
from dragoman.queue.work.leases import ACK, EXTEND, NACK, columns_of, messages_from
from dragoman.queue.work.settings import (
    WorkSettings,
    count_of,
    delay_of,
    lease_of,
    messages_of,
    timeout_of,
)

T = TypeVar("T")
# How long a server is asked to wait at a time: then the client knows that it is there.
WAIT_MS = 20_000
AGAIN_S = 0.05


class Asked(Protocol):
    """A ``ServedStore``."""

    where: str

    async def _ask(
        self,
        method: str,
        make: Callable[[bytes], wire.Asking],
        decoder: msgspec.msgpack.Decoder[T],
        timeout_ms: float | None = None,
    ) -> T: ...


class ServedWorkers:
    """``Workers`` of a served store."""

    def __init__(
        self, store: Asked, queue: bytes, group: bytes, settings: WorkSettings, timeout_ms: float
    ) -> None:
        self._store = store
        self._timeout_ms = timeout_ms
        self.queue = queue
        self.group = group
        self.settings = settings

    async def _ask(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except NotFoundError as error:
            raise UsageError(
                f"{self._store.where}: the server there is an older one that has no workers; run a"
                " newer one",
                endpoint=error.endpoint,
            ) from None

    async def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """See ``Workers.take``. The server answers as soon as there is a message."""
        count_of(count)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_of(wait_ms)
        settings = self.settings
        by = settings.ordered_by
        left_ms = 0

        def make(process: bytes) -> wire.Take:
            return wire.Take(
                process,
                self.queue,
                self.group,
                count,
                left_ms,
                settings.lease_ms,
                settings.attempts_max,
                settings.dead_letter,
                by if isinstance(by, int | bytes) else None,
                settings.window,
            )

        while True:
            left_ms = max(0, min(WAIT_MS, round((until_s - loop.time()) * 1000)))
            life, offsets, attempts, serials, bodies = await self._ask(
                self._store._ask(
                    "queue.take", make, wire.TAKEN, timeout_ms=left_ms + self._timeout_ms
                )
            )
            if offsets or loop.time() >= until_s - 0.001:
                return messages_from(life, offsets, attempts, serials, bodies)
            # Sooner than asked for: the server stops. Not at once again.
            await asyncio.sleep(min(AGAIN_S, left_ms / 1000))

    async def _settle(self, kind: int, messages: list[Message], due_s: float) -> int:
        count = 0
        lives: dict[bytes, list[Message]] = {}
        for message in messages:
            lives.setdefault(message.life, []).append(message)
        requests = [
            (life, mine[at : at + wire.COUNT_MAX])
            for life, mine in lives.items()
            for at in range(0, len(mine), wire.COUNT_MAX)
        ]
        for life, mine in requests:
            offsets, _, serials, _ = columns_of(mine)

            def make(
                process: bytes,
                life: bytes = life,
                offsets: list[int] = offsets,
                serials: list[int] = serials,
            ) -> wire.Settle:
                return wire.Settle(
                    process,
                    self.queue,
                    self.group,
                    life,
                    kind,
                    round(due_s * 1000),
                    offsets,
                    serials,
                )

            count += await self._ask(self._store._ask("queue.settle", make, wire.LENGTH))
        return count

    async def ack(self, messages: Message | Sequence[Message]) -> int:
        """See ``Workers.ack``. What was taken before the server was started again counts for
        nothing: it is given again."""
        return await self._settle(ACK, messages_of(messages), 0.0)

    async def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """See ``Workers.nack``."""
        return await self._settle(NACK, messages_of(messages), delay_of(delay_ms))

    async def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """See ``Workers.extend``."""
        listed = messages_of(messages)
        return await self._settle(EXTEND, listed, lease_of(lease_ms, self.settings.lease_ms))

    def __repr__(self) -> str:
        return f"<ServedWorkers of queue {self.queue!r:.100}, group {self.group!r:.100}>"


class BlockingWorkers:
    """Workers of an asynchronous store, for threads."""

    def __init__(
        self,
        wait: Callable[[Coroutine[Any, Any, Any]], Any],
        opening: Callable[[], Coroutine[Any, Any, AsyncGroupWorkers]],
    ) -> None:
        self._wait = wait
        self._workers: AsyncGroupWorkers = wait(opening())

    def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """See ``Workers.take``."""
        messages: list[Message] = self._wait(self._workers.take(count, wait_ms=wait_ms))
        return messages

    def ack(self, messages: Message | Sequence[Message]) -> int:
        """See ``Workers.ack``."""
        count: int = self._wait(self._workers.ack(messages))
        return count

    def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """See ``Workers.nack``."""
        count: int = self._wait(self._workers.nack(messages, delay_ms=delay_ms))
        return count

    def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """See ``Workers.extend``."""
        count: int = self._wait(self._workers.extend(messages, lease_ms=lease_ms))
        return count
