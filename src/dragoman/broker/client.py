"""``ServedStore``: a store that another process serves, with the methods of ``AsyncQueueStore``.

``broker.open_async`` makes one, ``broker.open_store`` one for threads on top of it. What changes
queues goes through ``batching``; what only reads is asked again when the connection breaks.

Invariants: nothing is put twice; the puts that it is given for one queue are stored in that order;
what is asked for ends within ``timeout_ms``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec

from dragoman.broker import messages as wire
from dragoman.broker.batching import PutBatches
from dragoman.broker.session import AGAIN_S, Caller, Session, reply_of
from dragoman.broker.workers import ServedWorkers
from dragoman.errors import CorruptionError, DragomanError, StorageError, UsageError
from dragoman.queue.api.arguments import (
    before_of,
    group_bytes,
    listed,
    message_bytes,
    puts_of,
    queue_bytes,
    range_of,
    wait_ms_of,
)
from dragoman.queue.api.consumer import AsyncConsumer
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.work.settings import LEASE_MS, WINDOW, settings_of

Name = str | bytes
_Wanted = tuple[tuple[bytes, int, int], asyncio.Future[list[bytes]]]

RANGES_AT_ONCE = 10_000
NAMES_AT_ONCE = 4096
# How long a server is asked to wait at a time: then the client knows that it is there.
WAIT_MS = 20_000


@dataclass(frozen=True)
class ServedStatistics:
    """What a served store tells of itself: ``store`` has the fields of ``queue.Statistics``,
    ``server`` what its server has counted."""

    queues: int
    messages_put: int
    bytes_put: int
    store: Mapping[str, Any]
    server: Mapping[str, Any]


class ServedStore(Session):
    """A store that is served elsewhere; see ``AsyncMessageStore``. Belongs to the loop it was
    opened on."""

    def __init__(self, caller: Caller, where: str, *, timeout_ms: float, bytes_max: int) -> None:
        super().__init__(caller, where, timeout_ms)
        self._puts = PutBatches(self, bytes_max)
        self._wanted: list[_Wanted] = []
        self._getting: set[asyncio.Task[None]] = set()

    # Putting.

    async def put(self, queue: Name, message: bytes) -> int:
        """See ``MessageStore.put``. What is put in the same tick of the loop travels together."""
        self._check_open()
        return await self._puts.put(queue_bytes(queue), message_bytes(message))

    async def put_many(self, queues: Any, messages: Iterable[bytes] | None = None) -> list[int]:
        """See ``MessageStore.put_many``. It goes out in batches of some megabytes; when one of them
        fails, others may have been stored."""
        names, bodies = puts_of(queues, messages)
        self._check_open()
        return await self._puts.put_many(names, bodies)

    async def delete(self, queue: Name) -> bool:
        """See ``MessageStore.delete``."""
        name = queue_bytes(queue)
        try:
            reply = await self._puts.delete(name)
        except DragomanError as error:
            raise wire.from_wire(error) from None
        return reply_of(wire.FLAG, reply)

    # Getting.

    async def get(self, queue: Name, offset: int, count: int = 1) -> list[bytes]:
        """See ``MessageStore.get``. What is asked in the same tick of the loop travels together."""
        wanted = range_of((queue, offset, count))
        self._check_open()
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        if not self._wanted:
            self._loop.call_soon(self._get_gathered)
        self._wanted.append((wanted, future))
        return await future

    def _get_gathered(self) -> None:
        wanted, self._wanted = self._wanted, []
        for at in range(0, len(wanted), RANGES_AT_ONCE):
            task = self._loop.create_task(self._get_some(wanted[at : at + RANGES_AT_ONCE]))
            self._getting.add(task)
            task.add_done_callback(self._getting.discard)

    async def _get_some(self, wanted: list[_Wanted]) -> None:
        try:
            results = await self._get_ranges([each for each, _ in wanted])
        except (UsageError, CorruptionError, StorageError) as error:
            if len(wanted) == 1:
                _end(wanted[0][1], error)
                return
            # One of them: each on its own.
            await asyncio.gather(*(self._get_some([each]) for each in wanted))
        except Exception as error:
            for _, future in wanted:
                _end(future, error)
        else:
            for (_, future), messages in zip(wanted, results, strict=True):
                if not future.done():
                    future.set_result(messages)

    async def get_many(self, requests: Iterable[tuple[Name, int, int]]) -> list[list[bytes]]:
        """See ``MessageStore.get_many``. Asked for in pieces of at most 16 MiB."""
        ranges = [range_of(request) for request in listed(requests, "get_many takes requests")]
        results: list[list[bytes]] = []
        for at in range(0, len(ranges), RANGES_AT_ONCE):
            results += await self._get_ranges(ranges[at : at + RANGES_AT_ONCE])
        return results

    async def _get_ranges(self, ranges: list[tuple[bytes, int, int]]) -> list[list[bytes]]:
        complete, results = await self._ask_ranges(ranges)
        while not complete:
            # What is missing: behind what came. Ranges that are at their end cost an empty list.
            missing = [
                number for number, each in enumerate(ranges) if len(results[number]) < each[2]
            ]
            # Those before the last that got something are at their queues' ends.
            last = max((number for number in missing if results[number]), default=-1)
            missing = [number for number in missing if number >= last]
            if not missing:
                break
            rest = [
                (ranges[n][0], ranges[n][1] + len(results[n]), ranges[n][2] - len(results[n]))
                for n in missing
            ]
            complete, more = await self._ask_ranges(rest)
            for number, messages in zip(missing, more, strict=True):
                results[number] += messages
        return results

    async def _ask_ranges(
        self, ranges: list[tuple[bytes, int, int]]
    ) -> tuple[bool, list[list[bytes]]]:
        complete, results = await self._ask(
            "queue.get",
            lambda process: wire.Get(process, wire.REPLY_BYTES_MAX, ranges),
            wire.GOT,
        )
        if len(results) != len(ranges) or not (complete or any(results)):
            raise DragomanError(f"{self.where}: the server answers other than it was asked")
        return complete, results

    async def _look(self, queue: Name) -> tuple[int, int, bool]:
        name = queue_bytes(queue)
        looked = await self._ask(
            "queue.look", lambda process: wire.Look(process, [name]), wire.LOOKED
        )
        return looked[0]

    async def length(self, queue: Name) -> int:
        """See ``MessageStore.length``."""
        return (await self._look(queue))[1]

    async def first_offset(self, queue: Name) -> int:
        """See ``MessageStore.first_offset``."""
        return (await self._look(queue))[0]

    async def contains(self, queue: Name) -> bool:
        """Whether there is such a queue."""
        return (await self._look(queue))[2]

    async def wait_for(self, queue: Name, offset: int, timeout_ms: float | None = None) -> int:
        """See ``MessageStore.wait_for``. The server answers as soon as there is a message."""
        _, offset, _ = range_of((queue, offset, 0))
        name = queue_bytes(queue)
        timeout_ms = wait_ms_of(timeout_ms)
        until_s = None if timeout_ms is None else self._loop.time() + timeout_ms / 1000
        left_ms = WAIT_MS

        def make(process: bytes) -> wire.Wait:
            return wire.Wait(process, name, offset, left_ms)

        while True:
            left_ms = WAIT_MS
            if until_s is not None:
                left_ms = max(0, min(left_ms, round((until_s - self._loop.time()) * 1000)))
            length = await self._ask(
                "queue.wait", make, wire.LENGTH, timeout_ms=left_ms + self._timeout_ms
            )
            if length > offset or (until_s is not None and self._loop.time() >= until_s - 0.001):
                return length
            # Sooner than asked for: the server stops. Not at once again.
            await asyncio.sleep(AGAIN_S if until_s is None else min(AGAIN_S, left_ms / 1000))

    async def queues(self) -> AsyncIterator[bytes]:
        """See ``MessageStore.queues``."""
        after = 0

        def make(process: bytes) -> wire.Names:
            return wire.Names(process, after, NAMES_AT_ONCE)

        while True:
            after, names = await self._ask("queue.names", make, wire.NAMED)
            for name in names:
                yield name
            if not after:
                return

    # Groups and the rest.

    async def consumer(self, queue: Name, group: Name) -> AsyncConsumer:
        """See ``MessageStore.consumer``."""
        return await AsyncConsumer.open(self, queue, group)

    async def _begin(self, queue: Name, group: Name) -> tuple[bytes, int]:
        name, group_name = queue_bytes(queue), group_bytes(group)
        return await self._ask(
            "queue.begin", lambda process: wire.Begin(process, name, group_name), wire.BEGUN
        )

    async def _read_on(
        self, queue: Name, life: bytes, position: int, count: int
    ) -> tuple[bytes, list[bytes]]:
        name, at, left = range_of((queue, position, count))
        messages: list[bytes] = []

        def make(process: bytes) -> wire.Get:
            return wire.Get(process, wire.REPLY_BYTES_MAX, [(name, at, left)], [life])

        while True:
            complete, (read,), (life,) = await self._ask("queue.get", make, wire.READ)
            messages += read
            at += len(read)
            left -= len(read)
            if complete or not left:
                return life, messages

    async def _commit_as(self, queue: Name, group: Name, position: int, life: bytes) -> None:
        await self._commit_in(queue, group, position, life)

    async def workers(
        self,
        queue: Name,
        group: Name,
        *,
        lease_ms: int = LEASE_MS,
        attempts_max: int | None = None,
        dead_letter: Name | None = None,
        ordered_by: KeyOf | str | None = None,
        window: int = WINDOW,
    ) -> ServedWorkers:
        """See ``QueueStore.workers``. ``ordered_by`` is no function: it would have to travel."""
        self._check_open()
        name, group_name = queue_bytes(queue), group_bytes(group)
        if callable(ordered_by):
            raise UsageError(
                "ordered_by of a served store is how many bytes are the key, or what ends it: a"
                " function does not travel"
            )
        settings = settings_of(
            name,
            lease_ms=lease_ms,
            attempts_max=attempts_max,
            dead_letter=dead_letter,
            ordered_by=ordered_by,
            window=window,
        )
        return ServedWorkers(self, name, group_name, settings, self._timeout_ms)

    async def commit(self, queue: Name, group: Name, position: int) -> None:
        """See ``MessageStore.commit``."""
        await self._commit_in(queue, group, position, None)

    async def _commit_in(self, queue: Name, group: Name, position: int, life: bytes | None) -> None:
        name, group_name = queue_bytes(queue), group_bytes(group)
        if not isinstance(position, int) or not 0 <= position < 1 << 63:
            raise UsageError(f"a position is 0 to the queue's length, not {position!r:.100}")
        await self._ask(
            "queue.commit",
            lambda process: wire.Commit(process, name, group_name, position, life),
            _NOTHING,
        )

    async def committed(self, queue: Name, group: Name) -> int:
        """See ``MessageStore.committed``."""
        name = group_bytes(group)
        return (await self.groups(queue)).get(name, 0)

    async def groups(self, queue: Name) -> dict[bytes, int]:
        """See ``MessageStore.groups``."""
        name = queue_bytes(queue)
        return await self._ask(
            "queue.groups", lambda process: wire.Groups(process, name), wire.GROUPED
        )

    async def trim(self, queue: Name, before: int) -> None:
        """See ``MessageStore.trim``."""
        name, offset = queue_bytes(queue), before_of(before)
        await self._ask("queue.trim", lambda process: wire.Trim(process, name, offset), _NOTHING)

    async def sync(self) -> None:
        """See ``MessageStore.sync``: what has been acknowledged is durable at the server."""
        await self._ask("queue.sync", wire.Asking, _NOTHING)

    async def statistics(self) -> ServedStatistics:
        """The store's counters and its server's."""
        store, server = await self._ask("queue.statistics", wire.Asking, wire.COUNTED)
        return ServedStatistics(
            queues=store.get("queues", 0),
            messages_put=store.get("messages_put", 0),
            bytes_put=store.get("bytes_put", 0),
            store=store,
            server=server,
        )

    def _flush(self) -> None:
        self._puts.flush()

    async def _close(self) -> None:
        for called in list(self._waits):
            called.cancel()
        await self._puts.drain()
        if self._getting:
            await asyncio.wait(self._getting)
        await self._caller.close()

    def __repr__(self) -> str:
        return f"<ServedStore {self.where}, {self._state()}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_NOTHING = msgspec.msgpack.Decoder(Any)


def _end(future: asyncio.Future[list[bytes]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
