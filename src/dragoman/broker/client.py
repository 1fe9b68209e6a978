"""``ServedStore``: a store that another process serves, with the methods of ``AsyncQueueStore``.

``broker.open_async`` makes one, ``broker.open_store`` one for threads on top of it. What changes
queues goes through ``delivery``; what only reads is asked again when the connection breaks.

Invariants: nothing is put twice; the puts that it is given for one queue are stored in that order;
what is asked for ends within ``timeout_ms``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from dragoman.broker import messages as wire
from dragoman.broker.delivery import Batch, Delivery
from dragoman.broker.owned import CLOSED, Owned
from dragoman.broker.workers import ServedWorkers
from dragoman.errors import (
    ConnectError,
    CorruptionError,
    DeadlineError,
    DragomanError,
    LinkError,
    OverloadError,
    RemoteError,
    StorageError,
    UsageError,
)
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
from dragoman.queue.work.settings import (
    LEASE_MS,
    WINDOW,
    settings_of,
)

T = TypeVar("T")
Name = str | bytes
_Wanted = tuple[tuple[bytes, int, int], asyncio.Future[list[bytes]]]

# What one request puts at most, so that replies come while more is on its way.
BATCH_MESSAGES = 10_000
BATCH_BYTES = 4 << 20
RANGES_AT_ONCE = 10_000
NAMES_AT_ONCE = 4096
# How long a server is asked to wait at a time: then the client knows that it is there.
WAIT_MS = 20_000
AGAIN_S = 0.05


class Caller(Protocol):
    """An ``rpc.Client`` or a ``cluster.Pool``."""

    def call(
        self, method: str, body: bytes = b"", *, timeout_ms: float | None = ...
    ) -> asyncio.Future[bytes]:
        """Call a method of the server."""
        ...

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True)
class ServedStatistics:
    """What a served store tells of itself: ``store`` has the fields of ``queue.Statistics``,
    ``server`` what its server has counted."""

    queues: int
    messages_put: int
    bytes_put: int
    store: Mapping[str, Any]
    server: Mapping[str, Any]


class ServedStore(Owned):
    """A store that is served elsewhere; see ``AsyncMessageStore``. Belongs to the loop it was
    opened on."""

    def __init__(self, caller: Caller, where: str, *, timeout_ms: float, bytes_max: int) -> None:
        super().__init__()
        self._caller = caller
        self.where = where
        self._timeout_ms = timeout_ms
        self._bytes_max = bytes_max
        self._producer = os.urandom(16)
        self._server: bytes | None = None
        self._store: bytes | None = None
        self._opening: asyncio.Task[bytes] | None = None
        self._delivery = Delivery(self._loop, self._ready, self._forget, bytes_max)
        self._gathered: list[tuple[bytes, bytes, asyncio.Future[int]]] = []
        self._wanted: list[_Wanted] = []
        self._getting: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Future[bytes]] = set()

    # Which process answers.

    async def open(self) -> None:
        """Used by ``broker.open_async``: learn who answers."""
        await self._ready(self._timeout_ms)

    async def _ready(self, timeout_ms: float) -> bytes:
        if self._server is not None:
            return self._server
        if self._opening is None:
            self._opening = self._loop.create_task(self._open(timeout_ms))
            self._opening.add_done_callback(self._answered)
        return await asyncio.shield(self._opening)

    def _answered(self, task: asyncio.Task[bytes]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._server = task.result()

    async def _open(self, timeout_ms: float) -> bytes:
        body = wire.encode(wire.Open(wire.VERSION, self._producer))
        opened = _reply(
            wire.OPENED, await self._caller.call("queue.open", body, timeout_ms=timeout_ms)
        )
        if self._store is not None and opened.store != self._store:
            raise UsageError(
                f"{self.where}: another store is served there than before, or several are"
                " registered under one name"
            )
        self._store = opened.store
        return opened.process

    def _forget(self, process: bytes) -> None:
        if self._server == process:
            self._server = None

    async def _ask(
        self,
        method: str,
        make: Callable[[bytes], wire.Asking],
        decoder: msgspec.msgpack.Decoder[T],
        timeout_ms: float | None = None,
    ) -> T:
        """Ask what may be asked again."""
        self._check_open()
        until_s = self._loop.time() + (timeout_ms or self._timeout_ms) / 1000
        while True:
            left_ms = max(1.0, (until_s - self._loop.time()) * 1000)
            try:
                process = self._server or await self._ready(left_ms)
                body = wire.encode(make(process))
                called = self._caller.call(method, body, timeout_ms=left_ms)
                if method in ("queue.wait", "queue.take"):
                    self._waits.add(called)
                    called.add_done_callback(self._waits.discard)
                return _reply(decoder, await called)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and (task is None or not task.cancelling()):
                    raise UsageError(CLOSED) from None
                raise
            except (LinkError, OverloadError) as error:
                if self._closed:
                    raise UsageError(CLOSED) from None
                if self._loop.time() + AGAIN_S >= until_s:
                    raise
                last: DragomanError = error
            except RemoteError as error:
                if error.code != wire.OTHER_PROCESS:
                    raise wire.from_wire(error) from None
                self._forget(process)
                if self._loop.time() + AGAIN_S >= until_s:
                    raise ConnectError(
                        f"{self.where}: one process after the other answers; are several stores"
                        " registered under one name?"
                    ) from None
                continue
            except DeadlineError as error:
                raise DeadlineError(
                    f"{self.where}: no answer within {timeout_ms or self._timeout_ms:g} ms",
                    endpoint=error.endpoint,
                    retry_safe=True,
                ) from None
            if not isinstance(last, LinkError) or last.retry_safe:
                await asyncio.sleep(AGAIN_S)

    # Putting.

    def _send(
        self, method: str, make: Callable[[bytes, int, int, int, bool], wire.Asking], size: int
    ) -> asyncio.Future[bytes]:
        async def send(
            process: bytes, sequence: int, ended: int, after: int, again: bool, timeout_ms: float
        ) -> bytes:
            body = wire.encode(make(process, sequence, ended, after, again))
            return await self._caller.call(method, body, timeout_ms=timeout_ms)

        self._check_open()
        deadline_s = self._loop.time() + self._timeout_ms / 1000
        return self._delivery.add(Batch(send, size, deadline_s, self._loop.create_future()))

    def _send_put(
        self, queues: bytes | list[bytes], messages: list[bytes], size: int
    ) -> asyncio.Future[bytes]:
        producer = self._producer
        return self._send(
            "queue.put",
            lambda process, sequence, ended, after, again: wire.Put(
                process, producer, sequence, ended, after, again, queues, messages
            ),
            size,
        )

    async def put(self, queue: Name, message: bytes) -> int:
        """See ``MessageStore.put``. What is put in the same tick of the loop travels together."""
        self._check_open()
        future: asyncio.Future[int] = self._loop.create_future()
        name = queue_bytes(queue)
        if not self._gathered:
            self._loop.call_soon(self._put_gathered)
        self._gathered.append((name, message_bytes(message), future))
        return await future

    def _put_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        at = 0
        while at < len(gathered):
            size, end = 0, at
            while end < len(gathered) and end - at < BATCH_MESSAGES and size < BATCH_BYTES:
                size += len(gathered[end][0]) + len(gathered[end][1])
                end += 1
            batch = gathered[at:end]
            at = end
            futures = [future for _, _, future in batch]
            queues = [queue for queue, _, _ in batch]
            try:
                sent = self._send_put(queues, [message for _, message, _ in batch], size)
            except DragomanError as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            sent.add_done_callback(partial(_share, futures))

    async def put_many(self, queues: Any, messages: Iterable[bytes] | None = None) -> list[int]:
        """See ``MessageStore.put_many``. It goes out in batches of some megabytes; when one of them
        fails, others may have been stored."""
        names, bodies = puts_of(queues, messages)
        self._check_open()
        if self._gathered:
            self._put_gathered()
        sent: list[asyncio.Future[bytes]] = []
        at = 0
        while at < len(bodies):
            size, end = _portion(names, bodies, at)
            while self._delivery.bytes > self._bytes_max // 2:
                under_way = [future for future in sent if not future.done()]
                if not under_way:
                    break  # it is others' that waits, and the delivery says if it is too much
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            if any(future.done() and future.exception() for future in sent):
                break
            part = names if isinstance(names, bytes) else names[at:end]
            sent.append(self._send_put(part, bodies[at:end], size))
            at = end
        offsets: list[int] = []
        for reply in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(reply, BaseException):
                raise wire.from_wire(reply) if isinstance(reply, DragomanError) else reply
            part_offsets = _reply(wire.OFFSETS, reply)
            offsets += part_offsets
        return offsets

    async def delete(self, queue: Name) -> bool:
        """See ``MessageStore.delete``."""
        name = queue_bytes(queue)
        producer = self._producer
        try:
            reply = await self._send(
                "queue.delete",
                lambda process, sequence, ended, after, again: wire.Delete(
                    process, producer, sequence, ended, after, again, name
                ),
                len(name),
            )
        except DragomanError as error:
            raise wire.from_wire(error) from None
        return _reply(wire.FLAG, reply)

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
        if self._gathered:
            self._put_gathered()

    async def _close(self) -> None:
        for called in list(self._waits):
            called.cancel()
        await self._delivery.drain()
        if self._getting:
            await asyncio.wait(self._getting)
        await self._caller.close()

    def __repr__(self) -> str:
        return f"<ServedStore {self.where}, {self._state()}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


_NOTHING = msgspec.msgpack.Decoder(Any)


def _reply(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        raise DragomanError("the server's reply is none of this method's") from None


def _end(future: asyncio.Future[list[bytes]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _portion(names: bytes | list[bytes], bodies: list[bytes], at: int) -> tuple[int, int]:
    """What goes into the next request: its size, and where it ends."""
    if len(bodies) - at <= BATCH_MESSAGES:
        size = sum(map(len, bodies[at:] if at else bodies))
        if isinstance(names, list):
            size += sum(map(len, names[at:] if at else names))
        if size <= BATCH_BYTES:
            return size, len(bodies)
    size, end = 0, at
    while end < len(bodies) and end - at < BATCH_MESSAGES and size < BATCH_BYTES:
        size += len(bodies[end]) + (len(names[end]) if isinstance(names, list) else 0)
        end += 1
    return size, end


def _share(futures: list[asyncio.Future[int]], done: asyncio.Future[bytes]) -> None:
    """The offsets of a batch, or its error, to those who put."""
    error: BaseException | None = asyncio.CancelledError() if done.cancelled() else done.exception()
    offsets: list[int] = []
    if error is None:
        try:
            offsets = _reply(wire.OFFSETS, done.result())
        except DragomanError as wrong:
            error = wrong
    if error is None and len(offsets) == len(futures):
        for future, offset in zip(futures, offsets, strict=True):
            if not future.done():
                future.set_result(offset)
        return
    if isinstance(error, DragomanError):
        error = wire.from_wire(error)
    for future in futures:
        if not future.done():
            future.set_exception(error or DragomanError("the server's reply is none"))
