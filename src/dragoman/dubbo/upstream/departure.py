"""Letting a provider go that has said it is about to stop, and coming back to the next one there.

A Java provider that stops waits up to 10 s for its consumers to disconnect, so they are to go once
they owe each other nothing. Until the old process is gone its port may still accept, and what was
sent there would be lost with it: a refused connection shows that it is gone.
``dubbo.upstream.direct`` and the provider's agent use it.

The invariant: while a departure is under way there is no connection to the provider but probes,
which carry nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from dragoman.dubbo.upstream.link import DubboLink

# A provider that is still there after this is taken for one that will stay.
STOPPING_S: Final = 10.0
POLL_S: Final = 0.1
PROBE_TIMEOUT_S: Final = 1.0


class Departure:
    """Lets the provider of ``link`` go whenever it is told to."""

    def __init__(self, link: DubboLink) -> None:
        self._link = link
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether the provider has been let go and is not back yet."""
        return self._task is not None

    def begin(self) -> None:
        """Close the connections, and connect when there is something new to connect to."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._depart())

    async def stop(self) -> None:
        """Do not come back."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _depart(self) -> None:
        loop = asyncio.get_running_loop()
        self._link.leave()
        until_s = loop.time() + STOPPING_S
        while loop.time() < until_s:
            await asyncio.sleep(POLL_S)
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    _, writer = await asyncio.open_connection(self._link.host, self._link.port)
            except (OSError, TimeoutError):
                break
            writer.close()
        self._task = None
        self._link.start()
