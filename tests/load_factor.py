"""How long waiting may take on a machine that is slower than another, or busy with other work.

What must be soon is held to so many times its nominal time, and the factor is measured when it is
asked for, after the waiting: how long a fixed piece of work takes in this process by the clock, and
how many processes want each processor. A test that fails because a neighbour compiles, or since the
machine is older, says nothing about the product. Processor time has ``tests/calibration.py``.
"""

from __future__ import annotations

import os
import time

from tests.calibration import alone, piece_s

# What the piece of work took where the nominal times come from: a fast machine, so that the factor
# is hardly ever less than it should be.
NOMINAL_S = 0.0035


def load_factor() -> float:
    """A factor for bounds of waiting: at least 1, twice as much where work takes twice as long, and
    n times that where n processes want each processor."""
    try:
        with open("/proc/loadavg") as file:
            fields = file.read().split()
        load, running = float(fields[0]), int(fields[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        load, running = os.getloadavg()[0], 0
    wanted = max(1.0, max(load, running) / (os.cpu_count() or 1))
    with alone():
        took_s = min(piece_s() for _ in range(3))
        start_s = time.monotonic()
        piece_s()
        stretched = (time.monotonic() - start_s) / max(took_s, 1e-6)
    return max(1.0, took_s / NOMINAL_S) * max(wanted, stretched)
