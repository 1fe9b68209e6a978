"""The connection of a provider double: frames in, whatever a test wants out.

``DubboProvider`` makes one for each peer, as its ``Owner``. The invariant: nothing is written while
the owner is silent, and all of it, in order, once it speaks.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from dragoman.errors import ProtocolError
from dragoman.wire.dubbo.frame import (
    DubboDecoder,
    DubboFrame,
    Status,
    encode_error_reply,
    encode_frame,
)


class Owner(Protocol):
    """What connections ask of their provider."""

    silent: bool
    heartbeats: int

    def add(self, connection: ProviderConnection) -> int:
        """A peer has connected; the connection's number."""

    def discard(self, connection: ProviderConnection) -> None:
        """The connection is gone."""

    def take(self, connection: ProviderConnection, frame: DubboFrame) -> None:
        """A request has come."""


class ProviderConnection(asyncio.Protocol):
    """One connection to a provider."""

    transport: asyncio.Transport

    def __init__(self, provider: Owner) -> None:
        self._provider = provider
        self._decoder = DubboDecoder()
        self._held: list[bytes] = []
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = transport  # type: ignore[assignment]
        self.number = self._provider.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._provider.discard(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._decoder.receive_data(data)
        try:
            frames = self._decoder.frames()
        except ProtocolError:
            # There is no way back into step.
            self.transport.abort()
            return
        for frame in frames:
            if frame.is_event:
                self._event(frame)
            elif frame.is_request:
                self._provider.take(self, frame)

    def _event(self, frame: DubboFrame) -> None:
        if frame.is_request and frame.two_way:
            self._provider.heartbeats += 1
            self.write(
                encode_frame(
                    frame.id,
                    frame.body,
                    event=True,
                    serialization=frame.serialization,
                    status=Status.OK,
                )
            )

    def write(self, data: bytes) -> None:
        """Write, unless the connection is gone; once the provider speaks, if it is silent."""
        self._held.append(data)
        self.flush()

    def flush(self) -> None:
        """Write what was held back."""
        if not self._provider.silent:
            held, self._held = self._held, []
            if not self.transport.is_closing():
                self.transport.write(b"".join(held))

    def refuse(self, frame: DubboFrame, status: int, message: str) -> None:
        """Answer a request with a status other than 20."""
        utf8 = message.encode("utf-8", "replace")
        self.write(encode_error_reply(frame.id, status, utf8, serialization=frame.serialization))
