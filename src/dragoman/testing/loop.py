"""An event loop whose clock moves only when nothing else is left to do.

asyncio's own ``BaseEventLoop`` with a selector that, instead of sleeping, moves the clock to the
next timer. So tasks, futures, timeouts and dragoman's timer wheel (which asks ``virtual_time``) run
as they do in life, and an hour takes no time. Its connections are those of its ``Network``. Faults
reported to the exception handler are collected in ``faults``, and ``simulate`` fails on them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from dragoman.testing.network import Listener, Network


class StalledError(RuntimeError):
    """Nothing is ready and no timer is armed: whoever waits would wait for ever.

    Threads and real sockets do not wake a simulated loop.
    """


class _Clockwork:
    """The selector: to wait is to move the clock."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StalledError("nothing is ready and no timer is armed")
        if timeout > 0:
            self._loop.now_s += timeout
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """A loop on virtual time. ``simulate`` makes one, and closes it.

    - ``network``: its ``Network``, which ``create_connection`` and ``create_server`` use.
    - ``seed``, ``random``: where the delays of the network come from.
    - ``now_s``: the time in seconds, which ``time()`` gives.
    - ``faults``: contexts of ``call_exception_handler``, for errors that nobody could catch.
    """

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
        """Virtual seconds."""
        return self.now_s

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the fault in ``faults``."""
        self.faults.append(context)

    # Of asyncio's many signatures those of TCP by host and port; other options are ignored.

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], Any], host: str, port: int, **_: Any
    ) -> tuple[Any, Any]:
        """Connect on ``network``; raises ConnectionRefusedError where nobody listens."""
        return await self.network.connect(factory, host, port)

    async def create_server(  # type: ignore[override]
        self, factory: Callable[[], Any], host: str | None, port: int, **_: Any
    ) -> Listener:
        """Listen on ``network``; port 0 is any free one. Raises OSError for a port in use."""
        return self.network.serve(factory, host, port)

    def step(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass, for tests that are no coroutines."""
        self.run_until_complete(asyncio.sleep(seconds))

    def check(self) -> None:
        """Raise AssertionError if anything raised where nobody could catch it."""
        if self.faults:
            fault = self.faults[0]
            raise AssertionError(f"seed {self.seed}: {fault.get('message')}") from fault.get(
                "exception"
            )
