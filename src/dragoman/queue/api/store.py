"""``QueueStore``: a million queues and more in one process, on one disk.

What users open. Options are checked here, threads started and stopped; the rest is the engine's, or
of what a store has: ``Positions`` of groups, ``Work`` that they share, ``Upkeep``. Long because it
is all that users call, each method with what it promises.

The invariants: a store that could not be opened leaves no thread, lock or descriptor behind; every
public method that is written here and touches the engine is a use of it (``_using``), so that it
ends before ``close`` lets go of what it needs; what the store's own threads call is not.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from dragoman.clock import SYSTEM_CLOCK, Clock
from dragoman.errors import CorruptionError, DragomanError, StorageError, UsageError
from dragoman.queue.api.arguments import WORK, group_bytes, position_of, range_of, wait_ms_of
from dragoman.queue.api.background import run_compaction, run_upkeep
from dragoman.queue.api.choices import checked, durability_of, path_of
from dragoman.queue.api.consumer import Consumer, lost_position
from dragoman.queue.api.interface import KeyOf
from dragoman.queue.api.positions import Positions
from dragoman.queue.api.report import Damage, Statistics
from dragoman.queue.api.retention import Retention
from dragoman.queue.api.upkeep import Upkeep
from dragoman.queue.api.verification import verify_segments
from dragoman.queue.disk.directory import StoreDirectory, direct_alignment, prepare
from dragoman.queue.disk.epochs import EPOCH, Epochs
from dragoman.queue.disk.files import Files
from dragoman.queue.engine.engine import Engine
from dragoman.queue.work.settings import (
    LEASE_MS,
    WINDOW,
)
from dragoman.queue.work.workers import Work, Workers, workers_of

log = logging.getLogger(__name__)

# How often a store looks whether a queue that is waited for has grown: at first, and at the least.
WAIT_S = 0.0005, 0.02


_OPEN: weakref.WeakSet[QueueStore] = weakref.WeakSet()


def _in_child() -> None:
    # Threads did not come along, descriptors and memory are copies: the child has no store.
    for store in list(_OPEN):
        store._in_child()


def _at_exit() -> None:
    # Later the threads could not be waited for: whoever closes or puts then would hang.
    for store in list(_OPEN):
        try:
            store.close()
        except DragomanError as error:
            log.error("%s: closing at the process's end: %s", store.path, error)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)


class QueueStore(Engine):
    """A directory of queues, open for writing by one process, or for reading by any number.

    Queues are named by text or bytes (1 byte to 64 KiB; text is its UTF-8) and come into being
    with the first message put to them. Messages are bytes (0 to 16 MiB) with offsets counted from
    0 in each queue. All methods may be called from any thread. Use it as a context manager, or
    call ``close``.

    ``durability``: ``none``, ``interval(ms)`` or ``always``; ``docs/formats/queue.md`` says what
    each promises. ``memory_bytes``: about how much memory the store may use in all; more makes
    blocks longer. ``cache_bytes``: of that, for blocks that were read. ``segment_bytes``: for a
    new store, the size of its files, a power of two. ``journal_bytes``: the journal is
    kept within it: old tails are moved, or become blocks early, and puts wait for that.
    ``compact_below``: segments of which less than this part is alive are compacted in the
    background, so that the log takes at most live bytes divided by it, and two segments; None:
    never. ``compaction_bytes_s`` and ``compaction_memory_bytes`` bound it.
    ``read_only``: what is on the disk when it opens, beside a writer; what the writer compacts or
    drops meanwhile it cannot read any more, and says so.

    Raises LockedError when another has it open for writing, UsageError for bad options,
    StorageError when the disk refuses, CorruptionError when what is there cannot be a store.
    Damage to a part is in ``damage``; the rest is served.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        durability: str = "interval(100)",
        memory_bytes: int = 1_400_000_000,
        cache_bytes: int = 33_554_432,
        segment_bytes: int = 1 << 30,
        journal_bytes: int = 2 << 30,
        expected_queues: int = 0,
        retention_s: float | None = None,
        retention_bytes: int | None = None,
        retention_messages: int | None = None,
        compact_below: float | None = 0.5,
        compaction_bytes_s: int = 50_000_000,
        compaction_memory_bytes: int = 16 << 20,
        read_only: bool = False,
        create: bool = True,
        files: Files | None = None,
    ) -> None:
        # Long because each option is checked and handed on by its name.
        level, interval_ms = durability_of(durability)
        checked(
            memory_bytes=memory_bytes,
            cache_bytes=cache_bytes,
            segment_bytes=segment_bytes,
            journal_bytes=journal_bytes,
            expected_queues=expected_queues,
            retention_s=retention_s,
            retention_bytes=retention_bytes,
            retention_messages=retention_messages,
            compact_below=compact_below,
            compaction_bytes_s=compaction_bytes_s,
            compaction_memory_bytes=compaction_memory_bytes,
        )
        if files is not None and not isinstance(files, Files):
            raise UsageError(f"files is a Files, not {type(files).__name__}")
        self._level = level
        self._ended = threading.Event()
        self._positions = Positions(self)
        self._upkeep = Upkeep(
            self,
            Retention(retention_s, retention_bytes, retention_messages),
            compact_below=compact_below,
            compaction_bytes_s=compaction_bytes_s,
            compaction_memory_bytes=compaction_memory_bytes,
        )
        self._working = threading.Lock()
        self._work = Work(self)
        self._clock: Clock = SYSTEM_CLOCK
        self.path = path_of(path)
        self.durability = durability
        self.read_only = read_only
        self._files = files if files is not None else Files()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Lock()
        self._closed = True  # until there is something to close
        self._forked = False
        self._directory = StoreDirectory(self.path, read_only=read_only, missing_ok=create)
        self._files.directory = self._directory.descriptor
        _OPEN.add(self)
        self._closed = False
        with self._opening():
            identity = prepare(
                self._files, self.path, segment_bytes, create=create and not read_only
            )
            self.identity = identity.identity
            self._open(
                str(self.path),
                self._files,
                identity=self.identity,
                segment_bytes=identity.segment_bytes,
                alignment=direct_alignment(self._directory.descriptor),
                durability=level,
                interval_ms=interval_ms,
                memory_bytes=memory_bytes,
                cache_bytes=cache_bytes,
                journal_bytes=journal_bytes,
                journal_file_bytes=min(64 << 20, max(1 << 17, journal_bytes // 8)),
                read_only=read_only,
            )
            if expected_queues and not read_only:
                rest = memory_bytes - cache_bytes - 100 * expected_queues
                most = expected_queues * 64 * 1024
                self._touch(expected_queues, max(0, min(rest, most)))
            self._start()
        for damage in self._damage()[:20]:
            log.error("%s: %s", self.path, damage)

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        # What fails leaves nothing behind, and is an error of this package.
        try:
            yield
        except OSError as error:
            self._abandon()
            where = error.filename if isinstance(error.filename, str) else self.path
            raise StorageError(f"{where}: {error.strerror}", errno=error.errno) from error
        except MemoryError as error:
            self._abandon()
            raise UsageError(
                f"{self.path}: {error or 'no memory'}: memory_bytes, cache_bytes or"
                " expected_queues are more than the machine gives"
            ) from None
        except BaseException:
            self._abandon()
            raise

    def _start(self) -> None:
        # No thread keeps the store: one that is dropped is closed.
        part = self._threads_part()
        if not self.read_only:
            self._thread("dragoman-queue-log", part.write_log)
        self._replay()
        if not self.read_only:
            for number, group, position in self.recovery.beyond:
                if not group.startswith(WORK):
                    self._commit(number, group, position)
            self._thread("dragoman-queue-journal", part.write_journal)
            if self.recovery.stale:
                self._leave_journal()
            self._reserve_meta()
        self._epochs = Epochs(self._files, self.path)
        if self._epochs.damaged:
            self.recovery.damage.append((EPOCH, 0, 0, 0, 0, "not what was written"))
        if not self.read_only and (self._epochs.damaged or not self.recovery.in_order):
            self._epochs.begin(self._lengths())
        self._positions.find(self.recovery.groups, self.recovery.beyond, read_only=self.read_only)
        if not self.read_only:
            me = weakref.ref(self)
            self._thread("dragoman-queue-upkeep", run_upkeep, me, part, self._ended)
            self._thread("dragoman-queue-compaction", run_compaction, me, self._ended)

    def _thread(self, name: str, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _rest(self) -> None:
        self._ended.set()
        self._stop()
        for thread in self._threads:
            if thread is not threading.current_thread():  # which has dropped the store
                thread.join()
        self._threads.clear()

    def _abandon(self) -> None:
        self._closed = True
        self._rest()
        self._close()
        self._directory.release()
        self._files.directory = -1
        _OPEN.discard(self)

    @property
    def damage(self) -> list[Damage]:
        """What opening found that was not as it had been written; the rest is served."""
        with self._using():
            return self._damage()

    def _damage(self) -> list[Damage]:
        return [
            Damage(file, offset, self._name(queue) if queue else None, first, messages, reason)
            for file, offset, queue, first, messages, reason in self.recovery.damage
        ]

    def queues(self) -> Iterator[bytes]:
        """The names of all queues, as bytes, in the order in which they were made."""
        start = 1
        while start:
            start, names = self._names(start, 4096)
            yield from names

    def wait_for(self, queue: str | bytes, offset: int, timeout_ms: float | None = None) -> int:
        """Wait until the queue is longer than ``offset``, at most ``timeout_ms`` (None: without
        end); returns its length then. It is looked at up to every 20 ms."""
        _, offset, _ = range_of((queue, offset, 0))
        timeout_ms = wait_ms_of(timeout_ms)
        until_s = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        pause_s, pause_max_s = WAIT_S
        while (length := self.length(queue)) <= offset:
            if until_s is not None:
                pause_s = min(pause_s, until_s - time.monotonic())
                if pause_s <= 0:
                    break
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, pause_max_s)
        return length

    def statistics(self) -> Statistics:
        """Counters since opening, and sizes now."""
        with self._using():
            return Statistics(**self._statistics(), stamped_ahead_s=self._upkeep.retention.ahead_s)  # type: ignore[arg-type]

    # Upkeep.

    def upkeep(self) -> int:
        """What a thread does each second: retention, giving space back; how many bytes it gave.

        Blocks whose messages are all gone (trimmed, deleted, past retention) give their space back
        when their whole segment is, or when it is compacted.
        """
        with self._using(True):
            return self._upkeep.run()

    def compact(self) -> int:
        """Do at once, and as fast as the disk allows, what a thread does in the background.

        Segments of which most is dead are replaced by what is alive of them, of those that there
        are when it is called. Returns the bytes that gave. Raises StorageError when the disk
        refuses; nothing is lost then.
        """
        with self._using(True):
            return self._upkeep.compact()

    # Consumers.

    def consumer(self, queue: str | bytes, group: str | bytes) -> Consumer:
        """Reads ``queue`` in order for ``group``, from the group's committed position on."""
        return Consumer(self, queue, group)

    def _begin(self, queue: str | bytes, group: str | bytes) -> tuple[int, int]:
        # The queue's life, and where the group is in it. A life is the queue's number, which no
        # other queue ever has; 0: there is no such queue.
        name = group_bytes(group)
        while True:
            life = self._id(queue)
            position = self._positions.of(life, name)
            position = max(position, self.first_offset(queue))
            if self._id(queue) == life:
                return life, position

    def _read_on(
        self, queue: str | bytes, life: int, position: int, count: int
    ) -> tuple[int, list[bytes]]:
        life = life if life and position else self._id(queue)
        try:
            messages = self.get_many(((queue, position, count),))[0]
        except UsageError:
            self._check_life(queue, life, position)
            raise
        if self._id(queue) != life:
            self._check_life(queue, life, position)
        return life, messages

    def _check_life(self, queue: str | bytes, life: int, position: int) -> None:
        # After reading, or what was read might be of another life.
        now = self._id(queue)
        if now != life:
            raise lost_position(queue, position, gone=not now)

    def _commit_as(
        self, queue: str | bytes, group: str | bytes, position: int, life: int | None
    ) -> None:
        name = group_bytes(group)
        with self._using(True):
            number = self._id(queue)
            if life is not None and life != number and position:
                raise lost_position(queue, position, gone=not number)
            position = position_of(position, self.length(queue))
            if number == 0:
                return  # position 0 of a queue that nobody has put to
            self._work.reset(number, name)
            self._positions.commit(number, name, position)
            if self._level == 2:
                self._sync_meta(True)

    # For those who serve the store: lives that outlast its being opened.

    def _life(self, queue: str | bytes) -> bytes:
        number = self._id(queue)
        return self._epochs.now + number.to_bytes(4, "little") if number else b""

    def _follow(self, queue: str | bytes, life: bytes, position: int) -> bytes:
        # The queue's life now, of which ``position`` is one if it was one of ``life``, which may be
        # from before the store was opened.
        now = self._life(queue)
        if now == life:
            return now
        if now and now[8:] == life[8:]:
            end = self._epochs.end(life[:8], int.from_bytes(life[8:], "little"))
            if end is not None and position <= end:
                return now
            raise lost_position(queue, position, gone=False, cut=end)
        raise lost_position(queue, position, gone=not now)

    def committed(self, queue: str | bytes, group: str | bytes) -> int:
        """The group's position: all before it is consumed. 0 when nothing was committed."""
        name = group_bytes(group)
        return self._positions.of(self._id(queue), name)

    def commit(self, queue: str | bytes, group: str | bytes, position: int) -> None:
        """All before ``position`` is consumed by ``group``.

        Durable when it returns under ``always``, within the interval under ``interval``, and with
        the next sync or close under ``none``. UsageError for a position beyond the queue's end.
        """
        self._commit_as(queue, group, position, None)

    def groups(self, queue: str | bytes) -> dict[bytes, int]:
        """Committed positions by group."""
        positions = list(self._positions.groups.get(self._id(queue), {}).items())
        return {name: position for name, position in positions if not name.startswith(WORK)}

    def _forget(self, id: int) -> None:
        self._work.forget(id)
        self._positions.forget(id)

    # Groups that share work.

    def workers(
        self,
        queue: str | bytes,
        group: str | bytes,
        *,
        lease_ms: int = LEASE_MS,
        attempts_max: int | None = None,
        dead_letter: str | bytes | None = None,
        ordered_by: KeyOf | str | None = None,
        window: int = WINDOW,
    ) -> Workers:
        """Takes messages of ``queue`` for ``group``, sharing the work with all others that are made
        for it: each message is with one of them at a time.

        A message is one worker's for ``lease_ms``; unless it is settled until then, it is given
        again. After ``attempts_max`` attempts it is put to the queue ``dead_letter`` instead (the
        two go together; without them there is no end of attempts). ``ordered_by``: messages with
        one key are given one after the other, each when the one before is done: how many bytes at
        the beginning are the key, or what ends it, or a function of the message. ``window``: so
        many messages from the oldest that is not done on are worked on at once.

        All workers of a group have the same settings but for ``lease_ms``; UsageError otherwise.
        """
        return workers_of(
            self,
            queue,
            group,
            lease_ms=lease_ms,
            attempts_max=attempts_max,
            dead_letter=dead_letter,
            ordered_by=ordered_by,
            window=window,
        )

    def sync(self) -> None:
        """Everything put, committed and acknowledged before the call is durable when it returns."""
        with self._using(True):
            for group in self._work.known():
                group.save()
            self._sync_all()

    def verify(self, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
        """Read every segment from its first byte to its last and say what is not as written.

        Runs beside everything else, two segments at a time. ``progress`` is called with the bytes
        read and the bytes in all, from any thread. Damage found when the store was opened is part
        of the answer.
        """
        with self._using():
            return verify_segments(self, self._damage(), progress)

    def close(self) -> None:
        """Make everything durable, stop the threads, let go of the files. Closing twice is once.

        Calls of other threads that are under way end first, later ones raise UsageError. Raises
        StorageError when something could not be made durable; the store is closed all the same.
        In a process that was forked from the one that opened the store it does nothing.
        """
        if self._forked:
            return
        with self._closing:
            if self._closed:
                return
            self._close_uses()
            failure: DragomanError | None = None
            if not self.read_only:
                for group in self._work.known():
                    group.save(exact=True)
                try:
                    self._sync_all()
                    self._flush_log()
                except (StorageError, CorruptionError) as error:
                    failure = error
            self._rest()
            if not self.read_only and failure is None:
                try:
                    self._end()
                except StorageError as error:
                    failure = error
            self._closed = True
            self._abandon()
        if failure is not None:
            raise failure

    def _in_child(self) -> None:
        self._forked = True
        self._disown()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._forked:
            return
        if sys.is_finalizing():
            self._stop()
            return
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)
        finally:
            try:
                self.close()
            except DragomanError as error:
                log.error("%s: closing what was dropped: %s", self.path, error)
            finally:
                self._rest()  # or threads would find its memory gone

    def __repr__(self) -> str:
        state = "of another process" if self._forked else "open" if self.open else "closed"
        kind = "read-only" if self.read_only else self.durability
        return f"<QueueStore {str(self.path)!r} {kind}, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
