"""The directory of a store: its descriptor, its lock, its identity, and what makes a new one.

Called when a store opens. The invariants: a store keeps to the directory that it opened, whatever
its path means later, and one process has it for writing; STORE and META appear whole or not at all,
and a directory that holds segments but lacks one of them is never taken for a new store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from dragoman.errors import CorruptionError, LockedError, StorageError, UsageError
from dragoman.queue.disk.crc import crc32c
from dragoman.queue.disk.files import Files

VERSION = 1
SECTOR = 4096
NUMBERED = (".seg", ".jnl")
_STORE = struct.Struct("<8sII16sQ20x")


@dataclass(frozen=True)
class Identity:
    """What STORE says."""

    identity: bytes
    segment_bytes: int


class StoreDirectory:
    """A store's directory, open: its descriptor and, unless ``read_only``, its lock.

    Everything of the store goes by ``descriptor``: what becomes of the path, and of the process's
    working directory, does not matter to it. The lock is an exclusive ``flock`` on LOCK and, so
    that a LOCK that was removed lets nobody in, on the directory. The kernel lets go of both when
    the process ends; a process that was forked from it gives up its share at once.
    ``missing_ok`` False: UsageError where there is no directory. Raises LockedError when another
    has the lock, StorageError when there can be none.
    """

    def __init__(self, path: Path, *, read_only: bool = False, missing_ok: bool = True) -> None:
        self.path = path
        self._lock = self.descriptor = -1
        with _FORKING:
            _OPEN.add(self)
            try:
                self._open(read_only, missing_ok)
            except BaseException:
                self.release()
                raise

    def _open(self, read_only: bool, missing_ok: bool) -> None:
        path = self.path
        try:
            if missing_ok and not read_only:
                path.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no queue store here") from None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}", errno=error.errno) from error
        if read_only:
            return
        if not missing_ok and not any(map(_of_a_store, os.listdir(self.descriptor))):
            raise UsageError(f"{path}: there is no queue store here")
        while not self.locked:
            self._close_lock()
            try:
                self._lock = os.open(
                    "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=self.descriptor
                )
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._is_locked() from error
            except OSError as error:
                raise StorageError(
                    f"{path / 'LOCK'}: {error.strerror}", errno=error.errno
                ) from error
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._is_locked() from error
        except OSError:
            pass  # some network file systems lock files only

    def _is_locked(self) -> LockedError:
        return LockedError(
            f"{self.path}: another process, or another QueueStore of this one, has the store open"
            " for writing (read_only=True opens it beside)"
        )

    @property
    def locked(self) -> bool:
        """Whether LOCK in this directory is the file that is locked: it may have been removed."""
        if self._lock < 0:
            return False
        try:
            there = os.stat("LOCK", dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._lock))

    def release(self) -> None:
        """Let others open it."""
        for descriptor in (self._lock, self.descriptor):
            if descriptor >= 0:
                # Not only this process's descriptors refer to the lock, if there was a fork.
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
        self.close_descriptors()
        _OPEN.discard(self)

    def close_descriptors(self) -> None:
        """Close them without a word to whoever else has them, which keeps the lock."""
        self._close_lock()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _close_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _of_a_store(name: str) -> bool:
    return name in ("STORE", "META") or name.endswith(NUMBERED)


_OPEN: weakref.WeakSet[StoreDirectory] = weakref.WeakSet()
# Held while descriptors are opened: none is copied to a child that does not know of it.
_FORKING = threading.RLock()


def _in_child() -> None:
    _FORKING.release()
    for directory in list(_OPEN):
        directory.close_descriptors()


os.register_at_fork(
    before=_FORKING.acquire, after_in_parent=_FORKING.release, after_in_child=_in_child
)


def direct_alignment(directory: int) -> int:
    """To how many bytes reads with O_DIRECT are aligned in this directory, 0 for not at all.

    STORE is asked, which is there. What a device's sectors are shows in what it refuses.
    """
    try:
        descriptor = os.open("STORE", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise StorageError(f"STORE: {error.strerror}", errno=error.errno) from error
    try:
        with mmap.mmap(-1, 2 * SECTOR) as memory:
            for alignment in (512, SECTOR):
                # Aligned as little as what will be read.
                with memoryview(memory)[alignment : 2 * alignment] as view:
                    try:
                        os.preadv(descriptor, [view], 0)
                        return alignment
                    except OSError as error:
                        if error.errno != errno.EINVAL:
                            raise StorageError(
                                f"STORE: {error.strerror}", errno=error.errno
                            ) from error
    finally:
        os.close(descriptor)
    return 0


def write_whole(files: Files, path: Path, name: str, data: bytes) -> None:
    """Replace a small file as a whole, durably. ``path`` of the store is for messages."""
    temporary = f"{name}.new"
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
        files.rename(temporary, name)
        files.sync_directory()
    except OSError as error:
        raise StorageError(f"{path / name}: {error.strerror}", errno=error.errno) from error


def meta_header(identity: bytes, generation: int = 0, base: int = 64) -> bytes:
    """The first 64 bytes of META, of which ``base`` bytes were synced before it got its name."""
    head = struct.pack("<8sII16sQQ12x", b"DRGQMETA", VERSION, 0, identity, generation, base)
    return head + struct.pack("<I", crc32c(head))


def write_meta(files: Files, path: Path, data: bytes) -> None:
    """Replace META as a whole, durably. ``path`` of the store is for messages."""
    write_whole(files, path, "META", data)


def store_header(identity: bytes, segment_bytes: int) -> bytes:
    """All of STORE."""
    head = _STORE.pack(b"DRGQUEUE", VERSION, segment_bytes, identity, int(time.time() * 1000))
    return head + struct.pack("<I", crc32c(head))


def write_store(files: Files, path: Path, data: bytes) -> None:
    """Write STORE as a whole, durably. ``path`` of the store is for messages."""
    write_whole(files, path, "STORE", data)


def read_identity(files: Files, path: Path) -> Identity | None:
    """What STORE says; None when there is no STORE. CorruptionError when it is not one."""
    try:
        descriptor = files.open("STORE", os.O_RDONLY)
        try:
            data = files.read(descriptor, 65, 0)
        finally:
            files.close(descriptor)
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
    names = os.listdir(files.directory)
    used = sorted(name for name in names if name.endswith(NUMBERED))
    identity = read_identity(files, path)
    if identity is None:
        if used:
            raise CorruptionError(f"{path}: STORE is missing beside {used[0]}")
        if not create:
            raise UsageError(f"{path}: there is no queue store here")
        write_store(files, path, store_header(os.urandom(16), segment_bytes))
        identity = read_identity(files, path)
        assert identity is not None
    if "META" not in names:
        if used:
            raise CorruptionError(f"{path}: META is missing beside {used[0]}")
        if not create:
            raise UsageError(f"{path}: the store was never finished")
        write_meta(files, path, meta_header(identity.identity))
    return identity
