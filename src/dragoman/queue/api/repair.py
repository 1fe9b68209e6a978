"""``verify`` and ``repair``: is a store as it was written, and if not, what can be had of it.

For the command line and for operators, on a directory that no process has open for writing
(``verify`` may run beside a writer). What is done to which file is in docs/formats/queue.md, "What
verify and repair do". The invariant: nothing is lost silently; what cannot be had is in the report,
and offsets never change.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from dragoman.errors import CorruptionError, StorageError, UsageError
from dragoman.queue.api.choices import path_of
from dragoman.queue.api.report import Damage, RepairReport
from dragoman.queue.api.store import QueueStore
from dragoman.queue.disk.crc import crc32c
from dragoman.queue.disk.directory import (
    StoreDirectory,
    meta_header,
    read_identity,
    store_header,
    write_meta,
    write_store,
)
from dragoman.queue.disk.files import Files

Progress = Callable[[int, int], None]

HEADER = struct.Struct("<II IIQI BBH")  # check, payload check, queue, length, offset, time, ...
MAGIC = 0x5144
MESSAGES, PADDING, DIRECTORY, TRAILER = 0, 1, 3, 4
SECTOR = 4096
QUEUE, MARK, CLOSED, OPENED = 1, 5, 10, 11


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> list[Damage]:
    """Read a whole store and say what is not as it was written; nothing when all is well.

    ``progress`` is called with bytes read and bytes in all, from any thread. The store is opened
    for reading only, so a writer may have it. Raises UsageError when there is no store or its
    version is not known, CorruptionError when what is there cannot be read as a store, StorageError
    when the disk refuses.
    """
    with QueueStore(path, read_only=True) as store:
        return store.verify(progress)


def repair(
    path: str | os.PathLike[str], *, keep: bool = True, progress: Progress | None = None
) -> RepairReport:
    """Make a damaged store usable again, and say all that was lost.

    With ``keep`` damaged files are copied to a directory of their own inside the store's (the
    report's ``aside``) before they are changed. Afterwards ``verify`` finds nothing, and reading
    what was lost raises CorruptionError. Raises what ``verify`` raises, LockedError when a process
    has the store open for writing, and CorruptionError for what is no store of this version.
    """
    return _Repair(path_of(path), keep, progress).run()


class _Repair:
    """One repair, step by step."""

    def __init__(self, path: Path, keep: bool, progress: Progress | None) -> None:
        if not path.is_dir():
            raise UsageError(f"{path}: there is no queue store here")
        self.path = path
        self.keep = keep
        self.progress = progress
        self.files = Files()
        self.lost: list[Damage] = []
        self.done: list[str] = []
        self.aside: Path | None = None

    def run(self) -> RepairReport:
        directory = StoreDirectory(self.path)
        self.files.directory = directory.descriptor
        try:
            self._store()
            self._meta()
            found = verify(self.path, self.progress)
            self._unnamed(found)
            for name in sorted({d.file for d in found if d.file.endswith(".seg")}):
                self._segment(name, [d for d in found if d.file == name])
            for name in sorted({d.file for d in found if d.file.endswith(".jnl")}):
                self._put_aside(name)
            if any(d.file == "META" for d in found):
                self._rebuild_meta([])
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}", errno=error.errno) from error
        finally:
            directory.release()
        self._settle(found)
        return RepairReport(self.path, self.lost, self.done, self.aside)

    def _put_aside(self, name: str) -> None:
        # A copy: the file itself stays until it is replaced.
        if not self.keep or not (self.path / name).exists():
            return
        if self.aside is None:
            number = 1
            while (self.path / f"damaged-{number}").exists():
                number += 1
            self.aside = self.path / f"damaged-{number}"
            self.aside.mkdir()
        shutil.copy2(self.path / name, self.aside / name)

    def _heads(self) -> Iterator[tuple[str, bytes]]:
        # The identity that each file with a valid header gives.
        for file in sorted(self.path.iterdir()):
            if file.suffix not in (".seg", ".jnl") and file.name != "META":
                continue
            with file.open("rb") as opened:
                head = opened.read(64)
            if len(head) == 64 and crc32c(head[:60]) == struct.unpack("<I", head[60:])[0]:
                yield file.name, head[16:32]

    def _store(self) -> None:
        reason = "STORE is missing"
        try:
            if read_identity(self.files, self.path) is not None:
                return
        except CorruptionError as error:
            reason = str(error)
        identities = [identity for _, identity in self._heads()]
        if not identities:
            raise CorruptionError(f"{reason}, and no other file says whose store it was")
        identity = max(set(identities), key=identities.count)
        largest = max((f.stat().st_size for f in self.path.glob("*.seg")), default=0)
        segment_bytes = 1 << 16
        while segment_bytes < min(largest, 1 << 30):
            segment_bytes *= 2
        self._put_aside("STORE")
        write_store(self.files, self.path, store_header(identity, segment_bytes))
        self.done.append(f"STORE made again from {len(identities)} other files: {reason}")

    def _meta(self) -> None:
        path = self.path / "META"
        identity = read_identity(self.files, self.path)
        assert identity is not None
        reason = "META is missing"
        if path.exists():
            head = path.read_bytes()[:64]
            valid = len(head) == 64 and crc32c(head[:60]) == struct.unpack("<I", head[60:])[0]
            if valid and head[:8] == b"DRGQMETA" and head[16:32] == identity.identity:
                if struct.unpack_from("<I", head, 8)[0] == 1:
                    return
                raise UsageError(f"{path}: another version of the format")
            reason = "META's header is damaged"
        self.lost.append(Damage("META", 0, None, 0, 0, reason))
        self._rebuild_meta(
            [f"{reason}: names, positions, trims and deletions that were there only are lost"]
        )

    def _rebuild_meta(self, notes: list[str]) -> None:
        # A META of the valid records, with a new generation.
        identity = read_identity(self.files, self.path)
        assert identity is not None
        path = self.path / "META"
        data = path.read_bytes() if path.exists() else b""
        stored = struct.unpack_from("<Q", data, 32)[0] if len(data) >= 64 else 0
        known = _journal_generations(self.path)
        best: list[tuple[int, bytes]] = []
        for generation in dict.fromkeys([stored, *sorted(known, reverse=True), 0]):
            records = [] if generation >= 1 << 63 else list(_records(data, generation))
            if len(records) > len(best):
                best = records
        new = max([stored if best else 0, *known, 0]) + 1
        self._put_aside("META")
        body = bytearray(64)
        for kind, content in best:
            if kind not in (MARK, CLOSED, OPENED):
                body += _record(kind, content, new, len(body))
        body[:64] = meta_header(identity.identity, new, len(body))
        write_meta(self.files, self.path, bytes(body))
        self.done += notes
        self.done.append(f"META made again with {len(best)} records")

    def _unnamed(self, found: list[Damage]) -> None:
        # Blocks of queues that META does not name: only where META has lost something.
        if not any(d.file == "META" for d in [*found, *self.lost]):
            return
        with QueueStore(self.path, read_only=True) as store:
            named = {store._id(name) for name in store.queues()}
        ids = set(_ids_in_segments(self.path)) - named - {0}
        identity = read_identity(self.files, self.path)
        assert identity is not None
        if not ids:
            return
        data = (self.path / "META").read_bytes()
        generation = struct.unpack_from("<Q", data, 32)[0]
        body = bytearray(data[:64])
        for kind, content in _records(data, generation):
            if kind not in (MARK, CLOSED, OPENED):
                body += _record(kind, content, generation + 1, len(body))
        for number in sorted(ids):
            content = struct.pack("<I", number) + b"recovered/%d" % number
            body += _record(QUEUE, content, generation + 1, len(body))
        body[:64] = meta_header(identity.identity, generation + 1, len(body))
        self._put_aside("META")
        write_meta(self.files, self.path, bytes(body))
        self.done.append(
            f"{len(ids)} queues whose names are lost are now recovered/ID; some of them may have"
            " been deleted before"
        )

    def _segment(self, name: str, found: list[Damage]) -> None:
        # The same blocks at the same places; what is damaged becomes padding.
        path = self.path / name
        if not path.exists():
            self.done.append(f"{name} is given up: it is missing")
            return
        identity = read_identity(self.files, self.path)
        assert identity is not None
        number = int(path.stem)
        self._put_aside(name)
        data = path.read_bytes()
        out = bytearray(64)
        struct.pack_into("<8sII16sQ", out, 0, b"DRGQSEGM", 1, 0, identity.identity, number)
        struct.pack_into("<I", out, 60, crc32c(bytes(out[:60])))
        directory = bytearray()
        blocks = 0
        for at, head, length in _blocks(data, number):
            if head[6] != MESSAGES:
                continue
            _pad_to(out, at, number)
            out += data[at : at + 32 + length]
            out += bytes(-len(out) % 16)
            directory += struct.pack("<QIIII", head[4], head[2], at // 16, length, head[5])
            blocks += 1
        start = len(out)
        out += _block(number, start, DIRECTORY, len(directory) // 24, bytes(directory))
        gap = -(len(out) + 32) % SECTOR
        if gap:
            _pad_to(out, len(out) + (gap if gap >= 32 else gap + SECTOR), number)
        out += _block(number, len(out), TRAILER, start, b"")
        with (self.path / f"{name}.new").open("wb") as opened:
            opened.write(out)
            opened.flush()
            os.fsync(opened.fileno())
        self.files.rename(f"{name}.new", name)
        self.files.sync_directory()
        self.done.append(f"{name} written again with {blocks} blocks, {len(found)} places damaged")

    def _settle(self, found: list[Damage]) -> None:
        # The journal goes into the log; what nobody has any more is noted as lost.
        with QueueStore(self.path, create=False, compact_below=None) as store:
            after = store.damage
            store._detach_tails()
            store._flush_log()
            for number in store.recovery.missing:
                store._note_dropped(number)
            gone: set[tuple[bytes, int, int]] = set()
            for id, first, messages in store.recovery.lost_ranges():
                name = store._name(id)
                if name is not None:
                    store._note_lost(id, first, messages)
                    gone.add((name, first, messages))
            for damage in found:
                # At the end of a queue nothing stands behind what is lost.
                if damage.queue is None or not damage.messages or damage.queue not in store:
                    continue
                end = damage.first + damage.messages
                if end > store.length(damage.queue):
                    store._note_lost(store._id(damage.queue), damage.first, damage.messages)
            store._leave_journal()
            store._sync_meta(True)
            named = {(d.queue, d.first) for d in found if d.queue is not None}
            self.lost += found
            self.lost += [d for d in after if (d.queue, d.first) not in named and d not in found]
        if found or after:
            self.done.append("what is lost is noted: reading it raises CorruptionError")


def _block(number: int, at: int, kind: int, value: int, payload: bytes) -> bytes:
    head = HEADER.pack(0, crc32c(payload), 0, len(payload), value, 0, kind, 0, MAGIC)[4:]
    check = crc32c(head, crc32c(struct.pack("<QQ", number, at)))
    block = struct.pack("<I", check) + head + payload
    return block + bytes(-len(block) % 16)


def _pad_to(out: bytearray, at: int, number: int) -> None:
    if at > len(out):
        out += _block(number, len(out), PADDING, 0, bytes(at - len(out) - 32))


def _blocks(data: bytes, number: int) -> Iterator[tuple[int, tuple[int, ...], int]]:
    # (place, header, payload's length) of every valid block.
    at = 64
    while at + 32 <= len(data):
        head = HEADER.unpack_from(data, at)
        if head[8] == MAGIC and head[0] == crc32c(
            data[at + 4 : at + 32], crc32c(struct.pack("<QQ", number, at))
        ):
            payload = data[at + 32 : at + 32 + head[3]]
            if len(payload) == head[3]:
                if crc32c(payload) == head[1]:
                    yield at, head, head[3]
                at += 32 + head[3] + -head[3] % 16
                continue
        at += 16


def _record(kind: int, content: bytes, generation: int, at: int) -> bytes:
    rest = struct.pack("<IB", len(content), kind) + content
    return struct.pack("<I", crc32c(rest, crc32c(struct.pack("<QQ", generation, at)))) + rest


def _records(data: bytes, generation: int) -> Iterator[tuple[int, bytes]]:
    # (type, body) of every valid record of META.
    at = 64
    while at + 9 <= len(data):
        check, length, kind = struct.unpack_from("<IIB", data, at)
        end = at + 9 + length
        if (
            1 <= kind <= OPENED
            and length <= 65_600
            and end <= len(data)
            and check == crc32c(data[at + 4 : end], crc32c(struct.pack("<QQ", generation, at)))
        ):
            yield kind, data[at + 9 : end]
            at = end
        else:
            at += 1


def _journal_generations(path: Path) -> set[int]:
    found = set()
    for file in path.glob("*.jnl"):
        data = file.read_bytes()
        for at in range(SECTOR, len(data) - 63, SECTOR):
            magic, check, body = struct.unpack_from("<III", data, at)
            place = crc32c(struct.pack("<QQ", int(file.stem), at))
            if magic == 0x4A515244 and check == crc32c(data[at + 8 : at + 64 + body], place):
                found.add(struct.unpack_from("<Q", data, at + 48)[0])
    return found


def _ids_in_segments(path: Path) -> Iterator[int]:
    for file in path.glob("*.seg"):
        for _, head, _ in _blocks(file.read_bytes(), int(file.stem)):
            if head[6] == MESSAGES:
                yield head[2]
