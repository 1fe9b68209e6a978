"""``Consumer``: reads one queue in order for one group, over any store.

Every store makes them in its ``consumer``. The invariant: ``position`` only grows, and what a read
returned lies right before it.
"""

from __future__ import annotations

from dragoman.errors import UsageError
from dragoman.queue.interface import AsyncMessageStore, MessageStore


class Consumer:
    """Reads one queue in order for one group. ``position`` is what the next ``read`` begins with.

    Not for several threads at once; any number of consumers may be made for a group.
    """

    def __init__(self, store: MessageStore, queue: str | bytes, group: str | bytes) -> None:
        self._store = store
        self.queue = queue
        self.group = group
        self.position = max(store.committed(queue, group), store.first_offset(queue))

    def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """The next messages, at most ``count``; none at the end of the queue, unless one comes
        within ``wait_ms``.

        What was trimmed meanwhile is passed over.
        """
        messages = self._read(count)
        if not messages and wait_ms and count:
            self._store.wait_for(self.queue, self.position, wait_ms)
            messages = self._read(count)
        return messages

    def _read(self, count: int) -> list[bytes]:
        try:
            messages = self._store.get(self.queue, self.position, count)
        except UsageError:
            first = self._store.first_offset(self.queue)
            if first <= self.position:
                raise
            self.position = first
            messages = self._store.get(self.queue, first, count)
        self.position += len(messages)
        return messages

    def commit(self) -> None:
        """Everything read so far is consumed; another consumer of the group goes on from here."""
        self._store.commit(self.queue, self.group, self.position)


class AsyncConsumer:
    """``Consumer`` for asyncio; ``await store.consumer(queue, group)`` makes one."""

    def __init__(
        self, store: AsyncMessageStore, queue: str | bytes, group: str | bytes, position: int
    ) -> None:
        self._store = store
        self.queue = queue
        self.group = group
        self.position = position

    @classmethod
    async def open(
        cls, store: AsyncMessageStore, queue: str | bytes, group: str | bytes
    ) -> AsyncConsumer:
        """A consumer at the group's committed position."""
        position = await store.committed(queue, group)
        return cls(store, queue, group, max(position, await store.first_offset(queue)))

    async def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """See ``Consumer.read``."""
        messages = await self._read(count)
        if not messages and wait_ms and count:
            await self._store.wait_for(self.queue, self.position, wait_ms)
            messages = await self._read(count)
        return messages

    async def _read(self, count: int) -> list[bytes]:
        try:
            messages = await self._store.get(self.queue, self.position, count)
        except UsageError:
            first = await self._store.first_offset(self.queue)
            if first <= self.position:
                raise
            self.position = first
            messages = await self._store.get(self.queue, first, count)
        self.position += len(messages)
        return messages

    async def commit(self) -> None:
        """See ``Consumer.commit``."""
        await self._store.commit(self.queue, self.group, self.position)
