import asyncio

from dragoman.rpc.tick import Gathering

class PipeEnd(Gathering, asyncio.Transport):
    """One end of a connection within the process."""

    loop: asyncio.AbstractEventLoop

def join(
    loop: asyncio.AbstractEventLoop,
    server: asyncio.BaseProtocol,
    client: asyncio.BaseProtocol,
    *,
    server_name: str = "",
    client_name: str = "",
) -> tuple[PipeEnd, PipeEnd]:
    """Connect two protocols of one loop; their transports."""
