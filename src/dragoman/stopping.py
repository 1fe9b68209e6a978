"""Signals of programs that end in order: SIGTERM and SIGINT as a call on the event loop, SIGHUP as
a line in the log.

Used by everything that serves until it is told to stop. SIGHUP, which unhandled would end a process
with all that is in flight, comes from whoever expects a reload, and with the end of a terminal.
The invariant: outside the block the process handles these signals as it did before, however the
block ended.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dragoman import hangup

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A warning: programs that set up no logging show it too.
log = logging.getLogger("dragoman.signals")


@contextmanager
def told_to_stop(callback: Callable[[], object]) -> Iterator[None]:
    """In the block SIGTERM and SIGINT call ``callback`` on the running loop, which must be that of
    the main thread (RuntimeError elsewhere), and SIGHUP is ignored unless the program has a
    handler of its own for it."""
    loop = asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[], object]] = dict.fromkeys(SIGNALS, callback)
    if hangup.held or signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        handlers[signal.SIGHUP] = say_ignored
    before: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)


def say_ignored() -> None:
    """The handling of a SIGHUP."""
    log.warning("SIGHUP ignored: nothing is read again while it runs; SIGTERM stops in order")
