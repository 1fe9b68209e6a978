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
from dragoman.agent.activation import activated
from dragoman.agent.admin import AdminServer
from dragoman.agent.config import AgentConfig, ConsumerConfig, changed, listen_address
from dragoman.agent.listening import (
    bound_address,
    held,
    is_at,
    is_free,
    reserve,
    resolved,
    shares_port,
)
from dragoman.agent.takeover import Handed, Inherited, Offer, is_met, take
from dragoman.agent.worker import Entry
from dragoman.agent.worker_pool import (
    InlineWorkerPool,
    ProcessWorkerPool,
    RestartPolicy,
    WorkerPool,
    entry_of,
)
from dragoman.errors import UsageError
from dragoman.observe.logs import redact
from dragoman.observe.metrics import Snapshot
from dragoman.registry import format_address
from dragoman.stopping import told_to_stop

log = logging.getLogger("dragoman.supervisor")

# What workers get beyond their own bound before they are killed.
GRACE_S: Final = 0.5
# An agent that is not ready by then tells what it is all the same.
SETTLED_S: Final = 1.0
# How often, and how long in all, an agent whose place is to be taken is looked for while its port
# is held.
MEETING_TRIES: Final = 60
MEETING_PAUSE_S: Final = 0.05
ANY_HOST: Final = ("0.0.0.0", "::")


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
        self._pool: WorkerPool | None = None
        self._signals = 0
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._reserved: list[socket.socket] = []
        self._listen: list[socket.socket] = []
        self._admin_sockets: list[socket.socket] = []
        self._admin_socket: socket.socket | None = None
        self._own = True
        self._inherited: Inherited | None = None
        self._offer: Offer | None = None
        self._admin: AdminServer | None = None
        self.program = program
        self.admin_port = 0

    async def run(self) -> int:
        """Serve until told to stop; 0, or 1 when workers had to be killed.

        Raises what the workers failed with, and UsageError for addresses that cannot be listened
        on.
        """
        with told_to_stop(self.stop):
            try:
                await self._inherit()
                pool = self._pool = self._make_pool()
                self._choose_admin_socket()
                if self._admin_socket is None or self._inherited is None:
                    await self._start_admin()
                await pool.start()
                return await self._serve(pool)
            finally:
                if self._offer is not None:
                    self._offer.close()
                if self._inherited is not None:
                    self._inherited.close()
                if self._admin is not None:
                    await self._admin.close()
                for sock in (*self._reserved, *self._listen, *self._admin_sockets):
                    sock.close()
                if self._admin_socket is not None:
                    self._admin_socket.close()

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
        if self._pool is None:
            return "starting"
        return self._pool.not_ready()

    @property
    def addresses(self) -> list[str]:
        """The agent's addresses, as ``host:port``, with the real ports once they are known."""
        return self._pool.addresses() if self._pool is not None else [self._config.listen]

    async def metrics(self) -> Snapshot:
        """The merged figures of the workers."""
        return await self._pool.metrics() if self._pool is not None else Snapshot()

    async def status(self) -> dict[str, Any]:
        """A picture of the agent for ``/status``."""
        return {
            "program": self.program,
            "pid": os.getpid(),
            "listen": self.addresses,
            "not_ready": self.not_ready(),
            "workers": await self._pool.status() if self._pool is not None else [],
        }

    async def _inherit(self) -> None:
        """Find the sockets that others have opened for this agent, if any have."""
        config = self._config
        if not isinstance(config, ConsumerConfig):
            return
        self._listen, self._admin_sockets = activated(os.environ)
        self._own = not self._listen
        if config.takeover:
            address = bound_address(self._listen[0]) if self._listen else resolved(config.listen)
            inherited = await self._find_one_before(address)
            if inherited is None:
                log.debug("nobody listens on %s yet whose place could be taken", config.listen)
                return
            self._inherited = inherited
            if self._listen:
                # The same ones: whoever opened them has given them to both.
                for sock in inherited.listen:
                    sock.close()
            else:
                self._listen, self._own = inherited.listen, inherited.own
            self._admin_sockets += inherited.admin
            log.debug("taking the place of process %d", inherited.pid)

    async def _find_one_before(self, address: str) -> Inherited | None:
        """The agent whose place is to be taken, None if there is none. One that drains, or has just
        begun to serve, may hold the port for a moment and not be there to be asked."""
        host, port = listen_address(address)
        if not port:
            return None
        for tries_left in reversed(range(MEETING_TRIES)):
            inherited = await take(address)
            if inherited is not None or self._listen or is_free(address):
                return inherited
            for other in ANY_HOST:
                beside = format_address(other, port)
                if host != other and is_met(beside):
                    raise UsageError(
                        f"--takeover: the agent there listens on {beside}, not on {address}"
                    )
            if tries_left:
                await asyncio.sleep(MEETING_PAUSE_S)
        return None

    def _make_pool(self) -> WorkerPool:
        config = self._config
        if config.workers == 1:
            sockets, self._listen = self._listen, []
            if sockets:
                address = bound_address(sockets[0])
                config = msgspec.structs.replace(config, listen=address)
            return InlineWorkerPool(self._entry, config, sockets)
        if not config.listens_alone:
            return self._make_sharing_pool()
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
        return ProcessWorkerPool(self._entry, configs, program=self.program, policy=self._policy)

    def _make_sharing_pool(self) -> WorkerPool:
        """Workers that share an address, each with a socket of its own where that can be."""
        config = self._config
        count = config.workers
        sockets, self._listen = self._listen, []
        if not sockets:
            sockets = [reserve(config.listen)]
        address = bound_address(sockets[0])
        if self._own and all(shares_port(each) for each in sockets):
            sockets += (held(address) for _ in range(len(sockets), count))
            shares = [sockets[i::count] for i in range(count)]
        else:
            shares = [sockets for _ in range(count)]
        configs = [
            msgspec.structs.replace(config.for_worker(i), listen=address) for i in range(count)
        ]
        return ProcessWorkerPool(
            self._entry,
            configs,
            program=self.program,
            policy=self._policy,
            sockets=shares,
            own=self._own,
        )

    def _choose_admin_socket(self) -> None:
        """Of those that others have opened the one that is meant by ``admin``, or any that was
        given for it by whoever started this agent."""
        address = self._config.admin
        given, self._admin_sockets = self._admin_sockets, []
        for sock in given:
            wanted = is_at(sock, address) if address else self._inherited is None
            if wanted and self._admin_socket is None:
                self._admin_socket = sock
            else:
                sock.close()

    async def _start_admin(self) -> None:
        address, sock = self._config.admin, self._admin_socket
        if self._admin is not None or (not address and sock is None):
            return
        if sock is None:
            host, port = listen_address(address)
            await self._wait_for_one_that_drains(address)
        else:
            self._admin_socket = None
            host, port = sock.getsockname()[:2]
        self._admin = AdminServer(
            host,
            port,
            not_ready=self.not_ready,
            metrics=self.metrics,
            status=self.status,
            sock=sock,
        )
        await self._admin.start()
        self.admin_port = self._admin.port

    async def _wait_for_one_that_drains(self, address: str) -> None:
        # The agent before, if it was told to stop and gave no sockets, keeps its admin port as long
        # as it drains.
        config = self._config
        if not isinstance(config, ConsumerConfig) or not config.takeover or self._inherited:
            return
        loop = asyncio.get_running_loop()
        until_s = loop.time() + config.drain_ms / 1000 + GRACE_S
        while not is_free(address) and not self._stop.is_set() and loop.time() < until_s:
            await asyncio.sleep(MEETING_PAUSE_S)

    async def _serve(self, pool: WorkerPool) -> int:
        starting = asyncio.create_task(self._tell_ready(pool))
        try:
            await _any_of(self._stop, pool.failed)
            self._stop.set()
            if pool.failure is None:
                log.info("stopping: finishing what is in flight")
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            if self._offer is not None:
                self._offer.close()
            in_time = await self._stop_pool(pool)
        if pool.failure is not None:
            raise pool.failure
        log.info("stopped" if in_time else "stopped, though not all was finished in time")
        return 0 if in_time else 1

    async def _tell_ready(self, pool: WorkerPool) -> None:
        # An agent that cannot listen ends with one line: not a word before that is settled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                await pool.all_ready.wait()
        config = self._config
        log.info(
            "dragoman %s, registry %s, admin pages %s; %s",
            __version__,
            redact(config.registry),
            self._admin_address() or "off",
            ", ".join(f"{name} {value}" for name, value in changed(config)) or "all at defaults",
        )
        await pool.all_ready.wait()
        before = self._inherited
        if before is not None:
            try:
                await before.ready()
            except UsageError as error:
                pool.fail(error)
                return
            await self._start_admin()
        log.info(
            "ready on %s%s",
            ", ".join(self.addresses),
            f", in the place of process {before.pid}" if before is not None else "",
        )
        sockets = pool.sockets()
        if isinstance(self._config, ConsumerConfig) and sockets:
            self._offer = Offer(bound_address(sockets[0]), self._handed, self._hand_over)
            await self._offer.start()

    def _admin_address(self) -> str:
        """The address of the admin pages, now or later; empty without them."""
        if self._admin is not None:
            return f"on {self._admin.address}"
        return f"on {self._config.admin}" if self._config.admin else ""

    def _handed(self) -> Handed:
        assert self._pool is not None
        admin = self._admin.sockets if self._admin is not None else []
        return Handed(self._pool.sockets(), admin, self._own)

    def _hand_over(self, pid: int) -> None:
        """Another agent serves on our sockets."""
        log.info("process %d has taken over", pid)
        if self._admin is not None:
            self._admin.close_door()
        self._stop.set()

    async def _stop_pool(self, pool: WorkerPool) -> bool:
        within_s = self._config.drain_ms / 1000 + GRACE_S
        stopping = asyncio.create_task(pool.stop(within_s))
        hurry = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not stopping.done():
            log.warning("told to stop again: not waiting for what is in flight")
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await pool.stop(0.05)
            return False
        return stopping.result()


async def _any_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
