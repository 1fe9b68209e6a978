"""Every segment of a store that is open, read from its first byte to its last.

``QueueStore.verify`` is this. The invariant: a place is told once, whether opening found it or
reading.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable

from dragoman.queue.api.report import Damage
from dragoman.queue.engine.engine import Engine

SEGMENTS_AT_ONCE = 2


def verify_segments(
    engine: Engine, found: list[Damage], progress: Callable[[int, int], None] | None
) -> list[Damage]:
    """``found``, which opening did, and what else is not as written. ``progress`` is called with
    the bytes read and the bytes in all, from any thread."""
    known = {(damage.file, damage.offset) for damage in found}
    known |= {(str(d.queue), d.first) for d in found if d.messages}
    segments = engine._segments()
    whole = sum(length for _, _, length in segments)
    lock = threading.Lock()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress is not None:
                progress(min(done, whole), whole)

    def one(slot: int, number: int) -> list[Damage]:
        file = f"{number:010}.seg"
        return [
            Damage(file, offset, engine._name(queue), first, messages, reason)
            for offset, _, queue, first, messages, reason in engine._verify_segment(slot, advance)
        ]

    with concurrent.futures.ThreadPoolExecutor(SEGMENTS_AT_ONCE) as pool:
        parts = pool.map(lambda segment: one(segment[0], segment[1]), segments)
        for damage in itertools.chain.from_iterable(parts):
            key = (damage.file, damage.offset)
            if key not in known and (str(damage.queue), damage.first) not in known:
                found.append(damage)
    return found
