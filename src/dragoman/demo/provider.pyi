import asyncio
from typing import NamedTuple

INTERFACE: str
NOW: int
SERIALIZATIONS: dict[str, int]
FAULTS: tuple[str, ...]

class ProviderStatistics(NamedTuple):
    """Counts since the start, and how long the delay really was, in milliseconds.

    ``rejected`` calls found the pool full; ``refused`` ones were malformed or unknown; ``late``
    ones waited over 0.5 ms longer than they should.
    """

    connections: int
    requests: int
    accepted: int
    rejected: int
    refused: int
    replies: int
    heartbeats: int
    in_flight: int
    in_flight_max: int
    delay_ms_mean: float
    delay_ms_min: float
    delay_ms_p50: float
    delay_ms_p99: float
    delay_ms_max: float
    late: int

class DemoProvider:
    """One provider: its service, pool, faults and counts, shared by its connections."""

    limit: int
    draining: bool
    in_flight: int
    in_flight_max: int

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        delay_ns: int = 50_000_000,
        limit: int = 200,
        fault: str = "none",
        fault_after: int = 0,
        fault_until: int = 0,
        serialization: str = "fastjson",
    ) -> None: ...
    @property
    def open_connections(self) -> int:
        """How many connections there are now."""

    def connection(self) -> asyncio.Protocol:
        """A protocol for one more connection: a protocol factory for ``create_server``."""

    def announce_stop(self) -> None:
        """Tell every connection that this provider is about to stop (the event ``R``)."""

    def close(self) -> None:
        """Close every connection and forget what is under way."""

    def statistics(self) -> ProviderStatistics:
        """Counts so far."""
