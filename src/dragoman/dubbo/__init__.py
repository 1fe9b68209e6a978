"""Dubbo: services called and served from Python, and the way to Dubbo's providers.

    async with Client("zookeeper://127.0.0.1:2181") as client:
        hello = client.service("com.example.Hello", version="1.0.0")
        print(await hello.hash("abc"))

    @service("com.example.Hello", version="1.0.0")
    class Hello:
        async def hash(self, text: str) -> int: ...

    run(Hello(), 20880, registry="zookeeper://127.0.0.1:2181")

``docs/sdk.md`` teaches it. ``link``, ``egress`` and ``native`` are what the agents use of it.
"""

from dragoman.dubbo.client.client import Client
from dragoman.dubbo.client.stub import Reference, invoke, send, with_options
from dragoman.dubbo.client.sync import SyncClient, connect_sync
from dragoman.dubbo.server.dispatch import current_request
from dragoman.dubbo.server.server import Server, run, serve
from dragoman.dubbo.types import java
from dragoman.dubbo.types.declaration import method, service
from dragoman.dubbo.types.info import RequestInfo, Result, ServerStatistics
from dragoman.dubbo.types.java import bean
from dragoman.errors import (
    CancelledByCaller as CancelledByCaller,
)
from dragoman.errors import (
    CancelledByCallerError,
    ConnectError,
    DeadlineError,
    DragomanError,
    JavaError,
    LimitError,
    LinkError,
    LinkLostError,
    NotFoundError,
    OverloadError,
    ProtocolError,
    RegistryError,
    RemoteError,
    ResultError,
    UnavailableError,
    UsageError,
)
from dragoman.errors import (
    LinkLost as LinkLost,
)
from dragoman.wire.java import (
    Bean,
    BigInteger,
    Date,
    Double,
    Long,
    MapKey,
    TypedList,
    TypedMap,
    enum,
)

# Like those of ``rpc`` and ``cluster``: awaited or not, in ``async with``.
connect = Client

__all__ = [
    "Bean",
    "BigInteger",
    "CancelledByCallerError",
    "Client",
    "ConnectError",
    "Date",
    "DeadlineError",
    "Double",
    "DragomanError",
    "JavaError",
    "LimitError",
    "LinkError",
    "LinkLostError",
    "Long",
    "MapKey",
    "NotFoundError",
    "OverloadError",
    "ProtocolError",
    "Reference",
    "RegistryError",
    "RemoteError",
    "RequestInfo",
    "Result",
    "ResultError",
    "Server",
    "ServerStatistics",
    "SyncClient",
    "TypedList",
    "TypedMap",
    "UnavailableError",
    "UsageError",
    "bean",
    "connect",
    "connect_sync",
    "current_request",
    "enum",
    "invoke",
    "java",
    "method",
    "run",
    "send",
    "serve",
    "service",
    "with_options",
]


def __dir__() -> list[str]:
    return __all__
