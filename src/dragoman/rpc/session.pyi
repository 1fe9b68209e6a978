import asyncio
from typing import Any

from dragoman.errors import DragomanError
from dragoman.flow.credits import CreditPool, Holder
from dragoman.flow.waiting import Waiter
from dragoman.rpc.turn import Gathering

class Session(Gathering, asyncio.BufferedProtocol):
    """What both ends share: gathering, reading, heartbeat, goodbye."""

    loop: asyncio.AbstractEventLoop
    peer: str
    ready: bool
    closed: bool
    paused: bool
    goodbye_sent: bool
    goodbye_received: bool
    failure: DragomanError | None
    bytes_in: int
    bytes_out: int
    writes: int
    frames_dropped: int
    def close(self) -> None:
        """Close now; what is gathered still leaves, what is in flight is lost."""

class Call(Waiter):
    """One request."""

class SessionOwner:
    """Who is told of a client session's life."""

class ClientSession(Session):
    """The calling end. ``credits`` says how many requests may be submitted now."""

    credits: int
    inflight: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: SessionOwner,
        *,
        name: bytes = b"",
        body_bytes_max: int = 16777216,
        heartbeat_s: float = 5.0,
        first_id: int = 1,
    ) -> None: ...
    def statistics(self) -> dict[str, Any]:
        """A plain dict of this session's counters."""

class Handler:
    """What a server does with requests."""

class ServerSession(Session):
    """The answering end. ``sessions`` is a set that this session keeps itself in while it lives."""

    requests: int
    holder: Holder
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        pool: CreditPool,
        sessions: set[ServerSession],
        *,
        body_bytes_max: int = 16777216,
        heartbeat_s: float = 5.0,
    ) -> None: ...
    def goodbye(self) -> None:
        """Tell the caller that this server drains."""
