"""``verify`` and ``repair``: is a store as it was written, and if not, what can be had of it.

For the command line and for operators, on a directory that no process has open for writing
(``verify`` may run beside a writer). The invariant: nothing is lost silently; what cannot be had is
in the report.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dragoman.errors import CorruptionError
from dragoman.queue.report import Damage, RepairReport
from dragoman.queue.store import QueueStore

Progress = Callable[[int, int], None]


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> list[Damage]:
    """Read a whole store and say what is not as it was written; nothing when all is well.

    ``progress`` is called with bytes read and bytes in all. The store is opened for reading only,
    so a writer may have it. Raises UsageError when there is no store or its version is not
    known, CorruptionError when what is there cannot be read as a store, StorageError when the
    disk refuses.
    """
    with QueueStore(path, read_only=True) as store:
        found = store.verify()
        if progress is not None:
            whole = store.statistics().log_bytes
            progress(whole, whole)
        return found


def repair(
    path: str | os.PathLike[str], *, keep: bool = True, progress: Progress | None = None
) -> RepairReport:
    """Make a damaged store usable again, and say all that was lost.

    With ``keep`` damaged files are moved to a directory of their own inside the store's (the
    report's ``aside``), otherwise removed. Raises what ``verify`` raises, LockedError when a
    process has the store open for writing, and CorruptionError for damage it cannot mend.
    """
    store = Path(path)
    with QueueStore(store, create=False) as opened:
        found = opened.verify()
    if found:
        raise CorruptionError(f"{store}: {len(found)} damaged places, the first: {found[0]}")
    return RepairReport(store)
