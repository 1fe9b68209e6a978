"""What workers do about a message that cannot be read: its block is damaged, or was given up.

``group.WorkGroup`` calls this. The rule: with dead letters such a message goes there, as a text
that says which it was, and the others go on; without, all before it are given, and then ``take``
says what stands in the way until somebody trims it. The invariant: it is never passed over unsaid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from dragoman.errors import CorruptionError

if TYPE_CHECKING:
    from dragoman.queue.api.store import QueueStore

log = logging.getLogger(__name__)


def key_at(
    store: QueueStore, queue: bytes, offset: int, keys_of: Callable[[list[bytes]], list[Hashable]]
) -> Hashable:
    """The key of a message; of one that cannot be read one that no other has."""
    try:
        return keys_of(store.get(queue, offset, 1))[0]
    except CorruptionError:
        return object()


def letter(store: QueueStore, queue: bytes, offset: int) -> bytes:
    """What is put to the dead letters for a message that perhaps cannot be read."""
    try:
        return store.get(queue, offset, 1)[0]
    except CorruptionError as error:
        log.error("%s: offset %d of queue %.100r is lost: %s", store.path, offset, queue, error)
        text = f"the message at offset {offset} of queue {_shown(queue)} is lost: {error}"
        return b"dragoman: " + text.encode(errors="backslashreplace")


def stopped(queue: bytes, group: bytes, offset: int, error: CorruptionError) -> CorruptionError:
    """What a worker is told that finds nothing else."""
    return CorruptionError(
        f"{error}; workers of group {_shown(group)} cannot pass over the message at offset"
        f" {offset}: trim({_shown(queue)}, {offset + 1}) does, when what is before it is done; with"
        " attempts_max and dead_letter such messages go there by themselves"
    )


def _shown(name: bytes) -> str:
    try:
        return f"{name.decode()!r:.200}"
    except UnicodeDecodeError:
        return f"{name!r:.200}"
