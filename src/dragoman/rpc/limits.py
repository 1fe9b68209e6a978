"""The limits of a client's calls: the options that ``rpc``, ``cluster`` and ``dubbo`` share.

The opening functions have them as named parameters, whose defaults stand here, and hand on one
``Limits``. What each of them means is told at ``rpc.connect``. The invariant: a ``Limits`` that
exists is within bounds; a UsageError names the option that is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dragoman.options import MS_MAX, whole

MIB: Final = 1 << 20
# What a frame's length can say, and a bytes object is likely to get.
BODY_BYTES_MOST: Final = (1 << 31) - 1
BYTES_MOST: Final = 1 << 50
# The least and the most that each may be; those of a server that have the same names, too.
BOUNDS: Final = {
    "timeout_ms": (1, MS_MAX),
    "calls_max": (1, 1 << 24),
    "bytes_max": (1, BYTES_MOST),
    "waiting_max": (0, 1 << 30),
    "waiting_bytes_max": (0, BYTES_MOST),
    "buffers_bytes_max": (1, BYTES_MOST),
    "body_bytes_max": (0, BODY_BYTES_MOST),
    "heartbeat_ms": (20, 3_600_000),
}


def held_bytes_max(buffers_bytes_max: int, body_bytes_max: int) -> int:
    """The bound of a budget that has room for two of the longest bodies in any case."""
    return max(buffers_bytes_max, 2 * body_bytes_max)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """See ``rpc.connect``. Which words ``on_full`` may be is for those who take it to check."""

    timeout_ms: int | None = None
    on_full: Literal["shed", "wait", "fail"] = "wait"
    calls_max: int = 100_000
    bytes_max: int = 256 * MIB
    waiting_max: int = 100_000
    waiting_bytes_max: int = 256 * MIB
    buffers_bytes_max: int = 256 * MIB
    body_bytes_max: int = 64 * MIB
    heartbeat_ms: int = 5000

    def __post_init__(self) -> None:
        for name, bounds in BOUNDS.items():
            value = getattr(self, name)
            if value is not None or name != "timeout_ms":
                whole(name, value, *bounds)

    @property
    def held_bytes_max(self) -> int:
        """What may be held for servers: two of the longest bodies have room in any case."""
        return held_bytes_max(self.buffers_bytes_max, self.body_bytes_max)
