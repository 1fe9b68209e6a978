"""The queue store: a million queues and more in one process, on one disk.

``QueueStore`` is what to open. It stands alone: nothing of the mesh is imported.
"""

from dragoman.queue.aio import AsyncQueueStore
from dragoman.queue.store import Consumer, Damage, QueueStore, Statistics

__all__ = ["AsyncQueueStore", "Consumer", "Damage", "QueueStore", "Statistics"]
