"""The workspace's lock: one race at a time in one directory.

Called by the workflow. The invariant: the kernel's ``flock`` decides, so a race that was killed
holds nothing; the pid written in the file only says who holds it, or whose unfinished race this one
follows. The file is never removed, since a lock on a removed file protects nobody.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from pathlib import Path

from dragoman.errors import DragomanError, UsageError

log = logging.getLogger(__name__)
LOCK_NAME = "lock"


class WorkspaceLocked(DragomanError):
    """Another race holds the workspace."""


class WorkspaceLock:
    """Context manager that holds ``directory/lock``.

    Raises WorkspaceLocked, naming the holder, when it is held, and UsageError when the directory
    cannot be written. ``recovered_pid`` is the process whose race never unlocked, if any.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self.recovered_pid: int | None = None
        self._descriptor = -1

    def __enter__(self) -> WorkspaceLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"workspace {self.path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise WorkspaceLocked(
                f"workspace {self.path.parent} is locked by {_described(holder)}"
            ) from error
        self._descriptor = descriptor
        left = _holder(descriptor)
        if left is not None:
            self.recovered_pid = left.get("pid")
            log.warning("recovered the stale lock of %s", _described(left))
        self._write({"pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")})
        log.info("locked %s", self.path)
        return self

    def __exit__(self, *_: object) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = -1
        log.info("unlocked %s", self.path)

    def _write(self, holder: dict[str, object]) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode() + b"\n", 0)


def _holder(descriptor: int) -> dict[str, int] | None:
    text = os.pread(descriptor, 4096, 0).strip()
    if not text:
        return None
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _described(holder: dict[str, int] | None) -> str:
    if not holder or "pid" not in holder:
        return "another process"
    return f"process {holder['pid']} (since {holder.get('since', 'unknown')})"
