"""The CPU time of processes and of their descendants, from ``/proc``.

Called at the borders of a level and by ``benchmarks``. The invariant: a process's figure holds its
threads, its live descendants (workers) and those descendants that it already reaped, so the
difference of two readings is what the whole tree spent between them, even if a worker was
restarted.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds spent in user mode and in the kernel."""

    user_s: float = 0.0
    system_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.user_s + self.system_s

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user_s + other.user_s, self.system_s + other.system_s)

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user_s - other.user_s, self.system_s - other.system_s)


def process_tree(pid: int) -> list[int]:
    """The process and its live descendants; empty if it does not exist."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        try:
            children = _of_threads(each, "children")
        except OSError:
            continue
        waiting.extend(int(child) for text in children for child in text.split())
        found.append(each)
    return found


def _of_threads(pid: int, name: str) -> list[str]:
    """That file of each thread of a process, but of those that end meanwhile. Raises OSError if
    there is no such process."""
    texts = []
    for task in list(Path(f"/proc/{pid}/task").iterdir()):
        with contextlib.suppress(OSError):
            texts.append((task / name).read_text())
    return texts


def of_tree(pid: int) -> CpuTime:
    """CPU time of the process, its descendants and what they reaped; zero if it does not exist."""
    total = CpuTime()
    for each in process_tree(pid):
        fields = _stat_fields(each)
        if fields:
            # Fields 14 to 17 of proc(5): utime, stime, cutime, cstime.
            user, system, reaped_user, reaped_system = map(int, fields[11:15])
            total += CpuTime((user + reaped_user) * TICK_S, (system + reaped_system) * TICK_S)
    return total


def wake_ups(pid: int) -> int:
    """How often the process's threads have gone to sleep so far, without its descendants."""
    total = 0
    for text in _of_threads(pid, "status"):
        for line in text.splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def run_s(pid: int) -> float:
    """Seconds on a processor of the process's threads so far, to the nanosecond, without its
    descendants."""
    return sum(int(text.split()[0]) for text in _of_threads(pid, "schedstat")) / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of one process, without its descendants; 0 if it does not exist."""
    fields = _stat_fields(pid)
    return int(fields[21]) * PAGE_BYTES if fields else 0


def _stat_fields(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be reaped does not."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] != "Z"


def session_of(pid: int) -> int:
    """The session that a process belongs to; 0 if it has none that can be seen from here.

    That is one that does not exist, and one whose session was begun outside of a container.
    """
    fields = _stat_fields(pid)
    return int(fields[3]) if fields and fields[0] != "Z" else 0
