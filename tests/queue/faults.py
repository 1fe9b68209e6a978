"""A disk that fails on command and forgets what was not synced. Used by the tests of the store."""

from __future__ import annotations

import copy
import errno
import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from dragoman.queue.disk.files import Files


class FaultyFiles(Files):
    """Counts calls by kind and fails those asked for: ``fail("sync", number, errno)``."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.rules: dict[tuple[str, int], int] = {}
        self.sticky: dict[str, int] = {}
        self.short_writes = False

    def fail(self, kind: str, number: int, code: int = errno.EIO) -> None:
        """The ``number``-th call of this kind from now on fails, once."""
        self.rules[kind, self.calls.get(kind, 0) + number] = code

    def _called(self, kind: str) -> None:
        self.calls[kind] = number = self.calls.get(kind, 0) + 1
        code = self.rules.pop((kind, number), None) or self.sticky.get(kind)
        if code:
            raise OSError(code, os.strerror(code))

    def read(self, fd: int, n: int, offset: int) -> bytes:
        self._called("read")
        return super().read(fd, n, offset)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self._called("write")
        if self.short_writes and len(data) > 512:
            data = data[: len(data) // 2 // 512 * 512 or 512]
        # The tests' bytes lie anywhere: the page cache takes them, O_DIRECT would not.
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._called("sync")
        super().sync(fd)

    def open(self, name: str, flags: int) -> int:
        self._called("open")
        return super().open(name, flags & ~os.O_DIRECT)

    def truncate(self, fd: int, length: int) -> None:
        self._called("truncate")
        super().truncate(fd, length)

    def unlink(self, name: str) -> None:
        self._called("unlink")
        super().unlink(name)

    def rename(self, source: str, target: str) -> None:
        self._called("rename")
        super().rename(source, target)

    def sync_directory(self) -> None:
        self._called("sync_directory")
        super().sync_directory()


class SmallDisk(FaultyFiles):
    """A disk of so many blocks of 4 KiB. What has no block left is refused, without any change."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.lock = threading.RLock()
        self.file_names: dict[int, str] = {}
        self.taken: dict[str, set[int]] = {}

    def free(self) -> int:
        return self.blocks - sum(map(len, self.taken.values()))

    def _take(self, fd: int, offset: int, n: int) -> bool:
        taken = self.taken.setdefault(self.file_names[fd], set())
        new = set(range(offset // 4096, (offset + n + 4095) // 4096)) - taken
        if len(new) > self.free():
            return False
        taken |= new
        return True

    def open(self, name: str, flags: int) -> int:
        with self.lock:
            fd = super().open(name, flags)
            self.file_names[fd] = name
            return fd

    def write(self, fd: int, data: bytes, offset: int) -> int:
        with self.lock:
            if not self._take(fd, offset, len(data)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        # Nothing is lost here, and the disk of the tests may be busy for long.
        self._called("sync")

    def sync_directory(self) -> None:
        self._called("sync_directory")

    def reserve(self, fd: int, offset: int, n: int) -> bool:
        with self.lock:
            return self._take(fd, offset, n)

    def unlink(self, name: str) -> None:
        with self.lock:
            super().unlink(name)
            self.taken.pop(name, None)

    def rename(self, source: str, target: str) -> None:
        with self.lock:
            super().rename(source, target)
            self.taken[target] = self.taken.pop(source, set())
            self.file_names = {
                fd: target if name == source else name for fd, name in self.file_names.items()
            }


class Inode:
    """A file's content: what was synced, and what was written since."""

    def __init__(self) -> None:
        self.synced = b""
        self.pending: list[tuple[int, bytes] | int] = []


class PowerLoss(FaultyFiles):
    """Remembers what each file held when it was last synced, and what was written since.

    ``crash(target, rng)`` makes a copy of the directory as a disk might hold it after the power
    went: of each file the synced content, with any of the later sectors, in any order of arrival,
    whole or torn. Names are those of the last sync of the directory, with the first few of the
    later changes (names made, removed, renamed). What is there at first is taken for synced.
    ``at``: the call, counted over all kinds, before which ``on_crash`` is called, from whatever
    thread makes it.
    """

    def __init__(
        self, root: Path, at: int = 0, on_crash: Callable[[PowerLoss], None] | None = None
    ) -> None:
        super().__init__()
        self.root = root
        self.at = at
        self.on_crash = on_crash
        self.total = 0
        self.lock = threading.RLock()
        self.open_files: dict[int, Inode] = {}
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.changes: list[dict[str, Inode]] = []
        for file in root.glob("*") if root.is_dir() else ():
            if file.name != "LOCK":
                self.names[file.name] = Inode()
                self.names[file.name].synced = file.read_bytes()
        self.durable_names = dict(self.names)

    def _called(self, kind: str) -> None:
        super()._called(kind)
        self.total += 1
        if self.total == self.at and self.on_crash is not None:
            self.on_crash(self)

    def _renamed(self) -> None:
        self.changes.append(dict(self.names))

    def open(self, name: str, flags: int) -> int:
        with self.lock:
            fd = super().open(name, flags)
            if name not in self.names:
                self.names[name] = Inode()
                self._renamed()
            self.open_files[fd] = self.names[name]
            return fd

    def close(self, fd: int) -> None:
        with self.lock:
            self.open_files.pop(fd, None)
            super().close(fd)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        with self.lock:
            done = super().write(fd, data, offset)
            self.open_files[fd].pending.append((offset, data[:done]))
            return done

    def truncate(self, fd: int, length: int) -> None:
        with self.lock:
            super().truncate(fd, length)
            self.open_files[fd].pending.append(length)

    def sync(self, fd: int) -> None:
        # What is synced is for this object to say: the disk of the tests may be busy for long.
        with self.lock:
            self._called("sync")
            inode = self.open_files[fd]
            for change in inode.pending:
                inode.synced = apply(inode.synced, change)
            inode.pending = []

    def rename(self, source: str, target: str) -> None:
        with self.lock:
            super().rename(source, target)
            self.names[target] = self.names.pop(source)
            self._renamed()

    def unlink(self, name: str) -> None:
        with self.lock:
            super().unlink(name)
            self.names.pop(name, None)
            self._renamed()

    def sync_directory(self) -> None:
        with self.lock:
            self._called("sync_directory")
            self.durable_names = dict(self.names)
            self.changes = []

    def crash(self, target: Path, rng: random.Random) -> None:
        """What the disk holds after the power went, into ``target``."""
        with self.lock:
            target.mkdir()
            states = [self.durable_names, *self.changes]
            for name, inode in rng.choice(states).items():
                content = inode.synced
                for change in inode.pending:
                    chance = rng.random()
                    if chance < 0.4:
                        content = apply(content, change)
                    elif chance < 0.7 and isinstance(change, tuple):
                        for part in torn(change, rng):
                            content = apply(content, part)
                (target / name).write_bytes(content)


class Machine(PowerLoss):
    """A machine on which processes die and the power goes, one after the other.

    ``dies_at``: the call, counted over all kinds, within which the process is killed; no later call
    of it reaches the files. What it wrote stays in the page cache: ``revived`` lets the next
    process find that, and ``crash`` still forgets what nobody synced. ``fails_at``: the call that
    fails with ``code``; with ``fails_on`` those of ``kinds`` after it do, too.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        super().__init__(root)
        self.rng = rng
        self.dead = False
        self.revived()

    def revived(self) -> Machine:
        """For the next process."""
        self.dies_at = self.fails_at = self.total = 0
        self.code = errno.EIO
        self.fails_on = False
        self.kinds: tuple[str, ...] = ()
        self.dead = False
        self.open_files.clear()
        return self

    def fork(self, target: Path) -> Machine:
        """Another machine in the same state, its files in ``target``."""
        shutil.copytree(self.root, target)
        other = Machine(target, self.rng)
        state = (self.names, self.durable_names, self.changes)
        other.names, other.durable_names, other.changes = copy.deepcopy(state)
        return other

    def _called(self, kind: str) -> None:
        with self.lock:
            if self.dead:
                raise OSError(errno.EIO, "the process is dead")
            super()._called(kind)
            if self.total == self.dies_at:
                self.dead = True
                raise OSError(errno.EIO, "the process is dead")
            if (
                self.fails_at
                and (not self.kinds or kind in self.kinds)
                and (self.total == self.fails_at or (self.fails_on and self.total > self.fails_at))
            ):
                raise OSError(self.code, os.strerror(self.code))

    def write(self, fd: int, data: bytes, offset: int) -> int:
        with self.lock:
            dead = self.dead
            try:
                return super().write(fd, data, offset)
            except OSError:
                if self.dead and not dead:
                    # It was killed within: some of it was taken.
                    part = data[: self.rng.randrange(len(data) + 1)]
                    os.pwrite(fd, part, offset)
                    self.open_files[fd].pending.append((offset, part))
                raise


def torn(change: tuple[int, bytes], rng: random.Random) -> list[tuple[int, bytes]]:
    """Some of the 512-byte sectors of a write."""
    offset, data = change
    return [
        (offset + at, data[at : at + 512]) for at in range(0, len(data), 512) if rng.random() < 0.5
    ]


def apply(content: bytes, change: tuple[int, bytes] | int) -> bytes:
    """The content after a write or a truncation."""
    if isinstance(change, int):
        return content[:change].ljust(change, b"\0")
    offset, data = change
    if offset > len(content):
        content = content.ljust(offset, b"\0")
    return content[:offset] + data + content[offset + len(data) :]
