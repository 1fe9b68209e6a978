import asyncio

from dragoman.budget import Budget
from dragoman.cluster.dialing import Dialer

class Peers:
    """The peers of the services on one loop that are to share them (``Options.peers``).

    ``identity`` is who they are to servers, where their options do not say it. What the servers
    make them hold counts in ``budget``, the process's unless it is given.
    """

    loop: asyncio.AbstractEventLoop
    identity: bytes
    dialer: Dialer
    budget: Budget
    def __init__(self, loop: asyncio.AbstractEventLoop, budget: Budget | None = None) -> None: ...
    def __len__(self) -> int:
        """How many addresses are used."""

def peers_of(loop: asyncio.AbstractEventLoop, bytes_max: int = 0) -> Peers:
    """The peers that everything on ``loop`` shares which has none of its own. What may be held for
    them is what the most generous of those who ask says (0: what the process may hold).
    """

STATES: tuple[str, ...]
GOODBYE: str
