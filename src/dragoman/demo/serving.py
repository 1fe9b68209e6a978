"""Run a demo provider as a server: listen, say when it is ready, stop without losing a call.

The command line calls this; the calls themselves are ``dragoman.demo.provider``'s. The invariant:
once told to stop it takes no more connections, tells those it has, and leaves only when nothing is
under way and nothing has come for a moment, or when the time for that is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from dragoman.demo.provider import DemoProvider, ProviderStatistics
from dragoman.errors import UsageError
from dragoman.reasons import reason
from dragoman.stopping import told_to_stop

# A peer that has been told may have sent calls before it heard: as long as none came for this long.
QUIET_S = 0.2
POLL_S = 0.02
BACKLOG = 1024

SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class ProviderOptions:
    """Options of ``dragoman demo provider``; ``size`` is a label for capacities 1 : 2 : 3."""

    host: str = "127.0.0.1"
    port: int = 20880
    size: str = "small"
    delay_ms: float = 50.0
    limit: int = 200
    drain_s: float = 10.0
    fault: str = "none"
    fault_after: int = 0
    fault_until: int = 0
    serialization: str = "fastjson"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"--size must be one of {', '.join(SIZES)}, not {self.size}")
        if not 0 <= self.delay_ms <= 600_000:
            raise UsageError(f"--delay-ms must be 0 to 600000, not {self.delay_ms:g}")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port must be 0 to 65535, not {self.port}")
        if not 0 <= self.drain_s <= 3600:
            raise UsageError(f"--drain must be 0 to 3600 seconds, not {self.drain_s:g}")


async def serve(
    options: ProviderOptions,
    *,
    ready: Callable[[str, int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> ProviderStatistics:
    """Serve until ``stop`` is set, then drain; returns the counts.

    ``ready`` is called with host and port once connections are taken. UsageError when the address
    cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    provider = DemoProvider(
        loop,
        delay_ns=round(options.delay_ms * 1e6),
        limit=options.limit,
        fault=options.fault,
        fault_after=options.fault_after,
        fault_until=options.fault_until,
        serialization=options.serialization,
    )
    try:
        server = await _listen(loop, provider, options)
        host, port = server.sockets[0].getsockname()[:2]
        if ready is not None:
            ready(host, port)
        await (stop or asyncio.Event()).wait()
        server.close()
        with contextlib.suppress(asyncio.CancelledError):
            await _drain(provider, options.drain_s)
    finally:
        provider.close()
    await asyncio.sleep(0)  # closed transports tell their protocols in the next tick
    return provider.statistics()


def run(
    options: ProviderOptions, ready: Callable[[str, int], None] | None = None
) -> ProviderStatistics:
    """``serve`` in this process until SIGTERM or SIGINT; a second one ends the draining."""

    async def main() -> ProviderStatistics:
        gc.freeze()  # what is here stays: no collection needs to look at it again
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None

        def on_signal() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        with told_to_stop(on_signal):
            return await serve(options, ready=ready, stop=stop)

    statistics = uvloop.run(main())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way out: the counts are to be kept
    return statistics


async def _listen(
    loop: asyncio.AbstractEventLoop, provider: DemoProvider, options: ProviderOptions
) -> asyncio.Server:
    address = f"{options.host}:{options.port}"
    try:
        return await loop.create_server(
            provider.connection, options.host, options.port, backlog=BACKLOG, reuse_address=True
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"cannot listen on {address}: the port is in use") from error
        raise UsageError(f"cannot listen on {address}: {reason(error)}") from error


async def _drain(provider: DemoProvider, drain_s: float) -> None:
    """Wait until nothing is under way and nothing comes any more, at most ``drain_s``."""
    provider.announce_stop()
    loop = asyncio.get_running_loop()
    quiet_from = loop.time()
    end = quiet_from + drain_s
    requests = 0
    while (now := loop.time()) < end:
        statistics = provider.statistics()
        if statistics.in_flight or statistics.requests != requests:
            requests = statistics.requests
            quiet_from = now
        elif provider.open_connections == 0 or now - quiet_from >= QUIET_S:
            return
        await asyncio.sleep(POLL_S)
