"""``NatsStore``: a store of queues on NATS JetStream, replicated over its servers.

``broker.open_store("nats://...")`` makes one. Queues are subjects of one stream (``PREFIX.q.*``),
what is known of them beside their messages is in a second (``PREFIX-meta.*``);
``docs/formats/broker.md`` ("On NATS JetStream") has the layout and what it costs. Invariants: what
is acknowledged, a majority of the replicas has; offsets have no gaps and no doubles, however many
programs put to a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from dragoman.broker.nats_lives import Life, check_life
from dragoman.broker.nats_names import Location, is_hashed, name_of, parse, token_of
from dragoman.broker.nats_reader import CACHED_S, PLACES_OF_MAX, Gone, Reader
from dragoman.broker.nats_records import AROUND_BYTES, LAST, Found
from dragoman.broker.nats_stream import Conflict, Streams
from dragoman.broker.nats_workers import NatsWorkers, forget_consumers
from dragoman.broker.nats_writer import Puts, Writer
from dragoman.broker.owned import CLOSED, Owned
from dragoman.errors import (
    ConnectError,
    CorruptionError,
    DeadlineError,
    DragomanError,
    UsageError,
)
from dragoman.observe.faults import place_of
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
from dragoman.queue.work.settings import (
    LEASE_MS,
    WINDOW,
    settings_of,
)
from dragoman.reasons import reason

if TYPE_CHECKING:
    from dragoman.broker.nats_client import NatsClient

Name = str | bytes

# For how long JetStream itself drops what is published twice.
DUPLICATES_S = 120
# What a stream that was made or changed by others must have at the least.
DUPLICATES_LEAST_S = 30
RANGES_AT_ONCE = 64
# How often a queue that is waited for is looked at, although nothing was heard.
LOOK_S = 1.0
encode = msgspec.msgpack.Encoder().encode


class _Position(msgspec.Struct, array_like=True):
    """A position: first offset of a trimmed queue, or what a group has committed."""

    life: bytes
    position: int
    name: bytes = b""


_POSITION = msgspec.msgpack.Decoder(_Position)


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
        location: Location,
        where: str,
        *,
        timeout_ms: float,
        bytes_max: int,
    ) -> None:
        super().__init__()
        self._client = client
        self._location = location
        self._prefix = location.prefix
        self._meta = f"{location.prefix}-meta"
        self.where = where
        self._streams = Streams(client, where, timeout_ms)
        self._reader = Reader(self._streams, self._prefix)
        self._bytes_max = bytes_max
        self._writer = Writer(
            self._streams,
            self._prefix,
            payload_bytes=max(1024, client.max_payload - AROUND_BYTES),
            bytes_max=bytes_max,
        )
        self._many = asyncio.Semaphore(RANGES_AT_ONCE)
        self._trims: OrderedDict[bytes, tuple[float, _Position | None]] = OrderedDict()

    async def open(self) -> None:
        """Make the streams unless they are there. Raises UsageError if they are others'."""
        location = self._location
        common = {
            "retention": "limits",
            "storage": location.storage or "file",
            "num_replicas": location.replicas or 1,
            "duplicate_window": DUPLICATES_S * 1_000_000_000,
            "allow_direct": True,
        }
        queues = await self._streams.make(
            {**common, "name": self._prefix, "subjects": [f"{self._prefix}.q.*"]}
        )
        await self._streams.make(
            {
                **common,
                "name": self._meta,
                "subjects": [f"{self._meta}.>"],
                "max_msgs_per_subject": 1,
            }
        )
        config = queues["config"]
        if config.get("subjects") != [f"{self._prefix}.q.*"]:
            raise UsageError(f"{self.where}: stream {self._prefix} is not one of queues")
        if config.get("duplicate_window", 0) < DUPLICATES_LEAST_S * 1_000_000_000:
            raise UsageError(
                f"{self.where}: the stream's duplicate window is under {DUPLICATES_LEAST_S} s:"
                " two writers could get one offset"
            )
        for name, key, wanted in (
            ("replicas", "num_replicas", location.replicas),
            ("storage", "storage", location.storage),
        ):
            if wanted is not None and config.get(key) != wanted:
                raise UsageError(
                    f"{self.where}: the stream has {name}={config.get(key)}, not {wanted}"
                )

    def _subject(self, name: bytes) -> str:
        return f"{self._prefix}.q.{token_of(name)}"

    async def _last(self, name: bytes) -> Found | None:
        self._check_open()
        return await self._streams.last_record(self._prefix, self._subject(name))

    async def _position_at(self, subject: str) -> tuple[int, _Position | None]:
        """A position and the sequence that it is at."""
        got = await self._streams.last(self._meta, subject)
        if got is None:
            return 0, None
        try:
            return got[0], _POSITION.decode(got[1])
        except msgspec.DecodeError:
            raise CorruptionError(f"{subject} at sequence {got[0]}: not a position") from None

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
        trimmed = await self._trimmed(name)
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

    async def _trimmed(self, name: bytes) -> _Position | None:
        """Before where the queue was trimmed, as of a second ago at most."""
        known = self._trims.get(name)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        _, saved = await self._position_at(f"{self._meta}.t.{token_of(name)}")
        self._trims[name] = (self._loop.time() + CACHED_S, saved)
        self._trims.move_to_end(name)
        if len(self._trims) > PLACES_OF_MAX:
            self._trims.popitem(last=False)
        return saved

    def _forget(self, name: bytes) -> None:
        self._writer.forget(name)
        self._reader.forget(name)
        self._trims.pop(name, None)

    async def length(self, queue: Name) -> int:
        """See ``MessageStore.length``."""
        last = await self._last(queue_bytes(queue))
        return last.record.end if last is not None else 0

    async def first_offset(self, queue: Name) -> int:
        """See ``MessageStore.first_offset``."""
        name = queue_bytes(queue)
        self._check_open()
        last, (_, trimmed), first = await asyncio.gather(
            self._last(name),
            self._position_at(f"{self._meta}.t.{token_of(name)}"),
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
        subject = f"{self._meta}.c.{token_of(name)}.{token_of(group_name)}"
        await self._save_position(subject, _Position(last.record.life, position, group_name), None)

    async def _save_position(self, subject: str, saved: _Position, after: int | None) -> None:
        await self._streams.publish(
            self._meta,
            subject,
            encode(saved),
            id=self._writer.next_id(),
            after=after,
            until_s=self._streams.deadline_s(),
        )

    async def committed(self, queue: Name, group: Name) -> int:
        """See ``MessageStore.committed``."""
        name, group_name = queue_bytes(queue), group_bytes(group)
        last, (_, saved) = await asyncio.gather(
            self._last(name),
            self._position_at(f"{self._meta}.c.{token_of(name)}.{token_of(group_name)}"),
        )
        if last is None or saved is None or saved.life != last.record.life:
            return 0
        return saved.position

    async def groups(self, queue: Name) -> dict[bytes, int]:
        """See ``MessageStore.groups``."""
        name = queue_bytes(queue)
        last = await self._last(name)
        if last is None:
            return {}
        pattern = f"{self._meta}.c.{token_of(name)}.*"
        subjects = await self._streams.subjects(self._meta, pattern)
        found = {}
        for subject in subjects:
            _, saved = await self._position_at(subject)
            if saved is not None and saved.life == last.record.life:
                found[saved.name] = saved.position
        return found

    # What goes.

    async def trim(self, queue: Name, before: int) -> None:
        """See ``MessageStore.trim``. Space comes back by whole records, all but the last."""
        name, offset = queue_bytes(queue), before_of(before)
        last = await self._last(name)
        if last is None or offset == 0:
            return
        offset = min(offset, last.record.end)
        try:
            await self._note_trim(name, _Position(last.record.life, offset))
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
            self._trims.pop(name, None)
            self._reader.forget(name)

    async def _note_trim(self, name: bytes, wanted: _Position) -> None:
        """Save where the queue begins, unless it begins later already."""
        subject = f"{self._meta}.t.{token_of(name)}"
        while True:
            seq, known = await self._position_at(subject)
            same = known is not None and known.life == wanted.life
            if known is not None and same and known.position >= wanted.position:
                return
            try:
                await self._save_position(subject, wanted, seq)
                return
            except Conflict:
                continue

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
        await _close(self._client)

    def __repr__(self) -> str:
        return f"<NatsStore {self.where}, {self._state()}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _reason(error: Exception) -> str:
    return reason(error)


async def _close(client: NatsClient) -> None:
    if not client.is_connected:
        # What is left for a server that is away: closing would write it to a socket that is gone,
        # fail, and leave the client's tasks behind.
        client._pending.clear()
        client._pending_data_size = 0
    try:
        await client.close()
    except (OSError, RuntimeError) as error:
        # The server went in this very moment.
        logging.getLogger(__name__).debug("closing: %s", place_of(error))
    finally:
        client.hang_up()


async def open_nats(
    url: str,
    *,
    timeout_ms: int,
    connect_timeout_ms: int,
    bytes_max: int,
    tls: Any = None,
    **options: Any,
) -> NatsStore:
    """Open the store at a ``nats://`` URL; what ``broker.open_async`` does for one. Further
    ``options`` are those of ``nats.connect``."""
    location = parse(url)
    try:
        import nats.errors

        from dragoman.broker.nats_client import NatsClient
    except ImportError:
        raise UsageError(
            "nats:// needs the package nats-py: pip install 'dragoman[nats]'"
        ) from None
    where = f"nats://{','.join(s.removeprefix('nats://') for s in location.servers)}/" + (
        location.prefix
    )

    wrong: list[Exception] = []

    async def note(error: Exception) -> None:
        # What goes wrong later is in the errors of those who wait.
        wrong[:] = [error]

    client = NatsClient()
    try:
        async with asyncio.timeout(connect_timeout_ms / 1000):
            await client.connect(
                location.servers,
                user=location.user,
                password=location.password,
                tls=tls,
                error_cb=note,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]
                connect_timeout=2,
                **options,
            )
    except TypeError as error:
        raise UsageError(f"a store on NATS: {error}") from None
    except asyncio.CancelledError:
        client.hang_up()
        raise
    except (nats.errors.Error, OSError, TimeoutError) as error:
        client.hang_up()
        within = f"no connection within {connect_timeout_ms} ms"
        why = str(error) or (f"{within}: {_reason(wrong[0])}" if wrong else within)
        raise ConnectError(f"{where}: {why}") from None
    store = NatsStore(client, location, where, timeout_ms=timeout_ms, bytes_max=bytes_max)
    try:
        await store.open()
    except DeadlineError as error:
        await _close(client)
        raise ConnectError(f"{error}: is JetStream enabled there, and has it a majority?") from None
    except (DragomanError, asyncio.CancelledError):
        await _close(client)
        raise
    store._opened = True
    return store
