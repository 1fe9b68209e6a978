"""RPC between Python programs: one connection carries millions of calls a second.

    server = await rpc.serve({"echo": echo}, "127.0.0.1:7000")
    client = await rpc.connect("127.0.0.1:7000")
    reply = await client.call("echo", b"hello")

``docs/rpc.md`` teaches it, ``docs/formats/mesh.md`` describes every byte. The agents of the mesh
use the same sessions.
"""

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
from dragoman.rpc.address import Address
from dragoman.rpc.client import Client
from dragoman.rpc.dispatch import current_request
from dragoman.rpc.opening import connect, serve
from dragoman.rpc.server import Server
from dragoman.rpc.service import service
from dragoman.rpc.statistics import ClientStatistics, RequestInfo, ServerStatistics
from dragoman.rpc.stub import with_options
from dragoman.rpc.sync import SyncClient, connect_sync

__all__ = [
    "Address",
    "BatchError",
    "CancelledByCallerError",
    "Client",
    "ClientStatistics",
    "ConnectError",
    "DeadlineError",
    "DragomanError",
    "LimitError",
    "LinkError",
    "LinkLostError",
    "NotFoundError",
    "OverloadError",
    "ProtocolError",
    "RemoteError",
    "RequestInfo",
    "Server",
    "ServerStatistics",
    "SyncClient",
    "UnavailableError",
    "UsageError",
    "connect",
    "connect_sync",
    "current_request",
    "serve",
    "service",
    "with_options",
]


def __dir__() -> list[str]:
    return __all__
