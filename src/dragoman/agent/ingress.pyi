import asyncio

from dragoman.agent.access import Access
from dragoman.agent.contract import Published
from dragoman.cluster.directory import Directory
from dragoman.observe.histogram import Histogram

class Limits:
    """Bounds of the HTTP side; every length, count and time a client can choose.

    ``request_timeout_ms`` is for a head, ``body_timeout_ms`` and ``body_rate_min`` (bytes a
    second) for the body after it.
    """

    def __init__(
        self,
        *,
        head_bytes_max: int = 16384,
        target_bytes_max: int = 8192,
        fields_max: int = 100,
        body_bytes_max: int = 4194304,
        connections_max: int = 20000,
        timeout_ms: int = 5000,
        request_timeout_ms: int = 10000,
        body_timeout_ms: int = 60000,
        body_rate_min: int = 1024,
        idle_timeout_ms: int = 60000,
    ) -> None: ...

class IngressConnection(asyncio.Protocol):
    """One HTTP connection."""

class Ingress:
    """What all connections of one loop share. ``directory`` tells which services there are,
    ``published``, unless it is None, the types of their methods (see ``contract.json_call``),
    ``access`` who may ask, and how."""

    connections: set[IngressConnection]
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
    def connection(self) -> IngressConnection:
        """A protocol for a new connection: the factory for ``loop.create_server``."""
    def drain(self) -> None:
        """From now on the last response of each connection says ``connection: close``."""
    def close_silent(self, for_ms: int) -> None:
        """While draining: let go of connections that are idle and have been silent for so long."""
    def abort(self) -> None:
        """Close everything now."""
    def shed(self, proportion: float) -> None:
        """From now on refuse this proportion of requests: the process is short of memory."""
    def tell_refusal(self, name: str, why: str) -> None:
        """Log that a request was refused here, at a bounded rate."""
    def count_error(self, name: str) -> None:
        """Count a response by its error's name."""
