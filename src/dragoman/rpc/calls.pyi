import asyncio

from dragoman.budget import Budget
from dragoman.rpc.client_session import SessionOwner

class Account(SessionOwner):
    """The calls that one client has outstanding."""

    loop: asyncio.AbstractEventLoop
    budget: Budget
    endpoint: str
    calls: int
    bytes: int
    waiting: int
    waiting_bytes: int
    wanted: int
    sent: int
    replies: int
    failures: int
    refused: int
