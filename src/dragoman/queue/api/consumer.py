"""``Consumer``: reads one queue in order for one group, over any store.

Every store makes them in its ``consumer``, and lets them read on by ``_read_on`` and
``_commit_as``. The invariants: what a read returned lies right before ``position``, in one *life*
of the queue: from its first message until it is deleted, or a crash takes its end. A position of
another life is never read from or committed: PositionLostError says so, and the next read begins
where the group does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from dragoman.errors import PositionLostError, UsageError
from dragoman.queue.api.arguments import wait_ms_of
from dragoman.queue.api.interface import AsyncReadable, Readable

# What iterating reads at a time.
TOGETHER = 256


def lost_position(
    queue: str | bytes, position: int, *, gone: bool, cut: int | None = None
) -> PositionLostError:
    """The error for a position that is of no queue any more. ``cut``: where a crash cut it."""
    name = queue.encode("utf-8", "replace") if isinstance(queue, str) else queue
    if gone:
        why = "it was deleted"
    elif cut is not None:
        why = f"a crash took all from offset {cut} on"
    else:
        why = "it was deleted and made anew, or the store crashed"
    return PositionLostError(
        f"queue {name!r:.200}: position {position} is not one of it any more: {why};"
        " reading again begins where the group does"
    )


class Consumer:
    """Reads one queue in order for one group. ``position`` is what the next ``read`` begins with.

    Not for several threads at once; any number of consumers may be made for a group.
    """

    def __init__(self, store: Readable, queue: str | bytes, group: str | bytes) -> None:
        self._store = store
        self.queue = queue
        self.group = group
        self._life: Any
        self.position: int
        self._life, self.position = store._begin(queue, group)

    def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """The next messages, at most ``count``; none at the end of the queue, unless one comes
        within ``wait_ms``.

        What was trimmed meanwhile is passed over. Raises PositionLostError, once, when the queue
        was deleted meanwhile, or its end was lost: the next read begins where the group does.
        """
        wait_ms_of(wait_ms, "wait_ms")
        messages = self._read(count)
        if not messages and wait_ms and count:
            self._store.wait_for(self.queue, self.position, wait_ms)
            messages = self._read(count)
        return messages

    def _read(self, count: int) -> list[bytes]:
        while True:
            try:
                self._life, messages = self._store._read_on(
                    self.queue, self._life, self.position, count
                )
            except PositionLostError:
                self._begin_again()
                raise
            except UsageError:
                if not self.position:
                    # Nothing was read: any life of the queue will do.
                    self._life, _ = self._store._begin(self.queue, self.group)
                first = self._store.first_offset(self.queue)
                if first <= self.position:
                    raise
                self.position = first
                continue
            self.position += len(messages)
            return messages

    def commit(self) -> None:
        """Everything read so far is consumed; another consumer of the group goes on from here.
        Raises PositionLostError as ``read`` does; nothing is committed then."""
        try:
            self._store._commit_as(self.queue, self.group, self.position, self._life)
        except PositionLostError:
            self._begin_again()
            raise

    def __iter__(self) -> Iterator[bytes]:
        """The messages one after the other, up to the queue's end as it is when it comes to it.

        Read ahead a few at a time; ``position``, and so what ``commit`` commits, is behind the one
        that was given last.
        """
        while messages := self._read(TOGETHER):
            self.position -= len(messages)
            life = self._life
            for message in messages:
                if self._life != life:
                    break  # begun again meanwhile
                self.position += 1
                yield message

    def __repr__(self) -> str:
        return f"<Consumer {self.group!r:.60} of {self.queue!r:.60} at {self.position}>"

    def _begin_again(self) -> None:
        self._life, self.position = self._store._begin(self.queue, self.group)


class AsyncConsumer:
    """``Consumer`` for asyncio; ``await store.consumer(queue, group)`` makes one."""

    def __init__(
        self,
        store: AsyncReadable,
        queue: str | bytes,
        group: str | bytes,
        life: Any,
        position: int,
    ) -> None:
        self._store = store
        self.queue = queue
        self.group = group
        self._life = life
        self.position = position

    @classmethod
    async def open(
        cls, store: AsyncReadable, queue: str | bytes, group: str | bytes
    ) -> AsyncConsumer:
        """A consumer at the group's committed position."""
        life, position = await store._begin(queue, group)
        return cls(store, queue, group, life, position)

    async def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """See ``Consumer.read``."""
        wait_ms_of(wait_ms, "wait_ms")
        messages = await self._read(count)
        if not messages and wait_ms and count:
            await self._store.wait_for(self.queue, self.position, wait_ms)
            messages = await self._read(count)
        return messages

    async def _read(self, count: int) -> list[bytes]:
        while True:
            try:
                self._life, messages = await self._store._read_on(
                    self.queue, self._life, self.position, count
                )
            except PositionLostError:
                await self._begin_again()
                raise
            except UsageError:
                if not self.position:
                    # Nothing was read: any life of the queue will do.
                    self._life, _ = await self._store._begin(self.queue, self.group)
                first = await self._store.first_offset(self.queue)
                if first <= self.position:
                    raise
                self.position = first
                continue
            self.position += len(messages)
            return messages

    async def commit(self) -> None:
        """See ``Consumer.commit``."""
        try:
            await self._store._commit_as(self.queue, self.group, self.position, self._life)
        except PositionLostError:
            await self._begin_again()
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """See ``Consumer.__iter__``."""
        while messages := await self._read(TOGETHER):
            self.position -= len(messages)
            life = self._life
            for message in messages:
                if self._life != life:
                    break
                self.position += 1
                yield message

    def __repr__(self) -> str:
        return f"<AsyncConsumer {self.group!r:.60} of {self.queue!r:.60} at {self.position}>"

    async def _begin_again(self) -> None:
        self._life, self.position = await self._store._begin(self.queue, self.group)
