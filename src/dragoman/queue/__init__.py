"""The queue store: a million queues and more in one process, on one disk.

``QueueStore`` is what to open. It stands alone: nothing of the mesh is imported.
"""

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
    "Damage",
    "GroupWorkers",
    "Message",
    "MessageStore",
    "QueueStore",
    "RepairReport",
    "Statistics",
    "Workers",
    "repair",
    "verify",
]
