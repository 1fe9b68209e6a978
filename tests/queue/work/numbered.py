"""A queue of numbered messages, on a clock that tests set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman.clock import ManualClock
from dragoman.queue import Message, QueueStore

SMALL: dict[str, Any] = {"segment_bytes": 1 << 16, "memory_bytes": 1 << 20}


def filled(path: Path, count: int = 10, **options: Any) -> tuple[QueueStore, ManualClock]:
    store = QueueStore(path, **{**SMALL, **options})
    clock = ManualClock(1000.0)
    store._clock = clock
    if store.length("q") == 0:
        store.put_many("q", [b"%d" % i for i in range(count)])
    return store, clock


def offsets(messages: list[Message]) -> list[int]:
    return [message.offset for message in messages]
