"""What ``statistics``, ``verify`` and ``repair`` report.

Plain data: whoever prints it is not of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Statistics:
    """What a store has done since it was opened, and what it holds. Sizes in bytes."""

    queues: int
    messages_put: int
    bytes_put: int
    block_bytes: int
    blocks_written: int
    messages_in_blocks: int
    blocks_waiting: int
    blocks_read: int
    bytes_read: int
    cache_hits: int
    evicted: int
    meta_rewrites: int
    compactions: int
    compacted_bytes: int
    segments: int
    log_bytes: int
    live_bytes: int
    log_written: int
    journal_written: int
    meta_bytes: int
    syncs: int
    tail_bytes: int
    index_bytes: int
    open_files: int
    direct: bool
    poisoned: bool
    # How far in the future the oldest segment is stamped; so long retention by age waits.
    stamped_ahead_s: int


@dataclass(frozen=True)
class Damage:
    """A place where the disk does not hold what was written.

    ``file`` is the name in the store's directory and ``offset`` the place in it. ``queue`` is None
    if unknown; ``first`` and ``messages`` say which messages are concerned (0: none, or unknown).
    """

    file: str
    offset: int
    queue: bytes | None
    first: int
    messages: int
    reason: str


@dataclass(frozen=True)
class RepairReport:
    """What ``repair`` found and did.

    ``lost``: everything that cannot be had any more. ``done``: what was changed, a line each.
    ``aside``: the directory that the damaged files were moved to, None when there were none.
    """

    path: Path
    lost: list[Damage] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    aside: Path | None = None
