"""The synchronous client: blocking calls of Dubbo services from any thread.

``connect_sync`` makes one. A ``Hub`` lives on a loop of its own in a thread of its own
(``rpc.loop_thread``); the calls of all threads gather in its inbox.

Invariants: every call ends once, at the latest when the client is closed; the thread ends with
``close``, with the last reference to the client, or with the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar, overload

from dragoman.cluster.statistics import PoolStatistics
from dragoman.dubbo.client.calling import JavaPool, RemoteMethod
from dragoman.dubbo.client.hub import BODY_BYTES_MAX, TIMEOUT_MS, Hub, Settings, echo_of, url_of
from dragoman.dubbo.client.stub import UNSET, Exposed, Reference, Stub
from dragoman.errors import UsageError
from dragoman.registry import Registration
from dragoman.registry.methods import Method
from dragoman.registry.url import redact_url
from dragoman.rpc.address import Address
from dragoman.rpc.limits import Limits
from dragoman.rpc.loop_thread import LoopThread, OnLoopThread

T = TypeVar("T")


class SyncClient(OnLoopThread[Hub]):
    """``Client`` for blocking calls, thread-safe. Use it in ``with``, or close it.

    ``source`` is a URL; the options are those of ``Client``. Do not call it from a coroutine, which
    would block the loop. After a fork it belongs to the parent; the child makes its own.
    """

    def __init__(
        self,
        source: str | Address,
        *,
        timeout_ms: int | None = TIMEOUT_MS,
        policy: str = "demand",
        on_full: Literal["shed", "wait", "fail"] = "shed",
        calls_max: int = Limits.calls_max,
        bytes_max: int = Limits.bytes_max,
        waiting_max: int = Limits.waiting_max,
        waiting_bytes_max: int = Limits.waiting_bytes_max,
        buffers_bytes_max: int = Limits.buffers_bytes_max,
        body_bytes_max: int = BODY_BYTES_MAX,
        connections: int = 1,
        heartbeat_ms: int = Limits.heartbeat_ms,
    ) -> None:
        source = url_of(source)
        if not isinstance(source, str):
            raise UsageError(f"source: expected a URL, not {type(source).__name__}")
        settings = Settings(
            limits=Limits(
                timeout_ms=timeout_ms,
                on_full=on_full,
                calls_max=calls_max,
                bytes_max=bytes_max,
                waiting_max=waiting_max,
                waiting_bytes_max=waiting_bytes_max,
                buffers_bytes_max=buffers_bytes_max,
                body_bytes_max=body_bytes_max,
                heartbeat_ms=heartbeat_ms,
            ),
            policy=policy,
            connections=connections,
        )
        self._start(
            LoopThread(
                redact_url(source), lambda loop, create: _LateHub(loop, source, settings, create)
            ),
            TIMEOUT_MS,
        )

    def _wait(self, caller: RemoteMethod, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result: Any = self._inbox.call(caller, (args, kwargs), None, None)  # type: ignore[arg-type]
        return result

    def _expose(self, caller: RemoteMethod) -> Exposed:
        return Exposed(caller, self._wait)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the client's thread do something, and wait for it."""
        return self._core.run(work)

    def _pool_of(self, service: object) -> JavaPool:
        """See ``Hub.pool_of``; on the client's thread if it may have to be made."""
        if isinstance(service, Stub | Reference):
            return self._core.client.pool_of(service)

        async def find() -> JavaPool:
            return self._core.client.pool_of(service)

        return self._run(find())

    def __repr__(self) -> str:
        state = "closed" if self.closed else self._core.client.told()
        return f"<SyncClient {self._core.endpoint}, {state}>"

    @overload
    def service(
        self,
        declared: str,
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> Reference: ...
    @overload
    def service(
        self,
        declared: Callable[..., T],
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> T: ...

    def service(
        self,
        declared: Any,
        *,
        version: str | None = None,
        group: str | None = None,
        timeout_ms: float | None = UNSET,
        attachments: Mapping[str, str] | None = None,
        generic: bool = False,
    ) -> Any:
        """See ``Client.service``; the methods wait for their results. For type checkers declare a
        ``Protocol`` with plain methods."""

        async def make() -> Any:
            return self._core.client.make(
                declared,
                self._expose,
                version=version,
                group=group,
                timeout_ms=timeout_ms,
                attachments=attachments,
                generic=generic,
            )

        return self._run(make())

    def ready(
        self, service: object, *, timeout_ms: int = TIMEOUT_MS, providers_min: int = 1
    ) -> None:
        """See ``Client.ready``."""
        self._run(self._core.client.ready(self._pool_of(service), providers_min, timeout_ms))

    def echo(self, service: object, value: Any = "ok") -> Any:
        """See ``Client.echo``."""
        return self._wait(echo_of(self._pool_of(service)), (value,), {})

    def statistics(self, service: object) -> PoolStatistics:
        """See ``Client.statistics``."""
        return self._pool_of(service).statistics()

    def services(self) -> dict[str, list[Registration]]:
        """See ``Client.services``."""
        return self._run(self._core.client.services())

    def methods(
        self, service: object, *, timeout_ms: float | None = TIMEOUT_MS
    ) -> tuple[Method, ...]:
        """See ``Client.methods``."""
        pool = self._pool_of(service)
        return self._run(self._core.client.methods(pool, timeout_ms))


class _LateHub(Hub):
    """A hub that opens its registry on the loop's own thread, where it belongs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: str,
        settings: Settings,
        create_future: Callable[[], Any],
    ) -> None:
        self._open = (loop, source, settings, create_future)
        self.closed = False

    async def start(self, timeout_ms: int) -> None:
        super().__init__(*self._open)

    async def close(self, *, drain_ms: int) -> None:
        if hasattr(self, "_pools"):
            await super().close(drain_ms=drain_ms)


def connect_sync(
    source: str | Address,
    *,
    timeout_ms: int | None = TIMEOUT_MS,
    policy: str = "demand",
    on_full: Literal["shed", "wait", "fail"] = "shed",
    calls_max: int = Limits.calls_max,
    bytes_max: int = Limits.bytes_max,
    waiting_max: int = Limits.waiting_max,
    waiting_bytes_max: int = Limits.waiting_bytes_max,
    buffers_bytes_max: int = Limits.buffers_bytes_max,
    body_bytes_max: int = BODY_BYTES_MAX,
    connections: int = 1,
    heartbeat_ms: int = Limits.heartbeat_ms,
) -> SyncClient:
    """A client for blocking calls from any thread; see ``Client`` for ``source``, the options and
    the errors."""
    return SyncClient(
        source,
        timeout_ms=timeout_ms,
        policy=policy,
        on_full=on_full,
        calls_max=calls_max,
        bytes_max=bytes_max,
        waiting_max=waiting_max,
        waiting_bytes_max=waiting_bytes_max,
        buffers_bytes_max=buffers_bytes_max,
        body_bytes_max=body_bytes_max,
        connections=connections,
        heartbeat_ms=heartbeat_ms,
    )
