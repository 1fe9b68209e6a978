"""Figures of clients, servers and requests, as frozen snapshots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClientStatistics:
    """A client's counters: totals since it was made, and what is outstanding now."""

    connected: bool
    connections: int  # that were made in all
    sent: int  # requests
    replies: int
    failures: int  # of requests that were sent or stood in line
    refused: int  # calls that failed before they were sent or queued
    calls: int  # requests sent and unanswered
    bytes: int  # their bodies
    waiting: int  # calls in line
    waiting_bytes: int
    credits: int  # further requests that the server takes now
    buffers_bytes: int  # held for the server now, of ``buffers_bytes_max``


@dataclass(frozen=True)
class ServerStatistics:
    """A server's counters: totals since it was made, and what is in progress now."""

    clients: int  # connected now
    connections: int  # that were made in all
    requests: int  # taken in all
    errors: int  # requests that failed here
    in_progress: int  # requests with a handler at work, or waiting for their turn
    bytes: int  # their bodies
    limit: int  # requests that are taken at once
    granted: int  # credits that clients hold
    buffers_bytes: int  # held for clients now, of ``buffers_bytes_max``


@dataclass(frozen=True)
class RequestInfo:
    """The request that a handler answers."""

    method: str
    peer: str  # the client's address
    timeout_ms: int | None  # what is left of the caller's time; None: no bound
    no_reply: bool  # whether nobody waits for a reply
    metadata: dict[str, str]  # what the caller sent beside the body
