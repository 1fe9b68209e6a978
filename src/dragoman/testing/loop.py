"""An event loop whose clock moves only when nothing else is left to do.

asyncio's own ``BaseEventLoop`` with a selector that, instead of sleeping, moves the clock to the
next timer. So tasks, futures, timeouts and dragoman's timer wheel (which asks ``virtual_time``) run
as they do in life, and an hour takes no time. Whatever is reported to the exception handler is kept
in ``faults``; ``run`` fails on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from dragoman.testing.network import Listener, Network

Result = TypeVar("Result")


class Stalled(RuntimeError):
    """Nothing is ready and no timer is armed: whoever waits would wait for ever."""


class _Clockwork:
    """The selector: to wait is to move the clock."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stalled("nothing is ready and no timer is armed")
        if timeout > 0:
            self._loop.now_s += timeout
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """``network`` is the network of this loop; both draw from ``seed`` alone."""

    virtual_time = True

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        self.now_s = 1000.0
        self._selector = _Clockwork(self)
        self.network = Network(self, self.random)
        self.faults: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now_s

    def _process_events(self, events: list[Any]) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    # Of asyncio's many signatures those of TCP by host and port; other options are passed over.

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> tuple[Any, Any]:
        return await self.network.connect(factory, host, port)

    async def create_server(  # type: ignore[override]
        self, factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> Listener:
        return self.network.serve(factory, host, port)

    def step(self, seconds: float) -> None:
        """Let ``seconds`` pass (for synchronous tests)."""
        self.run_until_complete(asyncio.sleep(seconds))

    def check(self) -> None:
        """Fail if anything raised where nobody could catch it."""
        if self.faults:
            fault = self.faults[0]
            raise AssertionError(f"seed {self.seed}: {fault.get('message')}") from fault.get(
                "exception"
            )


def simulate(seed: int, work: Callable[[SimulatedLoop], Awaitable[Result]]) -> Result:
    """Run ``work(loop)`` on a new loop of ``seed``; fail if anything raised unseen."""
    loop = SimulatedLoop(seed)
    try:
        try:
            result = loop.run_until_complete(work(loop))
        finally:
            loop.check()
        return result
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending))
        loop.close()
