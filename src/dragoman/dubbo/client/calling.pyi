import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from dragoman.cluster.pool import Pool
from dragoman.cluster.service import Service
from dragoman.dubbo.types.declaration import Method

class JavaPool(Pool):
    """All providers of one service. ``create_future`` makes the futures of its calls."""

    interface: str
    group: str
    version: str
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: Service,
        interface: str,
        group: str,
        version: str,
        *,
        timeout_ms: float | None = None,
        create_future: Callable[[], Any] | None = None,
    ) -> None: ...

def checked_attachments(attachments: Any) -> Mapping[str, str]:
    """The texts that go with a call; raises UsageError."""

class RemoteMethod:
    """One method of a service, to be called: ``caller(*args)`` gives a future."""

    pool: JavaPool
    name: str
    method: Method | None
    options: dict[str, Any]
    def __init__(
        self, pool: JavaPool, name: str, method: Method | None, options: dict[str, Any]
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]: ...
    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        """Call it; returns the future."""

    def with_options(self, **options: Any) -> RemoteMethod:
        """The same method with other options."""

    def variant(self, what: str) -> RemoteMethod:
        """The same method ``whole`` or ``one_way``; made once."""
