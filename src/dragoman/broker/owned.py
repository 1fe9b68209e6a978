"""``Owned``: what belongs to one loop of one process and is closed once.

The base of stores that are elsewhere.
The invariants: it is used nowhere else, whoever tries is told so; a close that began is brought to
its end, whoever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import warnings

from dragoman.errors import UsageError

FORKED = "the store was opened by the process that this one was forked from: open it anew"
CLOSED = "the store is closed"


class Owned:
    """Made on the loop that it belongs to. A derived class has ``_close``, and ``_flush`` for what
    is to be done before calls are refused."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._closing: asyncio.Task[None] | None = None
        # Whoever has it now is to close it.
        self._opened = False

    @property
    def _closed(self) -> bool:
        return self._closing is not None

    def _check_open(self) -> None:
        """Raise UsageError if it cannot be called here and now."""
        self._check_owner()
        if self._closing is not None:
            raise UsageError(CLOSED)

    def _check_owner(self) -> None:
        if os.getpid() != self._process:
            raise UsageError(FORKED)
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(
                "the store belongs to the loop that it was opened on: open one on each loop, or"
                " broker.open_store for threads"
            )

    async def close(self) -> None:
        """Wait for the puts that are under way, then close the connection. Closing twice is once.

        It goes on when the task that waits for it is cancelled; closing again waits for its end.
        In a process that was forked from the one that opened the store it does nothing.
        """
        if os.getpid() != self._process:
            return
        self._check_owner()
        if self._closing is None:
            self._flush()
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    def __del__(self) -> None:
        loop = getattr(self, "_loop", None)
        if loop is None or not self._opened or self._closed or sys.is_finalizing():
            return
        if os.getpid() != self._process:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
            loop.call_soon_threadsafe(self._close_dropped)
        warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1)

    def _close_dropped(self) -> None:
        self._closing = self._loop.create_task(self._close())

    def _flush(self) -> None:
        pass

    async def _close(self) -> None:
        raise NotImplementedError

    def _state(self) -> str:
        if os.getpid() != self._process:
            return "of another process"
        return "closed" if self._closed else "open"
