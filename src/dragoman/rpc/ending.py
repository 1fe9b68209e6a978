"""Exceptions that end a program, raised by a function that answers a call: they end the call.

Handlers and callbacks are other people's code. An event loop lets ``SystemExit`` and
``KeyboardInterrupt`` out of a task or a callback and stops, and out of a protocol's method anything
closes the connection; with it go the calls of everybody else. So whoever runs such code catches
everything: ``guarded`` keeps it from the loop, ``reported`` tells of a callback's.

Invariant: an interrupt from the keyboard that happens to meet a function of ours is not lost.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable
from typing import Any, NoReturn


class Raised:
    """The result of a task whose function raised what would have stopped the loop."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def guarded(awaitable: Awaitable[Any]) -> Any:
    """The result of ``awaitable``, or ``Raised``."""
    try:
        return await awaitable
    except (KeyboardInterrupt, SystemExit) as error:
        return Raised(error)


def pass_on(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """The call that ``error`` met has been answered with it. If it may come from the keyboard, the
    program is to hear of it too."""
    if (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        loop.call_soon(_raise, error)


def reported(loop: asyncio.AbstractEventLoop, message: str, error: BaseException) -> None:
    """A callback has raised: to the loop what a loop lets out of its callbacks, the rest to its
    exception handler."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        loop.call_soon(_raise, error)
    else:
        loop.call_exception_handler({"message": message, "exception": error})


def _raise(error: BaseException) -> NoReturn:
    raise error
