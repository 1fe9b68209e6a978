"""An agent's process: signals, admin port and workers.

``dragoman.agent.runtime.run`` makes it. With one worker everything runs in this process on one
loop; with more, this process only supervises. On SIGTERM or SIGINT it is no longer ready, the
workers are told to stop, waited for within ``drain_ms`` and killed after it; a second signal kills
at once. SIGHUP is ignored, here and in the workers. The invariant: nothing that was started here
outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import Any, Final

import msgspec

from dragoman import __version__
from dragoman.agent.admin import AdminServer
from dragoman.agent.config import AgentConfig, changed, listen_address
from dragoman.agent.crew import Crew, InlineCrew, ProcessCrew, RestartPolicy, entry_of
from dragoman.agent.listening import reserve
from dragoman.agent.worker import Entry
from dragoman.observe.logs import redact
from dragoman.observe.metrics import Snapshot
from dragoman.registry import format_address
from dragoman.stopping import told_to_stop

logger = logging.getLogger("dragoman.supervisor")

# What workers get beyond their own bound before they are killed.
GRACE_S: Final = 0.5
# An agent that is not ready by then tells what it is all the same.
SETTLED_S: Final = 1.0


class Supervisor:
    """Runs ``entry`` in the configuration's ``workers`` until a signal, or until they fail.

    ``entry`` is an async function of ``(config, worker)`` at the top of a module, or its dotted
    path; see ``dragoman.agent.worker``. Worker ``i`` is given ``config.for_worker(i)``.
    """

    def __init__(
        self,
        entry: Entry | str,
        config: AgentConfig,
        *,
        program: str = "agent",
        policy: RestartPolicy | None = None,
    ) -> None:
        self._entry = entry_of(entry)
        self._config = config
        self._policy = policy
        self._crew: Crew | None = None
        self._signals = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._reserved: list[socket.socket] = []
        self.program = program
        self.admin_port = 0

    async def run(self) -> int:
        """Serve until told to stop; 0, or 1 when workers had to be killed.

        Raises what the workers failed with, and UsageError for addresses that cannot be listened
        on.
        """
        admin: AdminServer | None = None
        with told_to_stop(self.stop):
            try:
                crew = self._crew = self._make_crew()
                admin = await self._start_admin()
                await crew.start()
                return await self._serve(crew)
            finally:
                if admin is not None:
                    await admin.close()
                for sock in self._reserved:
                    sock.close()

    def stop(self) -> None:
        """Drain and end, as SIGTERM does; the second time without draining."""
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            self._stop_now.set()

    def not_ready(self) -> str | None:
        """None when requests are welcome, else the reason why not."""
        if self._stop.is_set():
            return "draining"
        if self._crew is None:
            return "starting"
        return self._crew.not_ready()

    @property
    def addresses(self) -> list[str]:
        """Where the agent listens, as ``host:port``, with the real ports once they are known."""
        return self._crew.addresses() if self._crew is not None else [self._config.listen]

    async def metrics(self) -> Snapshot:
        """The merged figures of the workers."""
        return await self._crew.metrics() if self._crew is not None else Snapshot()

    async def status(self) -> dict[str, Any]:
        """A picture of the agent for ``/status``."""
        return {
            "program": self.program,
            "pid": os.getpid(),
            "listen": self.addresses,
            "not_ready": self.not_ready(),
            "workers": await self._crew.status() if self._crew is not None else [],
        }

    def _make_crew(self) -> Crew:
        config = self._config
        if config.workers == 1:
            return InlineCrew(self._entry, config)
        bound: dict[str, str] = {}
        configs = []
        for each in (config.for_worker(index) for index in range(config.workers)):
            host, port = listen_address(each.listen)
            if each.listen not in bound or each.listens_alone:
                sock = reserve(each.listen)
                self._reserved.append(sock)
                port = sock.getsockname()[1]
                bound[each.listen] = format_address(host, port)
            configs.append(msgspec.structs.replace(each, listen=bound[each.listen]))
        return ProcessCrew(self._entry, configs, program=self.program, policy=self._policy)

    async def _start_admin(self) -> AdminServer | None:
        if not self._config.admin:
            return None
        host, port = listen_address(self._config.admin)
        admin = AdminServer(
            host, port, not_ready=self.not_ready, metrics=self.metrics, status=self.status
        )
        await admin.start()
        self.admin_port = admin.port
        return admin

    async def _serve(self, crew: Crew) -> int:
        starting = asyncio.create_task(self._tell_ready(crew))
        try:
            await _any_of(self._stop, crew.failed)
            self._stop.set()
            if crew.failure is None:
                logger.info("stopping: finishing what is in flight")
        finally:
            starting.cancel()
            in_time = await self._stop_crew(crew)
        if crew.failure is not None:
            raise crew.failure
        logger.info("stopped" if in_time else "stopped, though not all was finished in time")
        return 0 if in_time else 1

    async def _tell_ready(self, crew: Crew) -> None:
        # An agent that cannot listen ends with one line: not a word before that is settled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                await crew.all_ready.wait()
        config = self._config
        logger.info(
            "dragoman %s, registry %s, admin pages %s; %s",
            __version__,
            redact(config.registry),
            f"on {config.admin}" if config.admin else "off",
            ", ".join(f"{name} {value}" for name, value in changed(config)) or "all at defaults",
        )
        await crew.all_ready.wait()
        logger.info("ready on %s", ", ".join(self.addresses))

    async def _stop_crew(self, crew: Crew) -> bool:
        within_s = self._config.drain_ms / 1000 + GRACE_S
        stopping = asyncio.create_task(crew.stop(within_s))
        hurry = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            logger.warning("told to stop again: not waiting for what is in flight")
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await crew.stop(0.05)
            return False
        return stopping.result()


async def _any_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
