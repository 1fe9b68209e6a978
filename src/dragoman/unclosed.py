"""ResourceWarning for what nobody closes, as asyncio gives it for transports.

What lives on a loop is held by its connections, so it does not go away when its user drops it:
``watch`` has it looked at when the loop ends (``asyncio.run`` and its like then end what
asynchronous generators there are, once all tasks have ended). What goes away by itself, as a
synchronous client does, calls ``warn`` as it goes (``__del__``).

Invariant: nothing is said of what is closed, of what another process opened, or while the
interpreter ends; of each thing once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator
from typing import Protocol


class Closable(Protocol):
    """Anything that can be forgotten."""

    @property
    def closed(self) -> bool:
        """Whether it has been closed, or has ended by itself."""


class _Loop:
    """All that is open on one loop; ``ending`` is the generator that the loop ends."""

    def __init__(self) -> None:
        self.opened: weakref.WeakSet[Closable] = weakref.WeakSet()
        self.process = os.getpid()
        self.over = False
        self.ending = self._until_the_end()
        # To where it waits: from now on the running loop knows it.
        _step(self.ending.__anext__())

    async def _until_the_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            quiet, self.over = self.over or os.getpid() != self.process, True
            for each in () if quiet else list(self.opened):
                if not each.closed:
                    warn(each)

    def forget(self) -> None:
        """It ends without a word."""
        self.over = True
        _step(self.ending.aclose())


def _step(awaitable: object) -> None:
    with contextlib.suppress(StopIteration, StopAsyncIteration, RuntimeError):
        awaitable.send(None)  # type: ignore[attr-defined]


_loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
_told: weakref.WeakSet[object] = weakref.WeakSet()


def watch(opened: Closable) -> None:
    """Warn when the running loop ends and ``opened`` has not been closed."""
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        for other in [other for other in _loops if other.is_closed()]:
            _loops.pop(other).forget()
        found = _loops[loop] = _Loop()
    if not found.over:
        found.opened.add(opened)


def unwatch(opened: Closable) -> None:
    """Whoever has it closes it."""
    for each in _loops.values():
        each.opened.discard(opened)


def warn(what: object) -> None:
    """``what`` was dropped, and not closed."""
    if not sys.is_finalizing() and what not in _told:
        _told.add(what)
        warnings.warn(f"unclosed {what!r}", ResourceWarning, stacklevel=2, source=what)


def _at_exit() -> None:
    for each in _loops.values():
        each.forget()
    _loops.clear()


atexit.register(_at_exit)
