"""How long something may take on a machine that is busy with other work as well.

What must be soon is held to its time where the machine is idle, and to a multiple elsewhere: a test
that fails because a neighbour compiles says nothing about the product.
"""

from __future__ import annotations

import os


def pace() -> float:
    """A factor for bounds of time: 1 on an idle machine, n where n processes want each
    processor."""
    try:
        with open("/proc/loadavg") as file:
            fields = file.read().split()
        load, running = float(fields[0]), int(fields[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        load, running = os.getloadavg()[0], 0
    return max(1.0, max(load, running) / (os.cpu_count() or 1))
