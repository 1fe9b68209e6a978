"""How long something takes, in pieces of work that this process does now.

No test holds a clock to seconds: a bound that is right on one machine is wrong on a slower one, or
on the same one beside a busy neighbour. A bound of processor time is therefore a number of
*pieces*: a fixed piece of work, some milliseconds of interpreted Python that makes objects as the
readers do, is measured in the same thread just before and just after. Bounds are far above what is
usual and far below what a fault costs (quadratic instead of linear time), and a measurement that is
above its bound is taken again, since what interrupts a processor does not do so each time.

What the rest of the process holds does not count: while a measurement runs, the objects that were
there before are kept from the garbage collector.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator


def piece_s() -> float:
    """Processor seconds that the fixed piece of work takes this thread, now."""
    start_s = time.thread_time()
    made = {i: [i, (str(i), {"n": i})] for i in range(10_000)}
    assert sum(hash(value[1][0]) & 1 for value in made.values()) > 0
    return time.thread_time() - start_s


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Without what the garbage collector would do with objects that are there already."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def pieces_of(work: Callable[[], object], bound: float, tries: int = 3) -> float:
    """How many pieces of work ``work()`` is: the least of up to ``tries`` measurements, of which
    only the first is made when it is below ``bound`` already."""
    least = float("inf")
    with alone():
        for _ in range(tries):
            before_s = piece_s()
            start_s = time.thread_time()
            work()
            spent_s = time.thread_time() - start_s
            least = min(least, spent_s / max(before_s, piece_s()))
            if least < bound:
                break
    return least


def too_many_pieces(spent_s: float, bound: float) -> bool:
    """Whether ``spent_s`` of this thread's processor time, just measured, is more than so many
    pieces. For what is measured too often to measure a piece beside each."""
    # The piece takes longer than this on any machine: nothing is calibrated without need.
    if spent_s < bound * 0.0005:
        return False
    with alone():
        return spent_s > bound * max(piece_s() for _ in range(3))
