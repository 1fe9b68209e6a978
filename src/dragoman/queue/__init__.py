"""The queue store: a million queues and more in one process, on one disk.

``QueueStore`` is what to open. It stands alone: nothing of the mesh is imported.
"""

from dragoman.errors import (
    CorruptionError,
    DragomanError,
    LockedError,
    PositionLost,
    StorageError,
    UsageError,
)
from dragoman.queue.aio import AsyncQueueStore
from dragoman.queue.consumer import AsyncConsumer, Consumer
from dragoman.queue.interface import (
    AsyncGroupWorkers,
    AsyncMessageStore,
    GroupWorkers,
    MessageStore,
)
from dragoman.queue.leases import Message
from dragoman.queue.repair import repair, verify
from dragoman.queue.report import Damage, RepairReport
from dragoman.queue.store import QueueStore, Statistics
from dragoman.queue.workers import Workers

__all__ = [
    "AsyncConsumer",
    "AsyncGroupWorkers",
    "AsyncMessageStore",
    "AsyncQueueStore",
    "Consumer",
    "CorruptionError",
    "Damage",
    "DragomanError",
    "GroupWorkers",
    "LockedError",
    "Message",
    "MessageStore",
    "PositionLost",
    "QueueStore",
    "RepairReport",
    "Statistics",
    "StorageError",
    "UsageError",
    "Workers",
    "repair",
    "verify",
]


def __dir__() -> list[str]:
    return __all__
