import asyncio
from typing import Any

from dragoman.budget import Budget
from dragoman.flow.waiting import Waiter
from dragoman.rpc.session import Session

class Call(Waiter):
    """A call that waits for replies, to one request or to many."""

class SessionOwner:
    """The owner of client sessions, which is told of their lives."""

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
        identity: bytes = ...,
        body_bytes_max: int = 16777216,
        heartbeat_s: float = 5.0,
        first_id: int = 1,
        budget: Budget | None = None,
    ) -> None: ...
    def goodbye(self) -> None:
        """Tell the server that this client asks for nothing more."""

    def statistics(self) -> dict[str, Any]:
        """A plain dict of this session's counters."""
