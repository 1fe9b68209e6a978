"""Other stores under the queue benchmark's load: LMDB, RocksDB (rocksdict) and sqlite3.

Called by ``dragoman.bench.queue`` for ``--peers``. Each keeps a message under its queue's number
and offset, in one sorted table, and is given those (it has no names to look up and no offsets to
count), in transactions of as many messages as a ``put_many``, without syncs: durability ``none``.
One thread puts, one reads. The invariants: time is wall time, and the puts end when all of them are
on the disk, as they do for the store itself; making messages and choosing places is in nobody's
time; every message that is read is compared with what was put, and that is part of the time.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from dragoman.bench.queue_load import keyed
from dragoman.bench.queue_ring import WARM_MESSAGES, WARM_TIMES, Place, Ring, apart

KEY = struct.Struct(">II")
# Messages of one transaction.
BATCH = 1000
# Of one read.
READ = 10
# The LMDB file may grow to this; it takes only what is used.
MAP_BYTES = 1 << 38
Progress = Callable[[str, int, int], None]
Clock = Callable[[], float]


class Peer(Protocol):
    """A store that is open in a directory of its own."""

    name: str
    version: str
    # How ``settle`` brings what was put to the disk.
    settled: str

    def put(self, queue: int, offset: int, made: list[bytes]) -> None:
        """The messages at ``offset`` of the queues from number ``queue`` on, in one transaction."""

    def settle(self) -> None:
        """After the last put: all of them are on the disk."""

    def begin(self) -> None:
        """Before the first read."""

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""

    def close(self) -> None:
        """Let go of the files."""


class Lmdb:
    """LMDB through its Python binding: a B+ tree in a map of memory."""

    name = "lmdb"
    settled = "sync"

    def __init__(self, path: Path) -> None:
        lmdb: Any = import_module("lmdb")
        self.version = ".".join(map(str, lmdb.version()))
        self._env = lmdb.open(
            str(path), map_size=MAP_BYTES, sync=False, metasync=False, writemap=True
        )
        self._reading: Any = None
        self._cursor: Any = None

    def put(self, queue: int, offset: int, made: list[bytes]) -> None:
        """One transaction of a message to each of several queues."""
        with self._env.begin(write=True) as transaction:
            transaction.cursor().putmulti(keyed(queue, offset, made))

    def settle(self) -> None:
        """The file is synced."""
        self._env.sync(True)

    def begin(self) -> None:
        """One reading transaction for all reads."""
        self._reading = self._env.begin(buffers=False)
        self._cursor = self._reading.cursor()

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""
        if not self._cursor.set_key(KEY.pack(queue, offset)):
            return []
        return list(islice(self._cursor.iternext(keys=False, values=True), count))

    def close(self) -> None:
        """Let go of the files."""
        if self._cursor is not None:
            self._cursor.close()
            self._reading.abort()
        self._env.close()


class RocksDb:
    """RocksDB through rocksdict: sorted runs that are merged in the background."""

    name = "rocksdict"
    settled = "flush, which syncs"

    def __init__(self, path: Path) -> None:
        self._library: Any = import_module("rocksdict")
        self.version = str(getattr(self._library, "__version__", "")) or _version("rocksdict")
        options = self._library.Options(raw_mode=True)
        options.create_if_missing(True)
        self._store = self._library.Rdict(str(path), options)
        self._writing = self._library.WriteOptions()
        self._writing.disable_wal = True
        self._iterator: Any = None

    def put(self, queue: int, offset: int, made: list[bytes]) -> None:
        """One transaction of a message to each of several queues."""
        batch = self._library.WriteBatch(raw_mode=True)
        for key, message in keyed(queue, offset, made):
            batch.put(key, message)
        self._store.write(batch, self._writing)

    def settle(self) -> None:
        """What memory has becomes a sorted run, which is synced."""
        self._store.flush(True)

    def begin(self) -> None:
        """One iterator for all reads."""
        self._iterator = self._store.iter()

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""
        iterator = self._iterator
        result: list[bytes] = []
        iterator.seek(KEY.pack(queue, offset))
        while len(result) < count and iterator.valid():
            result.append(iterator.value())
            iterator.next()
        return result

    def close(self) -> None:
        """Let go of the files."""
        self._iterator = None
        self._store.close()


class Sqlite:
    """sqlite3 with a table that is its own index, and neither a journal of use nor syncs."""

    name = "sqlite3"
    settled = "fsync"

    def __init__(self, path: Path) -> None:
        self.version = sqlite3.sqlite_version
        self._file = path / "store"
        self._store = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous=OFF", "journal_mode=MEMORY", "cache_size=-262144"):
            self._store.execute(f"PRAGMA {pragma}")
        self._store.execute(
            "CREATE TABLE IF NOT EXISTS messages (queue INTEGER, place INTEGER, message BLOB,"
            " PRIMARY KEY (queue, place)) WITHOUT ROWID"
        )

    def put(self, queue: int, offset: int, made: list[bytes]) -> None:
        """One transaction of a message to each of several queues."""
        self._store.execute("BEGIN")
        self._store.executemany(
            "INSERT INTO messages VALUES (?, ?, ?)",
            [(queue + i, offset, message) for i, message in enumerate(made)],
        )
        self._store.execute("COMMIT")

    def settle(self) -> None:
        """The file is synced."""
        _sync_file(self._file, forget=False)

    def begin(self) -> None:
        """Nothing is to be done."""

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""
        rows = self._store.execute(
            "SELECT message FROM messages WHERE queue = ? AND place >= ? ORDER BY place LIMIT ?",
            (queue, offset, count),
        )
        return [row[0] for row in rows]

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()


PEERS: list[type[Peer]] = [Lmdb, RocksDb, Sqlite]


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _sync_file(file: Path, *, forget: bool) -> None:
    # On the disk, and with ``forget`` no longer in the page cache.
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
        if forget:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def run_peer(
    kind: type[Any],
    path: Path,
    *,
    queues: int,
    rounds: int,
    size: int,
    consume: float,
    seed: int,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """One peer through the phases: rates, what was wrong, bytes on the disk.

    Without its package the answer says so instead: ``{"name": ..., "missing": ...}``.
    """
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    run = _Run(
        kind, path, Ring(queues=queues, part=min(BATCH, queues), size=size, seed=seed), clock
    )
    try:
        try:
            run.open()
        except ModuleNotFoundError as error:
            return {"name": kind.name, "missing": str(error)}
        with apart():
            result = run.put(rounds, progress)
        result |= run.cold(rounds, consume, seed, progress)
        result |= run.warm(rounds, seed, progress)
        return {
            "name": run.peer.name,
            "version": run.peer.version,
            "puts_end": f"on the disk ({run.peer.settled})",
            "queues": queues,
            "messages": queues * rounds,
            **result,
            "wrong": run.bad,
        }
    finally:
        run.close()
        shutil.rmtree(path, ignore_errors=True)


class _Run:
    """One peer, its phases one after the other, and how many messages were wrong so far."""

    def __init__(self, kind: type[Any], path: Path, ring: Ring, clock: Clock) -> None:
        self._kind = kind
        self._path = path
        self._ring = ring
        self._clock = clock
        self._open: Peer | None = None
        self.bad = 0

    @property
    def peer(self) -> Peer:
        """The store, which is open."""
        assert self._open is not None
        return self._open

    def open(self) -> None:
        """Open the store, a new one or what there is."""
        self._open = self._kind(self._path)

    def close(self) -> None:
        """Close it if it is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def put(self, rounds: int, progress: Progress) -> dict[str, Any]:
        """All puts, until they are on the disk."""
        ring, peer, clock = self._ring, self.peer, self._clock
        spent = 0.0
        started = clock()
        for offset in range(rounds):
            for number in range(ring.step):
                made = ring.of(offset, number)
                began = clock()
                peer.put(number * ring.part, offset, made)
                spent += clock() - began
            progress(f"{peer.name} put", (offset + 1) * ring.queues, rounds * ring.queues)
        called = clock()
        peer.settle()
        seconds = clock() - started
        return {
            "put_per_second": ring.queues * rounds / seconds if seconds else 0.0,
            "put_call_seconds": spent,
            "put_backlog_seconds": seconds - (called - started),
            "put_seconds": seconds,
            "resident_bytes": int(Path("/proc/self/statm").read_text().split()[1])
            * resource.getpagesize(),
            "disk_bytes": sum(f.stat().st_blocks * 512 for f in self._path.iterdir()),
        }

    def cold(self, rounds: int, consume: float, seed: int, progress: Progress) -> dict[str, Any]:
        """Reads of what neither the store's memory nor the page cache has."""
        queues = self._ring.queues
        rng = random.Random(seed)
        last = max(1, rounds - READ + 1)
        anywhere = [
            (rng.randrange(queues), rng.randrange(last)) for _ in range(min(queues, 100_000))
        ]
        chosen = rng.sample(range(queues), max(1, int(queues * consume)))
        self._forget()
        _, gets = self._read(anywhere, rounds, progress)
        self._forget()
        consumed, _ = self._read(in_order(chosen, rounds), rounds, progress)
        return {"cold_gets_per_second": gets, "cold_consumed_per_second": consumed}

    def warm(self, rounds: int, seed: int, progress: Progress) -> dict[str, Any]:
        """Reads of a few queues that have been read before."""
        rng = random.Random(seed + 1)
        count = max(1, min(self._ring.queues, WARM_MESSAGES // rounds))
        few = rng.sample(range(self._ring.queues), count)
        through = in_order(few, rounds)
        last = max(1, rounds - READ + 1)
        anywhere = [
            (rng.choice(few), rng.randrange(last)) for _ in range(len(through) * WARM_TIMES)
        ]
        self._read(through, rounds, progress)
        _, gets = self._read(anywhere, rounds, progress)
        consumed, _ = self._read(through * WARM_TIMES, rounds, progress)
        return {"warm_gets_per_second": gets, "warm_consumed_per_second": consumed}

    def _forget(self) -> None:
        # A map's pages leave the page cache only when nobody has the file in memory.
        self.close()
        for file in self._path.iterdir():
            _sync_file(file, forget=True)
        self.open()
        self.peer.begin()

    def _read(
        self, places: Sequence[Place], rounds: int, progress: Progress
    ) -> tuple[float, float]:
        # Messages and calls a second.
        peer, wrong = self.peer, self._ring.wrong
        count = bad = 0
        with apart():
            began = self._clock()
            for number, (queue, offset) in enumerate(places):
                expected = min(READ, rounds - offset)
                got = peer.get(queue, offset, expected)
                bad += wrong(queue, offset, expected, got)
                count += len(got)
                if number % 10_000 == 0:
                    progress(f"{peer.name} read", number, len(places))
            seconds = self._clock() - began
        self.bad += bad
        return (count / seconds, len(places) / seconds) if seconds else (0.0, 0.0)


def in_order(queues: list[int], rounds: int) -> list[Place]:
    """The places of a consumer that reads the queues through, one after the other."""
    return [(queue, offset) for queue in queues for offset in range(0, rounds, READ)]
