"""Messages between the supervisor and a worker, over a socket pair.

Each message is a length (4 bytes, big-endian, at most MESSAGE_BYTES_MAX) and that many bytes of
JSON, one of the types below by its ``type`` field. The supervisor asks, a worker answers and
reports its state. The invariant: the end of the channel means that the other process is gone.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import msgspec

from dragoman.errors import LimitError, LinkLostError, ProtocolError
from dragoman.observe.metrics import Snapshot

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """Supervisor to worker, first and once: what to run, and the descriptors of the sockets to
    listen on, if they are not the worker's to open."""

    entry: str
    config_type: str
    config: msgspec.Raw
    index: int
    count: int
    program: str
    sockets: list[int] = []
    instance: str


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Supervisor to worker: report on yourself."""

    id: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Worker to supervisor: the report that ``Ask`` of the same id asked for."""

    id: int
    metrics: Snapshot
    status: dict[str, Any]


class State(msgspec.Struct, frozen=True, tag="state"):
    """Worker to supervisor: None when ready for requests, else the reason why not."""

    not_ready: str | None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Worker to supervisor: it ends with this error; ``usage``: the configuration is at fault."""

    message: str
    usage: bool


Message = Start | Ask | Answer | State | Failed

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()


class Channel:
    """One end. Not for several readers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Channel:
        """The channel over ``sock``, which it owns from now on."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def send(self, message: Message) -> None:
        """Queue a message; one to a process that is gone is dropped."""
        data = _encoder.encode(message)
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(4, "big") + data)

    async def receive(self) -> Message:
        """The next message. Raises LinkLostError at the end, ProtocolError for anything else."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if size > MESSAGE_BYTES_MAX:
                raise LimitError(f"message of {size} bytes, expected at most {MESSAGE_BYTES_MAX}")
            return _decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            raise LinkLostError("the other process is gone") from None
        except msgspec.MsgspecError:
            raise ProtocolError("message between processes: expected one of ours") from None

    async def flush(self) -> None:
        """Return once what was sent has left this process, or cannot."""
        try:
            await self._writer.drain()
        except OSError:
            return

    async def close(self) -> None:
        """Close this end after what was sent has left."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return
