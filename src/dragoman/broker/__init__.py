"""Stores of queues that are elsewhere: served by another process, or on NATS JetStream.

    server = await broker.serve(QueueStore("/var/lib/queues"), "0.0.0.0:7400")
    store = broker.open_store("dragoman://10.0.0.7:7400")
    store.put("orders", b"...")

All stores have the methods of ``dragoman.queue.QueueStore`` (``dragoman.queue.api.interface``).
``docs/queue.md`` teaches it, ``docs/formats/broker.md`` describes every body.
"""

from dragoman.broker.blocking import BlockingStore
from dragoman.broker.client import ServedStatistics, ServedStore
from dragoman.broker.opening import open_async, open_store
from dragoman.broker.serving import BrokerServer, serve
from dragoman.errors import (
    CancelledByCaller as CancelledByCaller,
)
from dragoman.errors import (
    CancelledByCallerError,
    ConnectError,
    CorruptionError,
    DeadlineError,
    DragomanError,
    LimitError,
    LinkError,
    LinkLostError,
    LockedError,
    NotFoundError,
    OverloadError,
    PositionLostError,
    ProtocolError,
    RegistryError,
    RemoteError,
    StorageError,
    UnavailableError,
    UsageError,
)
from dragoman.errors import (
    LinkLost as LinkLost,
)
from dragoman.errors import (
    PositionLost as PositionLost,
)

__all__ = [
    "BlockingStore",
    "BrokerServer",
    "CancelledByCallerError",
    "ConnectError",
    "CorruptionError",
    "DeadlineError",
    "DragomanError",
    "LimitError",
    "LinkError",
    "LinkLostError",
    "LockedError",
    "NotFoundError",
    "OverloadError",
    "PositionLostError",
    "ProtocolError",
    "RegistryError",
    "RemoteError",
    "ServedStatistics",
    "ServedStore",
    "StorageError",
    "UnavailableError",
    "UsageError",
    "open_async",
    "open_store",
    "serve",
]


def __dir__() -> list[str]:
    return __all__
