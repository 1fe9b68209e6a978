"""The machine and the versions of programs, for results: figures mean nothing without them."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from dragoman.errors import DragomanError
from dragoman.harness.etcd import find_etcd


def machine() -> dict[str, str | int | float]:
    """The processor, the memory and the system."""
    return {
        "cpu": _first_field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def versions(load: str) -> dict[str, str]:
    """dragoman's version and those of what it runs on; ``load`` is the driver's name."""
    found = {"python": platform.python_version()}
    for name in ("dragoman", "uvloop"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    try:
        found["etcd"] = _first_line([str(find_etcd()), "--version"])
    except DragomanError:
        found["etcd"] = "none"
    if load == "wrk":
        found["wrk"] = _first_line(["wrk", "--version"])
    return found


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


def _first_field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
