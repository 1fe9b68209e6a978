"""Bounds of the process itself: memory and file descriptors.

A ``MemoryGuard`` watches the worker's resident memory and tells the request path how hard to shed:
nothing below 85 % of the bound, a growing proportion up to 95 %, everything beyond. File
descriptors are kept in reserve by bounding the number of connections. Used by both agents.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path

from dragoman.budget import process_budget

log = logging.getLogger("dragoman.agent")

SHED_FROM = 0.85
REFUSE_FROM = 0.95
CHECK_S = 0.1
# The part of the free memory that may be held for peers, and what there is in any case.
COUNTED = 0.6
BUFFERS_LEAST = 4 << 20
# From this size on what is freed goes back to the system (mallopt(3)).
MAPPED_BYTES = 256 << 10
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Descriptors for links, the registry, logs and the admin port.
RESERVED_DESCRIPTORS = 128

_CGROUP_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes_max(configured_mb: int, workers: int = 1) -> int:
    """A worker's bound in bytes: as configured, else its share of the container's, 0 for none."""
    if configured_mb:
        return configured_mb << 20
    for path in _CGROUP_FILES:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < 1 << 50:
            return int(text) // workers
    return 0


def hold_within(bytes_max: int) -> None:
    """Bound what this process holds for its peers, so that it stays within ``bytes_max`` in all.

    Of what is left above what it needs itself a part is kept for what nobody counts: the copy under
    way, objects made of JSON, the allocator's gaps. Memory of large bodies goes back to the system
    at once. Does nothing without a bound.
    """
    if not bytes_max:
        return
    left = REFUSE_FROM * bytes_max - _resident_bytes()
    process_budget().limit(max(BUFFERS_LEAST, int(COUNTED * left)))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, MAPPED_BYTES)


def connections_allowed(configured: int) -> int:
    """The number of connections that the process's file descriptors allow, at most ``configured``.

    Raises the soft limit of descriptors to the hard one first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    if soft == resource.RLIM_INFINITY:
        return configured
    allowed = max(1, soft - RESERVED_DESCRIPTORS) if soft > 2 * RESERVED_DESCRIPTORS else soft // 2
    if allowed < configured:
        log.info("at most %d connections: %d file descriptors are allowed", allowed, soft)
    return min(configured, allowed)


class MemoryGuard:
    """Calls ``on_pressure(p)`` on its loop when the proportion to shed, 0.0 to 1.0, changes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        bytes_max: int,
        on_pressure: Callable[[float], None],
        resident_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._loop = loop
        self._bytes_max = bytes_max
        self._on_pressure = on_pressure
        self._resident_bytes = resident_bytes or _resident_bytes
        self._handle: asyncio.TimerHandle | None = None
        self.pressure = 0.0

    def start(self) -> None:
        """Begin to watch; does nothing without a bound."""
        if self._bytes_max:
            self._check()

    def stop(self) -> None:
        """Stop watching."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        pressure = self._pressure()
        if pressure:
            # Give back what is only cached before refusing work for its sake.
            _trim()
            pressure = self._pressure()
        if pressure != self.pressure:
            if not self.pressure or not pressure:
                log.warning(
                    "memory: %s",
                    f"shedding near the bound of {self._bytes_max >> 20} MiB"
                    if pressure
                    else "below the bound again",
                )
            self.pressure = pressure
            self._on_pressure(pressure)
        self._handle = self._loop.call_later(CHECK_S, self._check)

    def _pressure(self) -> float:
        used = self._resident_bytes() / self._bytes_max
        if used < SHED_FROM:
            return 0.0
        if used >= REFUSE_FROM:
            return 1.0
        return max(0.05, (used - SHED_FROM) / (REFUSE_FROM - SHED_FROM))


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _trim() -> None:
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
