"""The workers of an agent: one in this process, or several in processes of their own.

The supervisor drives either through ``WorkerPool``. ``ProcessWorkerPool`` starts each worker with
a fresh interpreter (never a fork of a running loop), keeps it running and asks it for its figures;
a worker that dies is started again after a pause that doubles, and too many deaths end the agent.
The invariants: counters never fall, since what a dead worker had counted last is kept; and only
processes started here are signalled, by their own pid.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from dragoman.agent.channel import Answer, Ask, Channel, Failed, Start, State
from dragoman.agent.config import AgentConfig, listen_address
from dragoman.agent.listening import held, shares_port
from dragoman.agent.worker import STARTING, Entry, Worker, dotted_path, resolve
from dragoman.errors import DragomanError, LinkLostError, ProtocolError, UsageError
from dragoman.observe.faults import log_fault, place_of
from dragoman.observe.metrics import Snapshot, merge, without_gauges
from dragoman.registry import format_address

log = logging.getLogger("dragoman.supervisor")


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When workers that died are started again, in seconds and counts over all workers."""

    pause_min_s: float = 0.1
    pause_max_s: float = 5.0
    settled_s: float = 10.0
    """A worker that lived this long starts again with the shortest pause."""
    deaths_max: int = 20
    """More deaths than this within ``window_s`` end the agent."""
    window_s: float = 60.0


class WorkerPool(ABC):
    """The workers. ``failed`` is set, with ``failure`` why, when they cannot go on."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.failure: DragomanError | None = None
        self.all_ready = asyncio.Event()

    @abstractmethod
    async def start(self) -> None:
        """Start the workers; does not wait for them to be ready."""

    @abstractmethod
    def addresses(self) -> list[str]:
        """The workers' addresses, as ``host:port``."""

    @abstractmethod
    def sockets(self) -> list[socket.socket]:
        """The workers' listening sockets, as far as they are known here."""

    @abstractmethod
    def not_ready(self) -> str | None:
        """None when at least one worker is ready, at first all; else a reason."""

    @abstractmethod
    async def metrics(self) -> Snapshot:
        """The merged figures of all workers."""

    @abstractmethod
    async def status(self) -> list[dict[str, Any]]:
        """A picture of each worker."""

    @abstractmethod
    async def stop(self, within_s: float) -> bool:
        """Tell the workers to stop, kill those that have not after ``within_s``; False if any."""

    def fail(self, error: DragomanError) -> None:
        """They are not to go on; only the first reason counts."""
        if self.failure is None:
            self.failure = error
            self.failed.set()


class InlineWorkerPool(WorkerPool):
    """One worker on the supervisor's own loop."""

    def __init__(
        self, entry: Entry, config: AgentConfig, sockets: Sequence[socket.socket] = ()
    ) -> None:
        super().__init__()
        self._entry = entry
        self._config = config
        self._not_ready: str | None = STARTING
        self._worker = Worker(0, 1, self._take_state, sockets=sockets)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See WorkerPool."""
        self._task = asyncio.create_task(self._run(), name="worker")

    def addresses(self) -> list[str]:
        """See WorkerPool."""
        host, port = listen_address(self._config.listen)
        return [format_address(host, self._worker.port or port)]

    def sockets(self) -> list[socket.socket]:
        """See WorkerPool."""
        return self._worker.sockets

    def not_ready(self) -> str | None:
        """See WorkerPool."""
        return self._not_ready

    async def metrics(self) -> Snapshot:
        """See WorkerPool."""
        return await self._worker.metrics()

    async def status(self) -> list[dict[str, Any]]:
        """See WorkerPool."""
        reported = await self._worker.status()
        return [{"index": 0, "pid": os.getpid(), "not_ready": self._not_ready, **reported}]

    async def stop(self, within_s: float) -> bool:
        """See WorkerPool."""
        self._worker.stopping.set()
        if self._task is None:
            return True
        done, _ = await asyncio.wait((self._task,), timeout=within_s)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return bool(done)

    async def _run(self) -> None:
        try:
            await self._entry(self._config, self._worker)
            if not self._worker.stopping.is_set():
                self.fail(DragomanError("the worker ended by itself"))
        except DragomanError as error:
            self.fail(error)
        except Exception as error:
            log_fault(log, error, "the worker failed")
            self.fail(DragomanError(f"the worker failed: {place_of(error)}"))

    def _take_state(self, not_ready: str | None) -> None:
        self._not_ready = not_ready
        if not_ready is None:
            self.all_ready.set()


class _Slot:
    """The place of one worker: the process that holds it now, and what earlier ones left."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.not_ready: str | None = STARTING
        self.was_ready = False
        self.failure: Failed | None = None
        self.restarts = 0
        self.asked: dict[int, asyncio.Future[Answer]] = {}
        # The last figures of the present process, and the sum of all earlier ones.
        self.last: Answer | None = None
        self.retired = Snapshot()


class ProcessWorkerPool(WorkerPool):
    """A worker in a process of its own for each of ``configs``, listening on what ``sockets`` has
    in its place. They are ours, and ours to replace unless they are not our ``own``: whoever
    started the agent has them too."""

    def __init__(
        self,
        entry: Entry,
        configs: Sequence[AgentConfig],
        *,
        program: str,
        policy: RestartPolicy | None = None,
        sockets: Sequence[Sequence[socket.socket]] = (),
        own: bool = True,
    ) -> None:
        super().__init__()
        self._entry = entry
        self._configs = configs
        self._sockets = [list(each) for each in sockets] or [[] for _ in configs]
        self._own = own
        # All workers are one agent to those that they call.
        self._instance = secrets.token_hex(16)
        self._program = program
        self._policy = policy or RestartPolicy()
        self._slots = [_Slot(index) for index in range(len(configs))]
        self._tasks: list[asyncio.Task[None]] = []
        self._deaths: deque[float] = deque()
        self._stopping = asyncio.Event()
        self._next_id = 0

    async def start(self) -> None:
        """See WorkerPool."""
        self._tasks = [
            asyncio.create_task(self._keep(slot), name=f"worker {slot.index}")
            for slot in self._slots
        ]

    def addresses(self) -> list[str]:
        """See WorkerPool."""
        return sorted({config.listen for config in self._configs})

    def sockets(self) -> list[socket.socket]:
        """See WorkerPool."""
        return list(dict.fromkeys(each for sockets in self._sockets for each in sockets))

    def close_sockets(self) -> None:
        """Have none of the workers' sockets here any more: the last of each is its worker's."""
        for each in self.sockets():
            each.close()
        self._sockets = [[] for _ in self._configs]

    def not_ready(self) -> str | None:
        """See WorkerPool."""
        reasons = [slot.not_ready for slot in self._slots if slot.not_ready is not None]
        if not reasons or (self.all_ready.is_set() and len(reasons) < len(self._slots)):
            return None
        return reasons[0]

    async def metrics(self) -> Snapshot:
        """See WorkerPool. A worker that does not answer counts with its last figures."""
        await self._ask_all()
        snapshots = [slot.retired for slot in self._slots]
        snapshots += [slot.last.metrics for slot in self._slots if slot.last is not None]
        merged = merge(snapshots)
        running = sum(slot.process is not None for slot in self._slots)
        merged.gauge("dragoman_workers", running, "Worker processes running now.")
        merged.counter(
            "dragoman_worker_restarts_total",
            sum(slot.restarts for slot in self._slots),
            "Workers started again after they died.",
        )
        return merged

    async def status(self) -> list[dict[str, Any]]:
        """See WorkerPool."""
        await self._ask_all()
        return [
            {
                "index": slot.index,
                "pid": slot.process.pid if slot.process is not None else None,
                "not_ready": slot.not_ready,
                "restarts": slot.restarts,
                **(slot.last.status if slot.last is not None else {}),
            }
            for slot in self._slots
        ]

    async def stop(self, within_s: float) -> bool:
        """See WorkerPool."""
        self._stopping.set()
        # First of all: what waits in a socket's queue is the worker's, who then closes the last.
        self.close_sockets()
        for slot in self._slots:
            _signal(slot, signal.SIGTERM)
        pending: set[asyncio.Task[None]] = set()
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=within_s)
        for slot in self._slots:
            if slot.process is not None:
                log.warning("worker %d is not done in time: killed", slot.index)
            _signal(slot, signal.SIGKILL)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return not pending

    # One worker's life.

    async def _keep(self, slot: _Slot) -> None:
        """Run the worker of ``slot``, again and again, until stopping."""
        loop = asyncio.get_running_loop()
        policy = self._policy
        pause_s = policy.pause_min_s
        while not self._stopping.is_set():
            began_s = loop.time()
            try:
                code = await self._run_once(slot)
            except OSError as error:
                code = None
                slot.failure = Failed(f"cannot start a worker: {error.strerror}", False)
            if self._stopping.is_set() or not self._may_restart(slot):
                return
            if loop.time() - began_s >= policy.settled_s:
                pause_s = policy.pause_min_s
            log.error(
                "worker %d %s; starting it again in %.1f s", slot.index, _cause(slot, code), pause_s
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, policy.pause_max_s)
            slot.restarts += 1

    def _may_restart(self, slot: _Slot) -> bool:
        failure = slot.failure
        if failure is not None and not slot.was_ready:
            # It never worked: so it is not going to.
            kind = UsageError if failure.usage else DragomanError
            self.fail(kind(failure.message))
            return False
        now_s = asyncio.get_running_loop().time()
        self._deaths.append(now_s)
        while self._deaths[0] < now_s - self._policy.window_s:
            self._deaths.popleft()
        if len(self._deaths) > self._policy.deaths_max:
            many = f"{len(self._deaths)} workers died within {self._policy.window_s:g} s"
            self.fail(DragomanError(f"{many}: giving up"))
            return False
        return True

    async def _run_once(self, slot: _Slot) -> int | None:
        """Start a process, talk with it until it is gone, and give its exit code."""
        slot.failure = None
        sockets = self._sockets[slot.index]
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "dragoman.agent.worker",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *(each.fileno() for each in sockets)),
                )
            except BaseException:
                ours.close()
                raise
        slot.process = process
        if self._stopping.is_set():
            _signal(slot, signal.SIGKILL)  # told to stop while it was being started
        slot.channel = await Channel.open(ours)
        slot.channel.send(self._start_message(slot.index))
        try:
            while True:
                self._take(slot, await slot.channel.receive())
        except LinkLostError:
            pass
        except ProtocolError as error:
            log.error("worker %d: %s", slot.index, error)
            _signal(slot, signal.SIGKILL)
        finally:
            await slot.channel.close()
            slot.channel = None
            slot.not_ready = "the worker is not running"
        code = await process.wait()
        slot.process = None
        if not self._stopping.is_set():
            self._renew(sockets)
        if slot.last is not None:
            slot.retired = merge([slot.retired, without_gauges(slot.last.metrics)])
            slot.last = None
        for future in slot.asked.values():
            future.cancel()
        slot.asked.clear()
        return code

    def _renew(self, sockets: list[socket.socket]) -> None:
        """The worker that listened on ``sockets`` is gone. Where others share its port, nothing
        more is to wait in its queue: connections go to them."""
        for i, each in enumerate(sockets):
            shared = sum(each in others for others in self._sockets) > 1
            if self._own and shares_port(each) and not shared:
                with suppress(UsageError):
                    sockets[i] = held(format_address(*each.getsockname()[:2]))
                    each.close()

    def _start_message(self, index: int) -> Start:
        config = self._configs[index]
        return Start(
            entry=dotted_path(self._entry),
            config_type=dotted_path(type(config)),
            config=msgspec.Raw(msgspec.json.encode(config)),
            index=index,
            count=len(self._configs),
            program=self._program,
            sockets=[each.fileno() for each in self._sockets[index]],
            instance=self._instance,
        )

    def _take(self, slot: _Slot, message: object) -> None:
        if isinstance(message, State):
            slot.not_ready = message.not_ready
            slot.was_ready = slot.was_ready or message.not_ready is None
            if all(each.not_ready is None for each in self._slots):
                self.all_ready.set()
        elif isinstance(message, Answer):
            slot.last = message
            future = slot.asked.pop(message.id, None)
            if future is not None and not future.done():
                future.set_result(message)
        elif isinstance(message, Failed):
            slot.failure = message

    async def _ask_all(self, timeout_s: float = 1.0) -> None:
        """Have every worker's ``last`` refreshed, as far as it answers within ``timeout_s``."""
        waiting = []
        for slot in self._slots:
            if slot.channel is not None:
                self._next_id += 1
                future = asyncio.get_running_loop().create_future()
                slot.asked[self._next_id] = future
                slot.channel.send(Ask(self._next_id))
                waiting.append(future)
        if waiting:
            await asyncio.wait(waiting, timeout=timeout_s)
        for slot in self._slots:
            slot.asked = {id: each for id, each in slot.asked.items() if not each.done()}


def _signal(slot: _Slot, number: signal.Signals) -> None:
    if slot.process is not None and slot.process.returncode is None:
        with suppress(ProcessLookupError):
            slot.process.send_signal(number)


def _cause(slot: _Slot, code: int | None) -> str:
    if slot.failure is not None:
        return f"failed: {slot.failure.message}"
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def entry_of(entry: Entry | str) -> Entry:
    """The entry function itself, or the one that its dotted path names."""
    return resolve(entry) if isinstance(entry, str) else entry
