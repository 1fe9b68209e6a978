"""``NatsStore``: a store of queues on NATS JetStream, replicated over its servers.

``nats_opening.open_nats`` makes one. Queues are subjects of one stream (``PREFIX.q.*``),
what is known of them beside their messages is in a second (``PREFIX-meta.*``);
``docs/formats/broker.md`` ("On NATS JetStream") has the layout and what it costs. Invariants: what
is acknowledged, a majority of the replicas has; offsets have no gaps and no doubles, however many
programs put to a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from dragoman.broker.nats_lives import Life, check_life
from dragoman.broker.nats_names import is_hashed, meta_of, name_of, token_of
from dragoman.broker.nats_positions import Position, Positions
from dragoman.broker.nats_reader import Gone, Reader
from dragoman.broker.nats_records import AROUND_BYTES, LAST, Found
from dragoman.broker.nats_stream import Streams
from dragoman.broker.nats_workers import NatsWorkers, forget_consumers
from dragoman.broker.nats_writer import Puts, Writer
from dragoman.broker.owned import CLOSED, Owned
from dragoman.errors import CorruptionError, UsageError
from dragoman.queue.api.arguments import (
    before_of,
    group_bytes,
    listed,
    message_bytes,
    position_of,
    puts_of,
    queue_bytes,
    range_of,
    wait_ms_of,
)
from dragoman.queue.api.consumer import AsyncConsumer, lost_position
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.work.settings import LEASE_MS, WINDOW, settings_of

if TYPE_CHECKING:
    from dragoman.broker.nats_client import NatsClient

Name = str | bytes

RANGES_AT_ONCE = 64
# How often a queue that is waited for is looked at, although nothing was heard.
LOOK_S = 1.0


@dataclass(frozen=True)
class NatsStatistics:
    """What JetStream says of the stream. ``records`` are its messages, each with many of a queue's;
    ``bytes`` what they take on each replica."""

    queues: int
    records: int
    bytes: int
    last_sequence: int
    replicas: int
    storage: str
    leader: str
    server: str


class NatsStore(Owned):
    """A store on JetStream; see ``AsyncMessageStore``. Belongs to the loop it was opened on."""

    def __init__(
        self,
        client: NatsClient,
        streams: Streams,
        prefix: str,
        where: str,
        *,
        bytes_max: int,
    ) -> None:
        super().__init__()
        self._client = client
        self._streams = streams
        self._prefix = prefix
        self._meta = meta_of(prefix)
        self.where = where
        self._reader = Reader(self._streams, self._prefix)
        self._bytes_max = bytes_max
        self._writer = Writer(
            self._streams,
            self._prefix,
            payload_bytes=max(1024, client.max_payload - AROUND_BYTES),
            bytes_max=bytes_max,
        )
        self._many = asyncio.Semaphore(RANGES_AT_ONCE)
        self._positions = Positions(streams, self._meta, self._writer.next_id)

    def _subject(self, name: bytes) -> str:
        return f"{self._prefix}.q.{token_of(name)}"

    async def _last(self, name: bytes) -> Found | None:
        self._check_open()
        return await self._streams.last_record(self._prefix, self._subject(name))

    # Putting.

    async def put(self, queue: Name, message: bytes) -> int:
        """See ``MessageStore.put``. What is put to a queue while a publication for it is under way
        goes into the next."""
        return (await self._put([queue_bytes(queue)], [message_bytes(message)]))[0]

    async def put_many(self, queues: Any, messages: Iterable[bytes] | None = None) -> list[int]:
        """See ``MessageStore.put_many``. When something fails, others may have been stored."""
        names, bodies = puts_of(queues, messages)
        if isinstance(names, bytes):
            names = [names] * len(bodies)
        offsets: list[int] = []
        # No more at a time than may wait.
        at = 0
        while at < len(bodies):
            size, end = 0, at
            while end < len(bodies) and size < self._bytes_max // 4 and end - at < 100_000:
                size += len(bodies[end])
                end += 1
            offsets += await self._put(names[at:end], bodies[at:end])
            at = end
        self._check_open()
        return offsets

    async def _put(self, names: list[bytes], messages: list[bytes]) -> list[int]:
        self._check_open()
        future: asyncio.Future[list[int]] = self._loop.create_future()
        puts = Puts(len(messages), future)
        self._writer.put(names, messages, puts)
        return await future

    # Getting.

    async def get(self, queue: Name, offset: int, count: int = 1) -> list[bytes]:
        """See ``MessageStore.get``."""
        return (await self._get(range_of((queue, offset, count)), b""))[1]

    async def get_many(self, requests: Iterable[tuple[Name, int, int]]) -> list[list[bytes]]:
        """See ``MessageStore.get_many``."""
        self._check_open()
        ranges = [range_of(request) for request in listed(requests, "get_many takes requests")]

        async def one(each: tuple[bytes, int, int]) -> list[bytes]:
            async with self._many:
                return (await self._get(each, b""))[1]

        results = await asyncio.gather(*map(one, ranges), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    async def _get(self, wanted: tuple[bytes, int, int], life: bytes) -> tuple[bytes, list[bytes]]:
        """Messages, and the life of the queue that they are of.

        Raises PositionLostError if ``life``, unless it is empty, is another.
        """
        name, offset, count = wanted
        self._check_open()
        if count == 0:
            return life, []
        trimmed = await self._positions.trimmed(name)
        if trimmed is None or offset >= trimmed.position:
            try:
                got = await self._reader.read_on(name, offset, count)
            except Gone:
                got = None
            if got is not None and (not life or got[0] == life):
                return got
        last = await self._last(name)
        now_life = last.record.life if last is not None else b""
        if life and (now_life != life or (last is not None and last.record.end < offset)):
            self._forget(name)
            cut = last.record.end if last is not None and now_life == life else None
            raise lost_position(name, offset, gone=last is None, cut=cut)
        if last is None or offset >= last.record.end:
            return now_life, []
        if trimmed is None or trimmed.life != now_life or offset >= trimmed.position:
            try:
                return now_life, await self._reader.read(name, offset, count, last)
            except Gone:
                pass
        first = await self.first_offset(name)
        if first <= offset:
            # Deleted meanwhile, and made again.
            self._forget(name)
            now = await self._last(name)
            if life and (now is None or now.record.life != life):
                raise lost_position(name, offset, gone=now is None)
            if now is None or now.record.end <= offset:
                return now_life, []
            raise CorruptionError(f"queue {name!r:.200}: offset {offset} is not in the stream")
        raise UsageError(f"offset {offset} is gone: the first of the queue is {first}")

    def _forget(self, name: bytes) -> None:
        self._writer.forget(name)
        self._reader.forget(name)
        self._positions.forget(name)

    async def length(self, queue: Name) -> int:
        """See ``MessageStore.length``."""
        last = await self._last(queue_bytes(queue))
        return last.record.end if last is not None else 0

    async def first_offset(self, queue: Name) -> int:
        """See ``MessageStore.first_offset``."""
        name = queue_bytes(queue)
        self._check_open()
        last, trimmed, first = await asyncio.gather(
            self._last(name),
            self._positions.trimmed_now(name),
            self._streams.next_record(self._prefix, self._subject(name), 1),
        )
        if last is None:
            return 0
        offset = first.record.first if first is not None else last.record.end
        if trimmed is not None and trimmed.life == last.record.life:
            offset = max(offset, trimmed.position)
        return min(offset, last.record.end)

    async def contains(self, queue: Name) -> bool:
        """Whether there is such a queue."""
        return await self._last(queue_bytes(queue)) is not None

    async def wait_for(self, queue: Name, offset: int, timeout_ms: float | None = None) -> int:
        """See ``MessageStore.wait_for``. The subject is listened to meanwhile."""
        import nats.errors

        name, offset, _ = range_of((queue, offset, 0))
        timeout_ms = wait_ms_of(timeout_ms)
        until_s = None if timeout_ms is None else self._loop.time() + timeout_ms / 1000
        length = await self.length(name)
        if length > offset or (until_s is not None and self._loop.time() >= until_s):
            return length
        heard = asyncio.Event()

        async def hear(_: Any) -> None:
            heard.set()

        # What is published is heard before it is stored: soon after, it is there.
        try:
            subscription = await self._client.subscribe(self._subject(name), cb=hear)
        except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError):
            raise UsageError(CLOSED) from None
        pause_s = 0.0
        try:
            while True:
                length = await self.length(name)
                left_s = LOOK_S if until_s is None else until_s - self._loop.time()
                if length > offset or left_s <= 0:
                    return length
                if heard.is_set():
                    heard.clear()
                    pause_s = 0.002
                pause_s = min(2 * pause_s, LOOK_S) or LOOK_S
                try:
                    async with asyncio.timeout(min(pause_s, left_s)):
                        await heard.wait()
                except TimeoutError:
                    continue
        finally:
            if not self._client.is_closed:
                with contextlib.suppress(nats.errors.Error):  # closed meanwhile
                    await subscription.unsubscribe()

    async def queues(self) -> AsyncIterator[bytes]:
        """See ``MessageStore.queues``; in no order."""
        self._check_open()
        start = len(self._prefix) + 3
        for subject in await self._streams.subjects(self._prefix, f"{self._prefix}.q.*"):
            token = subject[start:]
            if not is_hashed(token):
                yield name_of(token)
                continue
            named = await self._streams.last(self._meta, f"{self._meta}.n.{token}")
            if named is not None:
                yield named[1]

    # Groups.

    async def consumer(self, queue: Name, group: Name) -> AsyncConsumer:
        """See ``MessageStore.consumer``."""
        return await AsyncConsumer.open(self, queue, group)

    async def _begin(self, queue: Name, group: Name) -> tuple[Life, int]:
        name = queue_bytes(queue)
        while True:
            last = await self._last(name)
            life = last.record.life if last is not None else b""
            position = max(await self.committed(queue, group), await self.first_offset(queue))
            last = await self._last(name)
            if life == (last.record.life if last is not None else b""):
                return Life(life), position

    async def _read_on(
        self, queue: Name, life: Life, position: int, count: int
    ) -> tuple[Life, list[bytes]]:
        wanted = range_of((queue, position, count))
        connection = self._client.stats["reconnects"]
        if position:
            await self._check_life(wanted[0], life, position)
        now_life, messages = await self._get(wanted, life.queue if position else b"")
        by = self._reader.read_by() if messages else life.by if position else b""
        return Life(now_life, by, connection), messages

    async def _check_life(self, name: bytes, life: Life, position: int) -> None:
        if life.by and life.connection != self._client.stats["reconnects"]:
            await check_life(self._reader, name, life, position, await self._last(name))

    async def _commit_as(self, queue: Name, group: Name, position: int, life: Life) -> None:
        if position:
            await self._check_life(queue_bytes(queue), life, position)
        await self._commit_in(queue, group, position, life.queue if position else b"")

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
    ) -> NatsWorkers:
        """See ``QueueStore.workers``; ``window`` counts records. The settings are the consumer's
        that there is, if there is one."""
        self._check_open()
        name, group_name = queue_bytes(queue), group_bytes(group)
        settings = settings_of(
            name,
            lease_ms=lease_ms,
            attempts_max=attempts_max,
            dead_letter=dead_letter,
            ordered_by=ordered_by,
            window=window,
        )
        return NatsWorkers(self, name, group_name, settings)

    async def commit(self, queue: Name, group: Name, position: int) -> None:
        """See ``MessageStore.commit``."""
        await self._commit_in(queue, group, position, b"")

    async def _commit_in(self, queue: Name, group: Name, position: int, life: bytes) -> None:
        name, group_name = queue_bytes(queue), group_bytes(group)
        last = await self._last(name)
        if life and (last is None or last.record.life != life):
            raise lost_position(name, position, gone=last is None)
        position = position_of(position, last.record.end if last is not None else 0)
        if last is None:
            return  # position 0 of a queue that nobody has put to
        await self._positions.commit(name, Position(last.record.life, position, group_name))

    async def committed(self, queue: Name, group: Name) -> int:
        """See ``MessageStore.committed``."""
        name, group_name = queue_bytes(queue), group_bytes(group)
        last, known = await asyncio.gather(
            self._last(name), self._positions.committed(name, group_name)
        )
        if last is None or known is None or known.life != last.record.life:
            return 0
        return known.position

    async def groups(self, queue: Name) -> dict[bytes, int]:
        """See ``MessageStore.groups``."""
        name = queue_bytes(queue)
        last = await self._last(name)
        if last is None:
            return {}
        return {
            known.name: known.position
            async for known in self._positions.groups(name)
            if known.life == last.record.life
        }

    # What goes.

    async def trim(self, queue: Name, before: int) -> None:
        """See ``MessageStore.trim``. Space comes back by whole records, all but the last."""
        name, offset = queue_bytes(queue), before_of(before)
        last = await self._last(name)
        if last is None or offset == 0:
            return
        offset = min(offset, last.record.end)
        try:
            await self._positions.trim(name, Position(last.record.life, offset))
            keep = last
            if offset < last.record.end:
                keep = await self._reader.locate(name, offset, last)
            # The last record stays, since it says how long the queue is.
            parts = keep.record.kind == LAST and keep.record.parts
            first = keep.record.start if parts else keep.seq
            await self._streams.purge(self._prefix, self._subject(name), first)
        except Gone:
            return
        finally:
            self._positions.forget(name)
            self._reader.forget(name)

    async def delete(self, queue: Name) -> bool:
        """See ``MessageStore.delete``."""
        name = queue_bytes(queue)
        self._check_open()
        token = token_of(name)
        # What others keep of a queue that they make again right now must not go.
        info = await self._streams.info(self._meta)
        end = info["state"]["last_seq"] + 1 if info is not None else 1
        purged = await self._streams.purge(self._prefix, self._subject(name))
        self._forget(name)
        for subject in (f"t.{token}", f"c.{token}.*", f"n.{token}", f"w.{token}.>"):
            await self._streams.purge(self._meta, f"{self._meta}.{subject}", end)
        await forget_consumers(self._streams, self._prefix, name)
        return purged > 0

    # The rest.

    async def sync(self) -> None:
        """What was put before has been acknowledged by a majority when it returns; JetStream writes
        to its disks when it likes."""
        self._check_open()
        await self._writer.drain()

    async def statistics(self) -> NatsStatistics:
        """What JetStream says of the stream."""
        self._check_open()
        info = await self._streams.info(self._prefix)
        if info is None:
            raise CorruptionError(f"{self.where}: the stream is gone")
        state, config = info["state"], info["config"]
        return NatsStatistics(
            queues=state.get("num_subjects", 0),
            records=state["messages"],
            bytes=state["bytes"],
            last_sequence=state["last_seq"],
            replicas=config["num_replicas"],
            storage=config["storage"],
            leader=(info.get("cluster") or {}).get("leader", ""),
            server=self._client.connected_url.netloc if self._client.connected_url else "",
        )

    async def _close(self) -> None:
        await self._writer.drain()
        await self._client.leave()

    def __repr__(self) -> str:
        return f"<NatsStore {self.where}, {self._state()}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
