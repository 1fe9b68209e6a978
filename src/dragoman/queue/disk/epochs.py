"""Which stretch of a store's time a position in a queue is of: the file EPOCH.

A crash may take the ends of queues, and what is put afterwards gets the same offsets. ``store``
begins a new epoch with each opening that follows no orderly close, so that those who read from
elsewhere, across the crash, learn whether what they have read is still there. The invariant: two
openings between which messages may have been lost have different epochs.
"""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path

from dragoman.errors import StorageError
from dragoman.queue.disk.crc import crc32c
from dragoman.queue.disk.directory import write_whole
from dragoman.queue.disk.files import Files

VERSION = 1
EPOCH = "EPOCH"
_LAYOUT = struct.Struct("<8sI8s8s")


class Epochs:
    """The epoch ``now`` of a store that is opened, and how long its queues were when it began."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        self._before = b""
        self._ends: array[int] | None = None
        # Whether the file is not what was written. Its epoch is as good as unknown then.
        self.damaged = False
        self.now = self._read() or os.urandom(8)

    def begin(self, ends: array[int]) -> None:
        """A new epoch, durably; ``ends``: lengths of all queues now, by number."""
        before = self.now
        now = os.urandom(8)
        head = _LAYOUT.pack(b"DRGQEPOC", VERSION, now, before)
        write_whole(self._files, self._path, EPOCH, head + struct.pack("<I", crc32c(head)))
        self._before, self.now, self._ends = before, now, ends

    def end(self, epoch: bytes, number: int) -> int | None:
        """Up to where a queue has what it had in ``epoch``; None if that is not known."""
        if epoch != self._before or self._ends is None:
            return None
        return self._ends[number] if number < len(self._ends) else 0

    def _read(self) -> bytes | None:
        size = _LAYOUT.size + 4
        try:
            descriptor = self._files.open(EPOCH, os.O_RDONLY)
            try:
                data = self._files.read(descriptor, size + 1, 0)
            finally:
                self._files.close(descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                f"{self._path / EPOCH}: {error.strerror}", errno=error.errno
            ) from error
        if (
            len(data) != size
            or data[:8] != b"DRGQEPOC"
            or crc32c(data[:-4]) != struct.unpack("<I", data[-4:])[0]
        ):
            self.damaged = True
            return None
        now: bytes = _LAYOUT.unpack(data[:-4])[2]
        return now
