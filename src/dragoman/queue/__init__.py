"""The queue store: a million queues and more in one process, on one disk.

``QueueStore`` is what to open. It stands alone: nothing of the mesh is imported.
"""

from dragoman.errors import (
    CorruptionError,
    DragomanError,
    LockedError,
    PositionLostError,
    StorageError,
    UsageError,
)
from dragoman.errors import (
    PositionLost as PositionLost,
)
from dragoman.queue.api.aio import AsyncQueueStore
from dragoman.queue.api.consumer import AsyncConsumer, Consumer
from dragoman.queue.api.interface import (
    AsyncGroupWorkers,
    AsyncMessageStore,
    GroupWorkers,
    MessageStore,
)
from dragoman.queue.api.repair import repair, verify
from dragoman.queue.api.report import Damage, RepairReport, Statistics
from dragoman.queue.api.store import QueueStore
from dragoman.queue.work.leases import Message
from dragoman.queue.work.workers import Workers

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
    "PositionLostError",
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
