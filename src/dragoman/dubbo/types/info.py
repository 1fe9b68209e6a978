"""What there is to know of requests and replies beside arguments and values, as plain objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class RequestInfo:
    """The request at work; ``dubbo.current_request()`` gives it.

    ``attachments`` are the caller's, each with the type that it came with (text as a rule, but any
    value of Java's may stand there); what is put into ``reply_attachments`` goes back with the
    reply, if the caller's version of Dubbo takes it. ``timeout_ms`` is what is left of the caller's
    time, None if it did not say. ``one_way``: nobody waits for a reply.
    """

    interface: str
    method: str
    version: str
    group: str
    peer: str
    attachments: Mapping[str, Any]
    reply_attachments: dict[str, str]
    timeout_ms: int | None
    one_way: bool


@dataclass(frozen=True)
class Result(Generic[R]):
    """A reply: its value and its attachments."""

    value: R
    attachments: Mapping[str, str]


@dataclass(frozen=True)
class ServerStatistics:
    """A server's counters: what is there now, and totals."""

    clients: int  # connected now
    connections: int  # made in all
    in_progress: int  # calls at work now
    in_progress_max: int  # the most there have been
    limit: int
    requests: int  # taken in all, events excepted
    replies: int  # values and nulls
    exceptions: int  # calls that raised
    rejected: int  # beyond the limit: answered with status 100
    dropped: int  # one-way calls beyond the limit
    refused: int  # malformed, or for what is not served
    late: int  # not answered within the caller's time
    heartbeats: int
