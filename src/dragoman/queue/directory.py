"""The directory of a store: its lock, its identity, and what makes a new one.

Called when a store opens. The invariant: STORE and META appear whole or not at all, and a directory
that holds segments but lacks one of them is never taken for a new store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import CorruptionError, LockedError, StorageError, UsageError
from dragoman.queue.crc import crc32c
from dragoman.queue.files import Files

VERSION = 1
_STORE = struct.Struct("<8sII16sQ20x")


@dataclass(frozen=True)
class Identity:
    """What STORE says."""

    identity: bytes
    segment_bytes: int


class DirectoryLock:
    """An exclusive ``flock`` on LOCK; the kernel lets go of it when the process ends."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", errno=error.errno) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise LockedError(
                f"{path}: another process, or another QueueStore of this one, has the store open"
                " for writing (read_only=True opens it beside)"
            ) from error

    def release(self) -> None:
        """Let others open it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def takes_direct(path: Path) -> bool:
    """Whether the file system takes O_DIRECT."""
    try:
        os.close(os.open(path / "STORE", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise StorageError(f"{path}: {error.strerror}", errno=error.errno) from error
    return True


def _write_whole(files: Files, path: Path, name: str, data: bytes) -> None:
    temporary = str(path / f"{name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            files.unlink(temporary)
        descriptor = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            done = 0
            while done < len(data):
                done += files.write(descriptor, data[done:], done)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(temporary, str(path / name))
        files.sync_directory(str(path))
    except OSError as error:
        raise StorageError(f"{path / name}: {error.strerror}", errno=error.errno) from error


def meta_header(identity: bytes, generation: int = 0, base: int = 64) -> bytes:
    """The first 64 bytes of META, of which ``base`` bytes were synced before it got its name."""
    head = struct.pack("<8sII16sQQ12x", b"DRGQMETA", VERSION, 0, identity, generation, base)
    return head + struct.pack("<I", crc32c(head))


def write_meta(files: Files, path: Path, data: bytes) -> None:
    """Replace META as a whole, durably."""
    _write_whole(files, path, "META", data)


def store_header(identity: bytes, segment_bytes: int) -> bytes:
    """All of STORE."""
    head = _STORE.pack(b"DRGQUEUE", VERSION, segment_bytes, identity, int(time.time() * 1000))
    return head + struct.pack("<I", crc32c(head))


def write_store(files: Files, path: Path, data: bytes) -> None:
    """Write STORE as a whole, durably."""
    _write_whole(files, path, "STORE", data)


def read_identity(path: Path) -> Identity | None:
    """What STORE says; None when there is no STORE. CorruptionError when it is not one."""
    try:
        data = (path / "STORE").read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path / 'STORE'}: {error.strerror}", errno=error.errno) from error
    if len(data) != 64 or data[:8] != b"DRGQUEUE":
        raise CorruptionError(f"{path / 'STORE'}: not the identity of a queue store")
    _, version, segment_bytes, identity, _ = _STORE.unpack(data[:60])
    if crc32c(data[:60]) != struct.unpack("<I", data[60:])[0]:
        raise CorruptionError(f"{path / 'STORE'} at 0: not what was written")
    if version != VERSION:
        raise UsageError(
            f"{path}: the store has format version {version}; this program knows version {VERSION}"
        )
    return Identity(identity, segment_bytes)


def prepare(files: Files, path: Path, segment_bytes: int, create: bool) -> Identity:
    """The store's identity; a new store is made where there is none and ``create``."""
    names = os.listdir(path) if path.is_dir() else []
    used = sorted(name for name in names if name.endswith((".seg", ".jnl")))
    identity = read_identity(path)
    if identity is None:
        if used:
            raise CorruptionError(f"{path}: STORE is missing beside {used[0]}")
        if not create:
            raise UsageError(f"{path}: there is no queue store here")
        write_store(files, path, store_header(os.urandom(16), segment_bytes))
        identity = read_identity(path)
        assert identity is not None
    if not (path / "META").exists():
        if used:
            raise CorruptionError(f"{path}: META is missing beside {used[0]}")
        if not create:
            raise UsageError(f"{path}: the store was never finished")
        write_meta(files, path, meta_header(identity.identity))
    return identity
