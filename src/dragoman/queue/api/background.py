"""What a store's threads do beside it: upkeep each second, and compaction.

``QueueStore`` starts them. The invariant: between two pieces of work a thread has no reference to
the store, so that one that nobody has any more is closed; it ends when ``ended`` is set.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Protocol

from dragoman.queue.api.upkeep import Upkeep
from dragoman.queue.engine.threads import StoreThreads

UPKEEP_S = 1.0
COMPACTION_S = 1.0


class Tended(Protocol):
    """A ``QueueStore``."""

    _upkeep: Upkeep


def run_upkeep(store: weakref.ref[Tended], part: StoreThreads, ended: threading.Event) -> None:
    """What fails is logged and tried again, and puts say why they fail."""
    # The journal near its bound does not wait for the second to pass.
    next_s = time.monotonic() + UPKEEP_S
    while not ended.is_set():
        due = part.await_upkeep(max(1, round(1000 * (next_s - time.monotonic()))))
        if ended.is_set():
            return
        there = store()
        if there is None:
            return
        if due:
            there._upkeep.collect_due()
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + UPKEEP_S
            there._upkeep.run_due()
        del there


def run_compaction(store: weakref.ref[Tended], ended: threading.Event) -> None:
    """One run after the other, with pauses."""
    wait_s = COMPACTION_S
    while not ended.wait(wait_s):
        there = store()
        if there is None:
            return
        wait_s = COMPACTION_S if there._upkeep.compaction_due() else min(60.0, 2 * wait_s + 1)
        del there
