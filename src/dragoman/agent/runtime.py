"""Runs an agent: from its configuration to a served port, and to the end of the process.

The command line calls ``run``; ``run_worker`` is what every worker runs (see
``dragoman.agent.worker``). The invariant: an agent is ready only while it says so itself, and
drains before it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Any, Final, Protocol

import uvloop

from dragoman.agent.config import AgentConfig, ConsumerConfig, ProviderConfig
from dragoman.agent.supervisor import Supervisor
from dragoman.agent.worker import Worker
from dragoman.errors import UsageError
from dragoman.observe.logs import set_up_logging
from dragoman.observe.metrics import Snapshot

log = logging.getLogger("dragoman.agent")

# An agent says when something may have changed its readiness. It is looked at besides, since not
# all that makes it ready tells: often while it starts, rarely afterwards, as each look wakes it up.
STARTING_POLL_S: Final = 0.05
POLL_S: Final = 2.0
# What has not become ready in so many looks is not starting any more.
STARTING_LOOKS: Final = 200


class Agent(Protocol):
    """The part of ``ConsumerAgent`` and ``ProviderAgent`` that their worker uses."""

    port: int
    # Set when ``ready_reason`` may say something else than before.
    changed: asyncio.Event

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that it listens on, or will."""

    async def start(self) -> None:
        """Listen."""

    def ready_reason(self) -> str | None:
        """None when requests can be served, else why not."""

    async def drain(self) -> None:
        """Finish what is in flight within the configured time, and close."""

    async def snapshot(self) -> Snapshot:
        """Metrics."""

    async def status(self) -> dict[str, Any]:
        """Plain data for the status page."""


def run(config: AgentConfig) -> int:
    """Run the agent that ``config`` describes until it is told to stop; the exit code.

    Raises UsageError when it cannot start as configured.
    """
    program = "consumer" if isinstance(config, ConsumerConfig) else "provider"
    set_up_logging(config.log_level, program)

    async def supervise() -> int:
        return await Supervisor(run_worker, config, program=program).run()

    return uvloop.run(supervise())


async def run_worker(config: AgentConfig, worker: Worker) -> None:
    """One worker of an agent: start it, pass on whether it is ready, drain it when told to stop."""
    agent = _make(config, worker)
    worker.report(metrics=agent.snapshot, status=agent.status)
    looks = 0
    stopping = asyncio.ensure_future(worker.stopping.wait())
    stopping.add_done_callback(lambda _: agent.changed.set())
    try:
        await agent.start()
        while not worker.stopping.is_set():
            agent.changed.clear()
            reason = agent.ready_reason()
            worker.port = agent.port
            worker.sockets = agent.sockets
            if reason is None:
                worker.ready()
                looks = STARTING_LOOKS
            else:
                worker.not_ready(reason)
                looks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STARTING_POLL_S if looks < STARTING_LOOKS else POLL_S):
                    await agent.changed.wait()
    finally:
        stopping.cancel()
        await agent.drain()


def _make(config: AgentConfig, worker: Worker) -> Agent:
    reuse_port = worker.count > 1
    if isinstance(config, ConsumerConfig):
        from dragoman.agent.consumer import ConsumerAgent

        share = (worker.index, worker.count)
        return ConsumerAgent(
            config,
            reuse_port=reuse_port,
            share=share,
            identity=worker.instance,
            sockets=worker.sockets,
        )
    if isinstance(config, ProviderConfig):
        from dragoman.agent.provider import ProviderAgent

        return ProviderAgent(config, reuse_port=reuse_port, workers=worker.count)
    raise UsageError(f"no agent runs with a {type(config).__name__}")
