import asyncio

from dragoman.agent.access import Access
from dragoman.agent.contract import Published
from dragoman.agent.ingress.limits import Limits
from dragoman.cluster.directory import Directory
from dragoman.observe.histogram import Histogram

class Ingress:
    """The shared state of one loop's connections. ``directory`` tells which services there are,
    ``published``, unless it is None, the types of their methods (see ``contract.json_call``),
    ``access`` who may ask, and how."""

    connections: set[asyncio.Protocol]
    draining: bool
    accepted: int
    refused_connections: int
    requests: int
    succeeded: int
    abandoned: int
    errors: dict[str, int]
    latency: Histogram
    in_progress: int
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: Directory,
        limits: Limits,
        published: Published | None = None,
        access: Access = ...,
    ) -> None: ...
    def drain(self) -> None:
        """From now on the last response of each connection says ``connection: close``."""
    def close_silent(self, for_ms: int) -> None:
        """While draining: let go of connections that are idle and have been silent for so long."""
    def abort(self) -> None:
        """Close everything now."""
    def shed(self, proportion: float) -> None:
        """From now on refuse this proportion of requests: the process is short of memory."""
