"""Bounds of the HTTP side: every length, count and time that a client can choose."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``request_timeout_ms`` is for a head, ``body_timeout_ms`` and ``body_rate_min`` (bytes a
    second) for the body after it."""

    head_bytes_max: int = 16384
    target_bytes_max: int = 8192
    fields_max: int = 100
    body_bytes_max: int = 4194304
    connections_max: int = 20000
    timeout_ms: int = 5000
    request_timeout_ms: int = 10000
    body_timeout_ms: int = 60000
    body_rate_min: int = 1024
    idle_timeout_ms: int = 60000
