import asyncio

from dragoman.errors import DragomanError
from dragoman.rpc.arrival import Arriving

class Session(Arriving, asyncio.BufferedProtocol):
    """Either end: gathering, reading, heartbeat, goodbye."""

    loop: asyncio.AbstractEventLoop
    peer: str
    ready: bool
    closed: bool
    paused: bool
    goodbye_sent: bool
    goodbye_received: bool
    failure: DragomanError | None
    goodbye_reason: str | None
    peer_features: int
    peer_identity: bytes | None
    bytes_in: int
    bytes_out: int
    writes: int
    frames_dropped: int
    def close(self) -> None:
        """Close now; what is gathered still leaves, what is in flight is lost."""
