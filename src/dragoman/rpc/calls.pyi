from dragoman.budget import Budget
from dragoman.rpc.client_base import ClientBase

class Account(ClientBase):
    """The calls that one client has outstanding."""

    budget: Budget
    endpoint: str
    calls: int
    bytes: int
    waiting: int
    waiting_bytes: int
    wanted: int
    sent: int
    refused: int
