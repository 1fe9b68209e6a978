"""How a service treats its calls and its endpoints.

The agents, ``cluster.opening`` and the SDK make one from their own settings; ``Service`` reads it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from dragoman.cluster.member import LinkFactory
from dragoman.rpc.limits import Limits

if TYPE_CHECKING:
    from dragoman.cluster.peer import Peers

NO_IDENTITY: Final = b"\0" * 16
NO_BOUND: Final = 0x7FFFFFFFFFFFFFFF


class Options:
    """The configuration of a service.

    - ``policy``; ``seed`` makes its random choices, and those of backoff, repeatable.
    - ``on_full``: what becomes of a request that finds no room. "shed": it waits while some
      endpoint may take it, but from half of ``queue_max`` on a growing proportion is refused;
      "wait": it waits, also for an endpoint to appear, up to ``queue_max`` requests with
      ``waiting_bytes_max`` bytes; "fail": it is refused at once.
    - ``calls_max``, ``bytes_max``: requests under way at once, and their bytes.
    - ``body_bytes_max``: the longest reply taken; ``heartbeat_ms``, ``tls``, ``server_hostname``:
      see ``rpc.connect``; ``identity``: who this is to servers, 16 bytes.
    - ``pings``: an endpoint is silent if it does not even answer pings, however long its replies
      take; else if no reply comes.
    - ``links``: by a registration's protocol, what makes the ``ServerLink`` to such a server, if it
      is no server of mesh sessions that can be connected to; it raises UsageError for one that
      cannot be used. Servers of other protocols are not used either, and ``status`` says so.
    - ``peers``: the servers that it shares with other services, each with one session; None: with
      those alone that have the same options object.
    """

    def __init__(
        self,
        policy: str = "demand",
        queue_max: int = 1024,
        body_bytes_max: int = 16777216,
        seed: int | None = None,
        *,
        on_full: Literal["shed", "wait", "fail"] = "shed",
        calls_max: int = 0x7FFFFFFF,
        bytes_max: int = NO_BOUND,
        waiting_bytes_max: int = NO_BOUND,
        heartbeat_ms: int = 5000,
        identity: bytes = NO_IDENTITY,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        pings: bool = False,
        links: Mapping[str, LinkFactory] | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.policy = policy
        self.queue_max = queue_max
        self.body_bytes_max = body_bytes_max
        self.seed = seed
        self.on_full = on_full
        self.calls_max = calls_max
        self.bytes_max = bytes_max
        self.waiting_bytes_max = waiting_bytes_max
        self.heartbeat_ms = heartbeat_ms
        self.identity = identity
        self.tls = tls
        self.server_hostname = server_hostname
        self.pings = pings
        self.links: dict[str, LinkFactory] = dict(links or {})
        self.peers = peers

    @classmethod
    def within(cls, limits: Limits, **others: Any) -> Options:
        """Those of a client with these limits; the others are as above."""
        return cls(
            queue_max=limits.waiting_max,
            body_bytes_max=limits.body_bytes_max,
            on_full=limits.on_full,
            calls_max=limits.calls_max,
            bytes_max=limits.bytes_max,
            waiting_bytes_max=limits.waiting_bytes_max,
            heartbeat_ms=limits.heartbeat_ms,
            **others,
        )

    @property
    def session_key(self) -> tuple[object, ...]:
        """The options that two services must have in common to share a session."""
        return (
            self.identity,
            self.body_bytes_max,
            self.heartbeat_ms,
            self.tls,
            self.server_hostname,
        )
