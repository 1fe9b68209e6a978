"""A disk that fails on command and forgets what was not synced. Used by the tests of the store."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

from dragoman.queue.files import Files


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

    def open(self, path: str, flags: int) -> int:
        self._called("open")
        return super().open(path, flags & ~os.O_DIRECT)


class PowerLoss(FaultyFiles):
    """Remembers what each file held when it was last synced, and what was written since.

    ``crash(target, rng)`` makes a copy of the directory as a disk might hold it after the power
    went: of each file the synced content, with any of the later sectors, in any order of arrival,
    whole or torn. Names are those of the last sync of the directory, or any later ones.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.names: dict[int, str] = {}
        self.synced: dict[str, bytes] = {}
        self.pending: dict[str, list[tuple[int, bytes] | int]] = {}
        self.lengths: dict[str, int] = {}
        self.durable_names: set[str] = set()
        self.renamed: dict[str, str] = {}

    def _name(self, fd: int) -> str:
        return self.names[fd]

    def open(self, path: str, flags: int) -> int:
        fd = super().open(path, flags)
        self.names[fd] = os.path.basename(path)
        if flags & os.O_CREAT:
            self.synced.setdefault(self.names[fd], b"")
            self.pending.setdefault(self.names[fd], [])
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> int:
        done = super().write(fd, data, offset)
        self.pending.setdefault(self._name(fd), []).append((offset, data[:done]))
        return done

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        self.pending.setdefault(self._name(fd), []).append(length)

    def sync(self, fd: int) -> None:
        name = self._name(fd)
        taken = len(self.pending.get(name, []))
        super().sync(fd)
        content = self.synced.get(name, b"")
        for change in self.pending.get(name, [])[:taken]:
            content = apply(content, change)
        self.synced[name] = content
        self.pending[name] = self.pending.get(name, [])[taken:]

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        old, new = os.path.basename(source), os.path.basename(target)
        self.synced[new] = self.synced.pop(old)
        self.pending[new] = self.pending.pop(old, [])

    def unlink(self, path: str) -> None:
        super().unlink(path)

    def sync_directory(self, path: str) -> None:
        self._called("sync_directory")
        super().sync_directory(path)
        self.durable_names = set(os.listdir(path))

    def crash(self, target: Path, rng: random.Random) -> None:
        """What the disk holds after the power went, into ``target``."""
        target.mkdir()
        present = set(os.listdir(self.root))
        for name in present | self.durable_names:
            if name == "LOCK":
                continue
            if name not in self.durable_names and rng.random() < 0.5:
                continue
            content = self.synced.get(name, b"")
            changes = list(self.pending.get(name, []))
            kept = []
            for change in changes:
                chance = rng.random()
                if chance < 0.4:
                    kept.append(change)
                elif chance < 0.7 and isinstance(change, tuple):
                    kept.extend(torn(change, rng))
            for change in kept:
                content = apply(content, change)
            (target / name).write_bytes(content)


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
