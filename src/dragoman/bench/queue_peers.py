"""Other stores under the queue benchmark's load: LMDB, RocksDB (rocksdict) and sqlite3.

Called by ``dragoman.bench.queue`` for ``--peers``. Each keeps a message under its queue's number
and offset, in one sorted table, and is given those (it has no names to look up and no offsets to
count), in transactions of as many messages as a ``put_many``, without syncs: durability ``none``.
One thread puts, one reads. The invariant: every message that is read is compared with what was
put, and that is part of the time, as it is for the store itself.
"""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from dragoman.bench.queue_load import messages, wrong

KEY = struct.Struct(">II")
# Messages of one transaction.
BATCH = 1000
# Of one read.
READ = 10
# The LMDB file may grow to this; it takes only what is used.
MAP_BYTES = 1 << 38
Progress = Callable[[str, int, int], None]


class Peer(Protocol):
    """A store that is open in a directory of its own."""

    name: str
    version: str

    def put(self, queue: int, offset: int, made: list[bytes]) -> None:
        """The messages at ``offset`` of the queues from number ``queue`` on, in one transaction."""

    def settle(self) -> None:
        """After the last put, before the first read."""

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""

    def close(self) -> None:
        """Let go of the files."""


class Lmdb:
    """LMDB through its Python binding: a B+ tree in a map of memory."""

    name = "lmdb"

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
        pack = KEY.pack
        with self._env.begin(write=True) as transaction:
            transaction.cursor().putmulti(
                [(pack(queue + i, offset), message) for i, message in enumerate(made)]
            )

    def settle(self) -> None:
        """Make what was put readable: the step between putting and reading."""
        self._reading = self._env.begin(buffers=False)
        self._cursor = self._reading.cursor()

    def get(self, queue: int, offset: int, count: int) -> list[bytes]:
        """Messages of one queue, in order."""
        result = []
        if self._cursor.set_key(KEY.pack(queue, offset)):
            for message in self._cursor.iternext(keys=False, values=True):
                result.append(message)
                if len(result) == count:
                    break
        return result

    def close(self) -> None:
        """Let go of the files."""
        if self._cursor is not None:
            self._cursor.close()
            self._reading.abort()
        self._env.close()


class RocksDb:
    """RocksDB through rocksdict: sorted runs that are merged in the background."""

    name = "rocksdict"

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
        pack = KEY.pack
        for i, message in enumerate(made):
            batch.put(pack(queue + i, offset), message)
        self._store.write(batch, self._writing)

    def settle(self) -> None:
        """Make what was put readable: the step between putting and reading."""
        self._store.flush(True)
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

    def __init__(self, path: Path) -> None:
        self.version = sqlite3.sqlite_version
        self._store = sqlite3.connect(path / "store", isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous=OFF", "journal_mode=MEMORY", "cache_size=-262144"):
            self._store.execute(f"PRAGMA {pragma}")
        self._store.execute(
            "CREATE TABLE messages (queue INTEGER, place INTEGER, message BLOB,"
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
        """Nothing is left to do between putting and reading."""

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
) -> dict[str, Any]:
    """One peer through the three phases: rates, what was wrong, bytes on the disk.

    Without its package the answer says so instead: ``{"name": ..., "missing": ...}``.
    """
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    peer: Peer | None = None
    try:
        try:
            peer = kind(path)
        except ModuleNotFoundError as error:
            return {"name": kind.name, "missing": str(error)}
        assert peer is not None
        result: dict[str, Any] = {
            "name": peer.name,
            "version": peer.version,
            "queues": queues,
            "messages": queues * rounds,
        }
        result["put_per_second"] = _put(peer, queues, rounds, size, seed, progress)
        result["resident_bytes"] = (
            int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        )
        result["disk_bytes"] = sum(f.stat().st_blocks * 512 for f in path.iterdir())
        started = time.perf_counter()
        peer.settle()
        result["settle_seconds"] = time.perf_counter() - started
        rng = random.Random(seed)
        last = max(1, rounds - READ + 1)
        places = [(rng.randrange(queues), rng.randrange(last)) for _ in range(min(queues, 100_000))]
        count, seconds, bad = _read(peer, places, rounds, size, seed, progress)
        result["gets_per_second"] = len(places) / seconds
        chosen = rng.sample(range(queues), max(1, int(queues * consume)))
        places = [(queue, at) for queue in chosen for at in range(0, rounds, READ)]
        count, seconds, more = _read(peer, places, rounds, size, seed, progress)
        result["consumed_per_second"] = count / seconds
        result["wrong"] = bad + more
        return result
    finally:
        if peer is not None:
            peer.close()
        shutil.rmtree(path, ignore_errors=True)


def _put(peer: Peer, queues: int, rounds: int, size: int, seed: int, progress: Progress) -> float:
    spent = 0.0
    for offset in range(rounds):
        for first in range(0, queues, BATCH):
            made = messages(seed, first, min(BATCH, queues - first), offset, size)
            began = time.perf_counter()
            peer.put(first, offset, made)
            spent += time.perf_counter() - began
        progress(f"{peer.name} put", (offset + 1) * queues, rounds * queues)
    return queues * rounds / spent


def _read(
    peer: Peer,
    places: list[tuple[int, int]],
    rounds: int,
    size: int,
    seed: int,
    progress: Progress,
) -> tuple[int, float, int]:
    count = bad = 0
    began = time.perf_counter()
    for number, (queue, offset) in enumerate(places):
        expected = min(READ, rounds - offset)
        got = peer.get(queue, offset, expected)
        bad += wrong(seed, queue, offset, size, expected, got)
        count += len(got)
        if number % 10_000 == 0:
            progress(f"{peer.name} read", number, len(places))
    return count, time.perf_counter() - began, bad
