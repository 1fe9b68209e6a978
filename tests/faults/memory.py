"""A program within a memory cgroup, where root may make one; its peak by VmHWM elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.faults.chain import Program

_ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 20


def _own() -> tuple[Path, str, str] | None:
    """This process's memory cgroup, and the files of limit and members: of version 1 or 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes", "cgroup.procs"
        if number == "0" and (_ROOT / "cgroup.controllers").exists():
            return _ROOT / path.lstrip("/"), "memory.max", "cgroup.procs"
    return None


@contextlib.contextmanager
def within(name: str, bytes_max: int, *programs: Program) -> Iterator[bool]:
    """Put running programs into a cgroup of so many bytes; false where that is not possible."""
    made = _own()
    group = made[0] / f"dragoman-{os.getpid()}-{name}" if made else None
    try:
        assert made is not None and group is not None
        group.mkdir()
        (group / made[1]).write_text(str(bytes_max))
        for program in programs:
            (group / made[2]).write_text(str(program.pid))
    except (OSError, AssertionError):
        if group is not None:
            with contextlib.suppress(OSError):
                group.rmdir()
        yield False
        return
    try:
        yield True
    finally:
        for program in programs:
            program.kill()
        with contextlib.suppress(OSError):
            group.rmdir()


def peak_bytes(program: Program) -> int:
    """The most memory that the program has had (VmHWM)."""
    text = Path(f"/proc/{program.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10
