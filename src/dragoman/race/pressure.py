"""Running a load generator once, from its start to its result.

Called by ``level`` and by ``benchmarks``. The invariant: the load has ended, by itself or stopped,
when ``press`` returns or raises, and a result is only returned if every other process still runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dragoman.harness.cpu import CpuTime
from dragoman.harness.interruption import Interruption
from dragoman.harness.processes import ProcessError, Processes
from dragoman.race.load_drivers import LoadDriver, LoadError, LoadResult, Target

log = logging.getLogger(__name__)
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Pressure:
    """Which load, on what, how hard, and how long it may take."""

    driver: LoadDriver
    target: Target
    connections: int
    duration_s: float
    request_timeout_s: float = 5.0
    grace_s: float = 30.0


def press(
    pressure: Pressure,
    name: str,
    processes: Processes,
    interruption: Interruption,
    watch: Callable[[float], None] | None = None,
) -> tuple[LoadResult, CpuTime]:
    """Run the load: its result and its own CPU time.

    ``watch`` is called about every 20 ms with the seconds since the start. Raises LoadError if the
    load fails, ProcessError if another process ends meanwhile.
    """
    command = pressure.driver.command(
        pressure.target, pressure.connections, pressure.duration_s, pressure.request_timeout_s
    )
    child = processes.start(name, command, role="load", separate_stdout=True)
    allowed_s = pressure.duration_s + pressure.grace_s
    try:
        while child.poll() is None:
            elapsed_s = time.monotonic() - child.started_s
            if elapsed_s > allowed_s:
                raise LoadError(
                    f"{name}: not done {pressure.grace_s:g} s after its "
                    f"{pressure.duration_s:g} s: {child.described()}"
                )
            if watch is not None:
                watch(elapsed_s)
            interruption.sleep(POLL_S)
        if child.process.returncode != 0:
            raise LoadError(f"{name}: {child.described()}")
    finally:
        processes.stop(child)
    try:
        processes.check_alive()
    except ProcessError as error:
        raise ProcessError(f"during {name}: {error}") from error
    output = child.stdout_path.read_text(errors="replace")
    log.info("%s: return code 0, output:\n%s", name, output.strip())
    try:
        result = pressure.driver.result(output)
    except LoadError as error:
        raise LoadError(f"{name}: {error}; {child.described()}") from error
    return result, result.cpu or child.usage
