"""What every store of queues can do, wherever its messages are: the local ``QueueStore``, one that
another process serves, and the one on NATS JetStream (``dragoman.broker`` has these two).

Programs that are to work with any of them name these types; ``tests/broker/conformance.py`` holds
all of them to what is said here. What they may differ in:

- **Durability.** A put is acknowledged under the terms of its store: ``durability`` of a
  ``QueueStore``, the same of the store that is served, a majority of the replicas on JetStream.
- **Statistics.** All have ``queues``; what else there is, is the store's.
- **Order of ``queues()``.** As they were made on a ``QueueStore``, served or not; any on JetStream.
- **Errors of the network** (``LinkError``, ``DeadlineError``, ``OverloadError``): only where there
  is one. Their ``retry_safe`` says whether a put certainly was not stored.
- **put_many** stores nothing if an argument is wrong. When the disk or the network fails in its
  middle, some may be stored.

Invariants of all: offsets count from 0 in each queue without a gap; what was acknowledged stays at
its offset, byte for byte, until it is trimmed, deleted or past retention; the puts that one store
object was given for one queue are stored in the order given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, overload

from dragoman.queue.work.leases import Message

# Text stands for its UTF-8.
Name = str | bytes
Request = tuple[Name, int, int]
# Of messages that are to be done in order: see ``QueueStore.workers``.
KeyOf = int | bytes | Callable[[bytes], Hashable]


class Counts(Protocol):
    """What ``statistics()`` of every store has."""

    @property
    def queues(self) -> int:
        """How many queues there are."""
        ...


class GroupConsumer(Protocol):
    """Reads one queue in order for one group; see ``dragoman.queue.api.consumer``."""

    position: int

    def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """The next messages, at most ``count``."""
        ...

    def commit(self) -> None:
        """Everything read so far is consumed."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


class AsyncGroupConsumer(Protocol):
    """``GroupConsumer`` for asyncio."""

    position: int

    async def read(self, count: int = 1, *, wait_ms: float = 0) -> list[bytes]:
        """The next messages, at most ``count``."""
        ...

    async def commit(self) -> None:
        """Everything read so far is consumed."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class GroupWorkers(Protocol):
    """Takes messages of one queue for one group, each of which no other worker of the group has;
    see ``dragoman.queue.work.workers``."""

    def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """Up to ``count`` messages that nobody has, for the lease."""
        ...

    def ack(self, messages: Message | Sequence[Message]) -> int:
        """They are done; how many of them are."""
        ...

    def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """They are to be given again; how many of them this worker still had."""
        ...

    def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """They stay this worker's for another lease; how many of them it still had."""
        ...


class AsyncGroupWorkers(Protocol):
    """``GroupWorkers`` for asyncio."""

    async def take(self, count: int = 1, *, wait_ms: float = 0) -> list[Message]:
        """See ``GroupWorkers.take``."""
        ...

    async def ack(self, messages: Message | Sequence[Message]) -> int:
        """See ``GroupWorkers.ack``."""
        ...

    async def nack(self, messages: Message | Sequence[Message], *, delay_ms: float = 0) -> int:
        """See ``GroupWorkers.nack``."""
        ...

    async def extend(
        self, messages: Message | Sequence[Message], *, lease_ms: float | None = None
    ) -> int:
        """See ``GroupWorkers.extend``."""
        ...


class MessageStore(Protocol):
    """Queues of messages with offsets. Every method may be called from any thread.

    Wrong types, names and messages of a wrong size, negative offsets and counts, and a store that
    is closed are ``UsageError``; stored bytes that are not what was written ``CorruptionError``.
    """

    def put(self, queue: Name, message: bytes) -> int:
        """Append one message (0 bytes to 16 MiB); returns its offset in the queue. A queue comes
        into being with its first message; its name has 1 byte to 64 KiB."""
        ...

    @overload
    def put_many(self, queues: Iterable[tuple[Name, bytes]]) -> list[int]: ...
    @overload
    def put_many(self, queues: Name, messages: Iterable[bytes]) -> list[int]: ...
    @overload
    def put_many(self, queues: Sequence[Name], messages: Sequence[bytes]) -> list[int]: ...
    def put_many(self, queues: Any, messages: Any = None) -> list[int]:
        """Append many: pairs of queue and message, one queue with its messages, or queues beside
        messages; returns their offsets."""
        ...

    def get(self, queue: Name, offset: int, count: int = 1) -> list[bytes]:
        """Up to ``count`` messages from ``offset`` on, fewer only at the queue's end. Raises
        UsageError if the message at ``offset`` was there and is gone."""
        ...

    def get_many(self, requests: Iterable[Request]) -> list[list[bytes]]:
        """For each (queue, offset, count) what ``get`` returns."""
        ...

    def length(self, queue: Name) -> int:
        """The offset that the next message will get; 0 if there is no such queue."""
        ...

    def first_offset(self, queue: Name) -> int:
        """The offset of the oldest message that is there; ``length`` when there is none."""
        ...

    def wait_for(self, queue: Name, offset: int, timeout_ms: float | None = None) -> int:
        """Wait until the queue is longer than ``offset``, at most ``timeout_ms`` (None: without
        end); returns its length then."""
        ...

    def queues(self) -> Iterator[bytes]:
        """The names of all queues, as bytes."""
        ...

    def __contains__(self, queue: Name) -> bool: ...

    def consumer(self, queue: Name, group: Name) -> GroupConsumer:
        """Reads ``queue`` for ``group``, from its committed position on."""
        ...

    def workers(
        self,
        queue: Name,
        group: Name,
        *,
        lease_ms: int = ...,
        attempts_max: int | None = ...,
        dead_letter: Name | None = ...,
        ordered_by: KeyOf | str | None = ...,
        window: int = ...,
    ) -> GroupWorkers:
        """Takes messages of ``queue`` for ``group``, each with one worker at a time; see
        ``QueueStore.workers``."""
        ...

    def commit(self, queue: Name, group: Name, position: int) -> None:
        """All before ``position`` is consumed by ``group`` (a name of 1 to 1,024 bytes). UsageError
        for a position beyond the queue's end."""
        ...

    def committed(self, queue: Name, group: Name) -> int:
        """The group's position; 0 when nothing was committed."""
        ...

    def groups(self, queue: Name) -> dict[bytes, int]:
        """Committed positions by group."""
        ...

    def trim(self, queue: Name, before: int) -> None:
        """The messages before offset ``before`` are gone; beyond the queue's end: all are."""
        ...

    def delete(self, queue: Name) -> bool:
        """The queue, its messages and its groups are gone; False when there was none. The next put
        to it begins anew at 0."""
        ...

    def sync(self) -> None:
        """What was put before is durable when it returns, as far as the store makes it so."""
        ...

    def statistics(self) -> Counts:
        """A frozen object of counters."""
        ...

    def close(self) -> None:
        """Let go of everything; closing twice is once."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: Any) -> None: ...


class AsyncMessageStore(Protocol):
    """``MessageStore`` with coroutines, for the loop that it was opened on. ``contains`` stands for
    ``in``."""

    async def put(self, queue: Name, message: bytes) -> int:
        """See ``MessageStore.put``."""
        ...

    async def put_many(self, queues: Any, messages: Any = None) -> list[int]:
        """See ``MessageStore.put_many``."""
        ...

    async def get(self, queue: Name, offset: int, count: int = 1) -> list[bytes]:
        """See ``MessageStore.get``."""
        ...

    async def get_many(self, requests: Iterable[Request]) -> list[list[bytes]]:
        """See ``MessageStore.get_many``."""
        ...

    async def length(self, queue: Name) -> int:
        """See ``MessageStore.length``."""
        ...

    async def first_offset(self, queue: Name) -> int:
        """See ``MessageStore.first_offset``."""
        ...

    async def wait_for(self, queue: Name, offset: int, timeout_ms: float | None = None) -> int:
        """See ``MessageStore.wait_for``."""
        ...

    def queues(self) -> AsyncIterator[bytes]:
        """See ``MessageStore.queues``."""
        ...

    async def contains(self, queue: Name) -> bool:
        """Whether there is such a queue."""
        ...

    async def consumer(self, queue: Name, group: Name) -> AsyncGroupConsumer:
        """See ``MessageStore.consumer``."""
        ...

    async def workers(
        self,
        queue: Name,
        group: Name,
        *,
        lease_ms: int = ...,
        attempts_max: int | None = ...,
        dead_letter: Name | None = ...,
        ordered_by: KeyOf | str | None = ...,
        window: int = ...,
    ) -> AsyncGroupWorkers:
        """See ``MessageStore.workers``."""
        ...

    async def commit(self, queue: Name, group: Name, position: int) -> None:
        """See ``MessageStore.commit``."""
        ...

    async def committed(self, queue: Name, group: Name) -> int:
        """See ``MessageStore.committed``."""
        ...

    async def groups(self, queue: Name) -> dict[bytes, int]:
        """See ``MessageStore.groups``."""
        ...

    async def trim(self, queue: Name, before: int) -> None:
        """See ``MessageStore.trim``."""
        ...

    async def delete(self, queue: Name) -> bool:
        """See ``MessageStore.delete``."""
        ...

    async def sync(self) -> None:
        """See ``MessageStore.sync``."""
        ...

    async def statistics(self) -> Counts:
        """See ``MessageStore.statistics``."""
        ...

    async def close(self) -> None:
        """See ``MessageStore.close``."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: Any) -> None: ...


class Readable(MessageStore, Protocol):
    """A store that consumers read on from. A *life* tells a queue from every other that had or will
    have its name, and from itself with a part of it lost; what it is, is the store's."""

    def _begin(self, queue: Name, group: Name) -> tuple[Any, int]:
        """The queue's life now, and where the group is in it."""
        ...

    def _read_on(
        self, queue: Name, life: Any, position: int, count: int
    ) -> tuple[Any, list[bytes]]:
        """``get`` of what is at ``position`` in that life of the queue, and its life now. Raises
        PositionLostError if it has another; any will do for position 0."""
        ...

    def _commit_as(self, queue: Name, group: Name, position: int, life: Any) -> None:
        """``commit`` in that life of the queue; raises PositionLostError."""
        ...


class AsyncReadable(AsyncMessageStore, Protocol):
    """``Readable`` with coroutines."""

    async def _begin(self, queue: Name, group: Name) -> tuple[Any, int]: ...
    async def _read_on(
        self, queue: Name, life: Any, position: int, count: int
    ) -> tuple[Any, list[bytes]]: ...
    async def _commit_as(self, queue: Name, group: Name, position: int, life: Any) -> None: ...
