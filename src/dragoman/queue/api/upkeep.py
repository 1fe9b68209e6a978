"""What keeps a store in shape: retention, giving space back, compaction, a META without dead parts.

``QueueStore`` has one, and its threads (``background``) call what is due. The invariants: what
fails in a thread is logged, once a minute for the same, and tried again; under ``lock`` no segment
changes its slot, and it is never waited for with a group's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from dragoman.errors import DragomanError
from dragoman.queue.api.retention import Retention

if TYPE_CHECKING:
    from dragoman.queue.api.store import QueueStore

log = logging.getLogger(__name__)
# After the journal could not be made shorter.
RETRY_S = 0.05
COMPLAINT_S = 60.0
ANY_SEGMENT = 2**64 - 1
# META is rewritten when so many bytes of it are dead, and more than half.
META_DEAD_BYTES = 1 << 20


class Upkeep:
    """See this module's description. ``compact_below`` and what bounds compaction are the store's
    options."""

    def __init__(
        self,
        store: QueueStore,
        retention: Retention,
        *,
        compact_below: float | None,
        compaction_bytes_s: int,
        compaction_memory_bytes: int,
    ) -> None:
        self._store = store
        self.retention = retention
        self._compact_below = compact_below
        self._compaction_bytes_s = compaction_bytes_s
        self._compaction_memory_bytes = compaction_memory_bytes
        self.lock = threading.Lock()
        self._compacting = threading.Lock()
        # What was said, and until when it is not said again.
        self._complaints: dict[str, float] = {}

    def collect_due(self) -> None:
        """The journal is near its bound."""
        store = self._store
        try:
            with self.lock:
                store._collect_journal()
        except DragomanError as error:
            # What gives space back has its turn all the same.
            self._complain(error)
            store._ended.wait(RETRY_S)

    def run_due(self) -> None:
        """A second has passed."""
        try:
            self.run()
        except DragomanError as error:
            self._complain(error)

    def _complain(self, error: DragomanError) -> None:
        # Whatever else is said or succeeds between.
        now_s = time.monotonic()
        if not self._store._ended.is_set() and now_s >= self._complaints.get(str(error), 0.0):
            self._complaints = {text: s for text, s in self._complaints.items() if s > now_s}
            self._complaints[str(error)] = now_s + COMPLAINT_S
            log.warning("%s: upkeep: %s", self._store.path, error)

    def run(self) -> int:
        """See ``QueueStore.upkeep``."""
        store, retention = self._store, self.retention
        if not store._directory.locked:
            store._poison_removed()
        for group in store._work.known():
            group.save(wait=False)
        with self.lock:
            store._sync_meta(store._level != 0)
            if retention.messages is not None:
                store._trim_lengths(retention.messages)
            returned = store._remove_dead()
            now_s = retention.now_s(store._oldest, self._complain)
            while (oldest := store._oldest()) is not None:
                slot, newest_s = oldest
                if not retention.past(newest_s, now_s, self._log_bytes):
                    break
                store._drop(slot)
                freed = store._remove_dead()
                if not freed:
                    break  # a reader holds it, or there is nothing to give
                returned += freed
            store._collect_journal()
            whole, dead = store._meta_dead()
            if dead > META_DEAD_BYTES and 2 * dead > whole:
                self._rewrite_meta()
            store._reserve_meta()
        return returned

    def _log_bytes(self) -> int:
        return self._store._statistics()["log_bytes"]

    def rewrite_meta(self) -> None:
        """Make META one without dead parts, however few there are."""
        with self.lock:
            self._rewrite_meta()

    def _rewrite_meta(self) -> None:
        positions = self._store._positions
        self._store._rewrite_meta(positions.lock, positions.groups)

    def compaction_due(self) -> bool:
        """One run of compaction; whether it did not fail."""
        store = self._store
        try:
            self._compact_once(ANY_SEGMENT, self._compaction_bytes_s)
            return True
        except DragomanError as error:
            if not (store._ended.is_set() or store._statistics()["poisoned"]):
                log.warning("%s: compaction: %s", store.path, error)
            return False

    def _compact_once(self, before: int, bytes_s: int) -> int | None:
        # One run: bytes given back, None when there was nothing to do.
        store, below = self._store, self._compact_below
        if below is None:
            return None
        with self._compacting:
            result = store._compact(
                self.lock, below, before, bytes_s, self._compaction_memory_bytes
            )
            if result is None:
                return None
            if result == (0, 0):
                log.error("%s: compaction met a damaged block; verify says more", store.path)
                return 0
            with self.lock:
                store._remove_dead()
            return result[0] - result[1]

    def compact(self) -> int:
        """See ``QueueStore.compact``."""
        returned = 0
        # Not those that writers begin meanwhile: it would not end before they do.
        before = max((number for _, number, _ in self._store._segments()), default=0)
        while (freed := self._compact_once(before, 0)) is not None:
            returned += freed
        return returned
