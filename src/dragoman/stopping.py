"""SIGTERM and SIGINT as a call on the event loop, for programs that end in order.

Used by everything that serves until it is told to stop. The invariant: outside the block the
process handles these signals as it did before, however the block ended.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def told_to_stop(callback: Callable[[], object]) -> Iterator[None]:
    """In the block both signals call ``callback`` on the running loop, which must be that of the
    main thread; RuntimeError elsewhere."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            loop.add_signal_handler(number, callback)
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)
