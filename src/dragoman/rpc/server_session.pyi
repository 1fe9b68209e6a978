import asyncio

from dragoman.budget import Budget
from dragoman.flow.credits import CreditPool
from dragoman.flow.shares import Holder
from dragoman.rpc.session import Session

class Handler:
    """A taker of requests. ``closing``: it takes no new sessions."""

    closing: bool

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
        sessions_max: int = 0,
        budget: Budget | None = None,
    ) -> None: ...
    def goodbye(self) -> None:
        """Tell the caller that this server drains."""
