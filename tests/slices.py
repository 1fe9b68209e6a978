"""How long a loop works in one piece: the processor's time of its iterations.

The time is that of the loop's own thread, so neither other threads nor other programs count; what
it may be is scaled by a calibration in the same run, for a machine that is slower takes longer for
everything.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Final

from tests.calibration import alone, piece_s

# What ``piece_s`` is on the machine for which bounds are stated.
PIECE_S: Final = 0.004


class Slices:
    """Watches the running loop in its block; ``longest_ms`` is what its longest iteration took, as
    milliseconds of the machine for which bounds are stated."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    async def __aenter__(self) -> Slices:
        self._loop = asyncio.get_running_loop()
        with alone():
            self._scale = PIECE_S / min(piece_s() for _ in range(5))
        # What the rest of the process holds is not the loop's work.
        gc.collect()
        gc.freeze()
        self._runs = True
        self._last = time.thread_time()
        self._loop.call_soon(self._tick)
        return self

    def _tick(self) -> None:
        now = time.thread_time()
        self.longest_ms = max(self.longest_ms, (now - self._last) * 1000 * self._scale)
        self._last = now
        if self._runs:
            self._loop.call_soon(self._tick)

    async def __aexit__(self, *_: object) -> None:
        self._runs = False
        gc.unfreeze()
        await asyncio.sleep(0)
