"""``Session``: which process serves a store, and asking it again when a connection breaks.

The base of ``client.ServedStore``. The invariants: what is asked names the process that it is meant
for, and ends within its time; every process that answers serves the same store.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from dragoman.broker import messages as wire
from dragoman.broker.owned import CLOSED, Owned
from dragoman.errors import (
    ConnectError,
    DeadlineError,
    DragomanError,
    LinkError,
    OverloadError,
    RemoteError,
    UsageError,
)

T = TypeVar("T")
AGAIN_S = 0.05


class Caller(Protocol):
    """An ``rpc.Client`` or a ``cluster.Pool``."""

    def call(
        self, method: str, body: bytes = b"", *, timeout_ms: float | None = ...
    ) -> asyncio.Future[bytes]:
        """Call a method of the server."""
        ...

    async def close(self, *, drain_ms: int = 5000) -> None:
        """Close the connection."""
        ...


class Session(Owned):
    """The connection to a store that is served elsewhere; derived classes say what to ask it."""

    def __init__(self, caller: Caller, where: str, timeout_ms: float) -> None:
        super().__init__()
        self._caller = caller
        self.where = where
        self._timeout_ms = timeout_ms
        self._producer = os.urandom(16)
        self._server: bytes | None = None
        self._store: bytes | None = None
        self._opening: asyncio.Task[bytes] | None = None
        self._waits: set[asyncio.Future[bytes]] = set()

    async def open(self) -> None:
        """Used by ``broker.open_async``: learn who answers."""
        await self._ready(self._timeout_ms)

    async def _ready(self, timeout_ms: float) -> bytes:
        if self._server is not None:
            return self._server
        if self._opening is None:
            self._opening = self._loop.create_task(self._open(timeout_ms))
            self._opening.add_done_callback(self._answered)
        return await asyncio.shield(self._opening)

    def _answered(self, task: asyncio.Task[bytes]) -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is None:
            self._server = task.result()

    async def _open(self, timeout_ms: float) -> bytes:
        body = wire.encode(wire.Open(wire.VERSION, self._producer))
        opened = reply_of(
            wire.OPENED, await self._caller.call("queue.open", body, timeout_ms=timeout_ms)
        )
        if self._store is not None and opened.store != self._store:
            raise UsageError(
                f"{self.where}: another store is served there than before, or several are"
                " registered under one name"
            )
        self._store = opened.store
        return opened.process

    def _forget(self, process: bytes) -> None:
        if self._server == process:
            self._server = None

    async def _ask(
        self,
        method: str,
        make: Callable[[bytes], wire.Asking],
        decoder: msgspec.msgpack.Decoder[T],
        timeout_ms: float | None = None,
    ) -> T:
        """The server's reply to what may be asked again."""
        self._check_open()
        until_s = self._loop.time() + (timeout_ms or self._timeout_ms) / 1000
        while True:
            left_ms = max(1.0, (until_s - self._loop.time()) * 1000)
            try:
                process = self._server or await self._ready(left_ms)
                body = wire.encode(make(process))
                called = self._caller.call(method, body, timeout_ms=left_ms)
                if method in ("queue.wait", "queue.take"):
                    self._waits.add(called)
                    called.add_done_callback(self._waits.discard)
                return reply_of(decoder, await called)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and (task is None or not task.cancelling()):
                    raise UsageError(CLOSED) from None
                raise
            except (LinkError, OverloadError) as error:
                if self._closed:
                    raise UsageError(CLOSED) from None
                if self._loop.time() + AGAIN_S >= until_s:
                    raise
                last: DragomanError = error
            except RemoteError as error:
                if error.code != wire.OTHER_PROCESS:
                    raise wire.from_wire(error) from None
                self._forget(process)
                if self._loop.time() + AGAIN_S >= until_s:
                    raise ConnectError(
                        f"{self.where}: one process after the other answers; are several stores"
                        " registered under one name?"
                    ) from None
                continue
            except DeadlineError as error:
                raise DeadlineError(
                    f"{self.where}: no answer within {timeout_ms or self._timeout_ms:g} ms",
                    endpoint=error.endpoint,
                    retry_safe=True,
                ) from None
            if not isinstance(last, LinkError) or last.retry_safe:
                await asyncio.sleep(AGAIN_S)


def reply_of(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """The reply in ``body``; raises DragomanError if it is none of the method's."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError:
        raise DragomanError("the server's reply is none of this method's") from None
