"""A worker: one process, one uvloop, one entry function that serves until it is told to stop.

An *entry* is ``async def run_worker(config, worker: Worker) -> None``, named by its dotted path
(``dragoman.agent.runtime:run_worker``). It says ``worker.ready()`` once requests are welcome,
serves until ``worker.stopping`` is set, drains and returns. With one worker it runs in the agent's
own process (``worker_pool.InlineWorkerPool``), otherwise ``python -m dragoman.agent.worker FD``
runs it as a child of the supervisor. The invariant: a worker whose supervisor has died stops like
one that was told to.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import uvloop

from dragoman.agent.channel import Answer, Ask, Channel, Failed, Start, State
from dragoman.agent.config import AgentConfig
from dragoman.errors import DragomanError, LinkLostError, ProtocolError, UsageError
from dragoman.observe.faults import log_fault, place_of
from dragoman.observe.logs import set_up_logging
from dragoman.observe.metrics import Snapshot
from dragoman.stopping import say_ignored

log = logging.getLogger("dragoman.worker")

Entry = Callable[[Any, "Worker"], Awaitable[None]]

STARTING = "starting"


class Worker:
    """The worker as its entry function sees it: who it is, when to stop, and where to report.

    ``index`` counts from 0 to ``count - 1``. ``stopping`` is set on SIGTERM, and stays set.
    ``instance`` is the agent's, 16 random bytes that all its workers share.
    ``port``, once the entry has set it, is the one it really listens on. ``sockets``, if there are
    any, are to be listened on; an entry that opened its own puts them there.
    """

    def __init__(
        self,
        index: int,
        count: int,
        on_state: Callable[[str | None], None],
        *,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.index = index
        self.count = count
        self.port = 0
        self.sockets = list(sockets)
        self.instance = os.urandom(16)
        self.stopping = asyncio.Event()
        self._on_state = on_state
        self._metrics: Callable[[], Awaitable[Snapshot]] | None = None
        self._status: Callable[[], Awaitable[dict[str, Any]]] | None = None
        self._not_ready: str | None = STARTING

    def ready(self) -> None:
        """Requests are welcome from now on. May be said again."""
        self._tell(None)

    def not_ready(self, reason: str) -> None:
        """Requests are not welcome; ``reason`` is shown by ``/readyz``."""
        self._tell(reason)

    def report(
        self,
        *,
        metrics: Callable[[], Awaitable[Snapshot]] | None = None,
        status: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        """Say who answers when metrics or status are asked for; no piece of that is to be long."""
        self._metrics = metrics or self._metrics
        self._status = status or self._status

    async def collect(self) -> tuple[Snapshot, dict[str, Any]]:
        """The entry's report of now. One that fails is logged."""
        return await self.metrics(), await self.status()

    async def metrics(self) -> Snapshot:
        """Its metrics, with this process's own figures."""
        snapshot = Snapshot()
        try:
            if self._metrics is not None:
                snapshot = await self._metrics()
        except Exception as error:
            log_fault(log, error, "a report failed")
        add_process_metrics(snapshot)
        return snapshot

    async def status(self) -> dict[str, Any]:
        """Its part of the status page."""
        try:
            if self._status is not None:
                return await self._status()
        except Exception as error:
            log_fault(log, error, "a report failed")
        return {}

    def _tell(self, not_ready: str | None) -> None:
        if not_ready != self._not_ready:
            self._not_ready = not_ready
            self._on_state(not_ready)


def add_process_metrics(snapshot: Snapshot) -> None:
    """Add CPU time and memory of this process to ``snapshot``."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    for mode, seconds in (("user", usage.ru_utime), ("system", usage.ru_stime)):
        snapshot.counter(
            "dragoman_cpu_seconds_total", seconds, "CPU time of the workers.", mode=mode
        )
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return
    snapshot.gauge(
        "dragoman_resident_memory_bytes",
        pages * os.sysconf("SC_PAGE_SIZE"),
        "Resident memory of the workers.",
    )


def resolve(dotted: str) -> Any:
    """The object that ``package.module:name`` names. Raises UsageError."""
    module, _, name = dotted.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"no worker {dotted}: {error}") from None


def dotted_path(target: object) -> str:
    """The ``package.module:name`` of a function or class at the top of a module."""
    return f"{target.__module__}:{target.__qualname__}"  # type: ignore[attr-defined]


def main(fd: int) -> int:
    """The child process: run the entry that the supervisor names over socket ``fd``."""
    # Ctrl-C and the end of a terminal go to the whole foreground group; stopping in order is the
    # supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return uvloop.run(_serve(socket.socket(fileno=fd)))


async def _serve(sock: socket.socket) -> int:
    channel = await Channel.open(sock)
    start = await channel.receive()
    if not isinstance(start, Start):
        raise ProtocolError(f"expected a start message, not {type(start).__name__}")
    try:
        config = msgspec.json.decode(start.config, type=resolve(start.config_type))
        assert isinstance(config, AgentConfig)
        set_up_logging(config.log_level, f"{start.program}[{start.index}]")
        worker = Worker(
            start.index,
            start.count,
            lambda reason: channel.send(State(reason)),
            sockets=[socket.socket(fileno=each) for each in start.sockets],
        )
        worker.instance = bytes.fromhex(start.instance)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, worker.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, say_ignored)
        conversation = asyncio.create_task(_converse(channel, worker))
        try:
            await resolve(start.entry)(config, worker)
        finally:
            conversation.cancel()
            await asyncio.gather(conversation, return_exceptions=True)
        # The last figures, so that what this worker counted is not lost with it.
        channel.send(Answer(0, *await worker.collect()))
        return 0
    except DragomanError as error:
        channel.send(Failed(str(error), isinstance(error, UsageError)))
    except Exception as error:
        log_fault(log, error, "the worker failed")
        channel.send(Failed(place_of(error), False))
    finally:
        await channel.close()
    return 1


async def _converse(channel: Channel, worker: Worker) -> None:
    """Answer the supervisor; stop when it is gone."""
    try:
        while True:
            message = await channel.receive()
            if isinstance(message, Ask):
                channel.send(Answer(message.id, *await worker.collect()))
    except LinkLostError:
        log.error("the supervisor is gone: stopping")
        worker.stopping.set()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
