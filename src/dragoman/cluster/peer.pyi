import asyncio

from dragoman.cluster.dialing import Dialer

class Peers:
    """The peers of the services on one loop that are to share them (``Options.peers``).

    ``identity`` is who they are to servers, where their options do not say it.
    """

    loop: asyncio.AbstractEventLoop
    identity: bytes
    dialer: Dialer
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def __len__(self) -> int:
        """How many addresses are used."""

def peers_of(loop: asyncio.AbstractEventLoop) -> Peers:
    """The peers that everything on ``loop`` shares which has none of its own."""

STATES: tuple[str, ...]
GOODBYE: str

def protocol_of(registration: object) -> str:
    """What is spoken to a server; ``mesh`` unless it is said."""
