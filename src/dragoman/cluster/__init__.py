"""All endpoints of one service: registry + balance + flow + rpc.

    server = await cluster.serve({"greet": greet}, "10.0.0.7:0", name="greeter", registry=URL)
    pool = await cluster.connect("greeter", registry=URL)
    reply = await pool.call("greet", b"you")

``docs/rpc.md`` teaches it ("Many servers"). The consumer's agent uses the same ``Service``.
"""

from dragoman.cluster.opening import connect, serve
from dragoman.cluster.pool import Pool
from dragoman.cluster.server import RegisteredServer
from dragoman.cluster.statistics import EndpointStatistics, PoolStatistics
from dragoman.cluster.sync import SyncPool, connect_sync
from dragoman.errors import (
    BatchError,
    CancelledByCallerError,
    ConnectError,
    DeadlineError,
    DragomanError,
    LimitError,
    LinkError,
    LinkLostError,
    NotFoundError,
    OverloadError,
    ProtocolError,
    RegistryError,
    RemoteError,
    UnavailableError,
    UsageError,
)
from dragoman.errors import (
    CancelledByCaller as CancelledByCaller,
)
from dragoman.errors import (
    LinkLost as LinkLost,
)

__all__ = [
    "BatchError",
    "CancelledByCallerError",
    "ConnectError",
    "DeadlineError",
    "DragomanError",
    "EndpointStatistics",
    "LimitError",
    "LinkError",
    "LinkLostError",
    "NotFoundError",
    "OverloadError",
    "Pool",
    "PoolStatistics",
    "ProtocolError",
    "RegisteredServer",
    "RegistryError",
    "RemoteError",
    "SyncPool",
    "UnavailableError",
    "UsageError",
    "connect",
    "connect_sync",
    "serve",
]


def __dir__() -> list[str]:
    return __all__
