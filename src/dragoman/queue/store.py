"""``QueueStore``: a million queues and more in one process, on one disk.

What users open. Options are checked here, threads started and stopped; the rest is the engine's.
The invariant: a store that could not be opened leaves no thread, lock or descriptor behind.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dragoman.errors import CorruptionError, DragomanError, StorageError, UsageError
from dragoman.queue.directory import DirectoryLock, prepare, takes_direct
from dragoman.queue.engine import Engine
from dragoman.queue.files import Files

LOG = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
NAME_BYTES_MAX = 65_536


@dataclass(frozen=True)
class Statistics:
    """What a store has done since it was opened, and what it holds. Sizes in bytes."""

    queues: int
    messages_put: int
    bytes_put: int
    block_bytes: int
    blocks_written: int
    messages_in_blocks: int
    blocks_waiting: int
    blocks_read: int
    bytes_read: int
    cache_hits: int
    evicted: int
    segments: int
    log_bytes: int
    live_bytes: int
    log_written: int
    journal_written: int
    meta_bytes: int
    syncs: int
    tail_bytes: int
    index_bytes: int
    open_files: int
    direct: bool
    poisoned: bool


@dataclass(frozen=True)
class Damage:
    """A place where the disk does not hold what was written. ``queue`` is None if unknown."""

    file: str
    offset: int
    queue: bytes | None
    first: int
    messages: int
    reason: str


def durability_of(setting: str) -> tuple[int, int]:
    """``none``, ``interval(100)`` (milliseconds) or ``always``, as the engine takes it."""
    if setting == "none":
        return 0, 0
    if setting == "always":
        return 2, 0
    text = setting.removeprefix("interval")
    number = text.strip("()")
    if setting == "interval":
        return 1, 100
    if text != setting and text == f"({number})" and number.isdigit() and 1 <= int(number) <= 60000:
        return 1, int(number)
    raise UsageError(
        f"durability is none, always, interval or interval(1 to 60000 ms), not {setting!r}"
    )


class QueueStore(Engine):
    """A directory of queues, open for writing by one process, or for reading by any number.

    Queues are named by text or bytes (1 byte to 64 KiB; text is its UTF-8) and come into being
    with the first message put to them. Messages are bytes (0 to 16 MiB) with offsets counted from
    0 in each queue. All methods may be called from any thread. Use it as a context manager, or
    call ``close``.

    ``durability``: ``none``, ``interval(ms)`` or ``always``; ``docs/formats/queue.md`` says what
    each promises. ``memory_bytes``: about how much memory the store may use in all; more makes
    blocks longer. ``cache_bytes``: of that, for blocks that were read. ``segment_bytes``: for a
    new store, the size of its files, a power of two. ``journal_bytes``: how large the journal may
    grow before old tails are moved. ``read_only``: what is on the disk when it opens, beside a
    writer.

    Raises LockedError when another has it open for writing, UsageError for bad options,
    StorageError when the disk refuses, CorruptionError when what is there cannot be a store.
    Damage to a part is in ``damage``; the rest is served.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: str = "interval(100)",
        memory_bytes: int = 1_400_000_000,
        cache_bytes: int = 33_554_432,
        segment_bytes: int = 1 << 30,
        journal_bytes: int = 2 << 30,
        expected_queues: int = 0,
        read_only: bool = False,
        create: bool = True,
        files: Files | None = None,
    ) -> None:
        level, interval_ms = durability_of(durability)
        if segment_bytes & (segment_bytes - 1) or not 1 << 16 <= segment_bytes <= 1 << 30:
            raise UsageError(
                f"segment_bytes is a power of two from 64 KiB to 1 GiB, not {segment_bytes}"
            )
        for name, value, least in (
            ("memory_bytes", memory_bytes, 1 << 20),
            ("cache_bytes", cache_bytes, 0),
            ("journal_bytes", journal_bytes, 1 << 20),
            ("expected_queues", expected_queues, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} is a whole number of at least {least}, not {value!r}")
        self.path = Path(path)
        self.durability = durability
        self.read_only = read_only
        self._files = files if files is not None else Files()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Lock()
        self._lock = None if read_only else DirectoryLock(self.path)
        try:
            identity = prepare(
                self._files, self.path, segment_bytes, create=create and not read_only
            )
            self._open(
                str(self.path),
                self._files,
                identity=identity.identity,
                segment_bytes=identity.segment_bytes,
                direct=takes_direct(self.path),
                durability=level,
                interval_ms=interval_ms,
                memory_bytes=memory_bytes,
                cache_bytes=cache_bytes,
                journal_bytes=journal_bytes,
                journal_file_bytes=min(64 << 20, max(1 << 20, journal_bytes // 8)),
                read_only=read_only,
            )
            if expected_queues and not read_only:
                rest = memory_bytes - cache_bytes - 100 * expected_queues
                most = expected_queues * 64 * 1024
                self._touch(expected_queues, max(0, min(rest, most)))
            self._start()
        except OSError as error:
            self._abandon()
            raise StorageError(f"{self.path}: {error.strerror}", errno=error.errno) from error
        except BaseException:
            self._abandon()
            raise
        for damage in self.damage[:20]:
            LOG.error("%s: %s", self.path, damage)

    def _start(self) -> None:
        if not self.read_only:
            self._thread("dragoman-queue-log", self._run_writer)
        self._replay()
        if not self.read_only:
            self._thread("dragoman-queue-journal", self._run_journal)

    def _thread(self, name: str, target: Any) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _abandon(self) -> None:
        self._stop()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._close()
        if self._lock is not None:
            self._lock.release()

    @property
    def damage(self) -> list[Damage]:
        """What opening found that was not as it had been written; the rest is served."""
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

    def statistics(self) -> Statistics:
        """Counters since opening, and sizes now."""
        return Statistics(**self._statistics())  # type: ignore[arg-type]

    def close(self) -> None:
        """Make everything durable, stop the threads, let go of the files. Closing twice is once.

        Raises StorageError when something could not be made durable; the store is closed all the
        same.
        """
        with self._closing:
            if not self.open:
                return
            failure: DragomanError | None = None
            if not self.read_only:
                try:
                    self.sync()
                    self._flush_log()
                except (StorageError, CorruptionError) as error:
                    failure = error
            self._abandon()
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
