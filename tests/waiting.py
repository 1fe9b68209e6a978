"""Waiting for what comes about elsewhere: on a loop, in a thread, in another process.

Bounds are nominal seconds. Past one, a wait goes on for as many times as long as the machine is
slow or busy (``tests/load_factor.py``), which is measured only then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.load_factor import load_factor

Why = Callable[[], str]
Condition = Callable[[], object]


def _unexplained() -> str:
    return "it did not come about"


def _check(took_s: float, within_s: float, why: Why) -> None:
    if took_s >= within_s:
        assert took_s < within_s * load_factor(), f"after {took_s:.1f} s: {why()}"


async def until(
    condition: Condition, within_s: float = 5.0, why: Why = _unexplained, *, every_s: float = 0.005
) -> float:
    """Return once ``condition`` holds, which may be a coroutine function; the seconds it took."""
    began_s = time.monotonic()
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        took_s = time.monotonic() - began_s
        if result:
            return took_s
        _check(took_s, within_s, why)
        await asyncio.sleep(every_s)


def until_sync(
    condition: Condition, within_s: float = 5.0, why: Why = _unexplained, *, every_s: float = 0.005
) -> float:
    """As :func:`until`, where no loop runs; it blocks its thread."""
    began_s = time.monotonic()
    while not condition():
        _check(time.monotonic() - began_s, within_s, why)
        time.sleep(every_s)
    return time.monotonic() - began_s
