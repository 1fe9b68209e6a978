"""The figures of a pool, as a frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointStatistics:
    """One server of a pool: totals since the pool connected to it, and what is there now."""

    address: str
    weight: float
    state: str  # connecting, ready, down or draining
    reason: str | None  # why it is not ready
    set_aside: bool  # failing or silent: only probes go there
    calls: int  # requests sent and unanswered
    credits: int  # further requests that it takes now
    sent: int
    replies: int
    failures: int  # of its own: lost connections, fair deadlines, refusals to serve
    latency_ms: float  # a moving mean of its replies


@dataclass(frozen=True)
class PoolStatistics:
    """A pool's counters: totals since it was made, and what is outstanding now."""

    requests: int  # asked for in all
    replies: int
    failures: int  # of requests that were sent, or had waited
    refused: int  # turned away at once
    retried: int  # sent once more, elsewhere
    expired: int  # whose time passed, under way or in line
    calls: int  # requests sent and unanswered
    bytes: int  # their bodies
    waiting: int  # in line
    waiting_bytes: int
    endpoints: tuple[EndpointStatistics, ...]
