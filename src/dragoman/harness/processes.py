"""Child processes: start, wait until ready, stop, keep the output.

Called by the workflow, the load drivers and ``benchmarks``. The invariants: every process started
is noted before anything else can fail, and stopped by its own pid, its descendants too, whatever
happened; it is in a session of its own, so that Ctrl-C at a terminal reaches only its parent; and
the kernel kills it if the parent itself is killed (PR_SET_PDEATHSIG, bound to the thread that
starts it: start from the main thread).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragoman.errors import DragomanError
from dragoman.harness import cpu
from dragoman.harness.interruption import Interruption

log = logging.getLogger(__name__)
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG = 1
TAIL_LINES = 8
# An agent may take this long to drain.
STOP_GRACE_S = 10.0


class ProcessError(DragomanError):
    """A process did not start, did not become ready, or failed; holds the end of its output."""


@dataclass(slots=True)
class Child:
    """One running process; made by ``Processes.start``."""

    name: str
    role: str
    command: list[str]
    log_path: Path
    stdout_path: Path
    process: subprocess.Popen[bytes]
    started_s: float
    usage: cpu.CpuTime = field(default_factory=cpu.CpuTime)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def poll(self) -> int | None:
        """The return code, or None while it runs; reaps it and keeps its CPU time in ``usage``."""
        if self.process.returncode is None:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.process.returncode = 0
                return 0
            if pid:
                self.process.returncode = os.waitstatus_to_exitcode(status)
                self.usage = cpu.CpuTime(usage.ru_utime, usage.ru_stime)
        return self.process.returncode

    def cpu(self) -> cpu.CpuTime:
        """The CPU time that it and its descendants have spent so far."""
        return cpu.of_tree(self.pid) if self.poll() is None else self.usage

    def tail(self) -> list[str]:
        """The last lines of its output that say something."""
        for path in (self.log_path, self.stdout_path):
            with contextlib.suppress(OSError):
                lines = path.read_text(errors="replace").split("\n")
                written = [line for line in lines if any(map(str.isalnum, line))]
                if written:
                    return written[-TAIL_LINES:]
        return []

    def described(self) -> str:
        """One line: return code and the last line of the output; more of it goes to the log."""
        code = self.poll()
        state = "still runs" if code is None else f"return code {code}"
        tail = self.tail()
        if not tail:
            return f"{state}; no output"
        log.error("%s, %s; its output ends:\n%s", self.name, state, "\n".join(tail))
        return f"{state}; {self.log_path.name} ends: {tail[-1].strip(' │')}"


class Processes:
    """Context manager over all the children; leaving it stops them, newest first."""

    def __init__(
        self, log_directory: Path, interruption: Interruption, grace_s: float = STOP_GRACE_S
    ) -> None:
        self._logs = log_directory
        self._grace_s = grace_s
        self._interruption = interruption
        self.children: list[Child] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_all()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        role: str = "",
        memory_bytes: int | None = None,
        environment: dict[str, str] | None = None,
        separate_stdout: bool = False,
    ) -> Child:
        """Start a process whose output goes to ``<name>.log``; raises ProcessError if it cannot be.

        ``memory_bytes`` bounds its address space (RLIMIT_AS). ``separate_stdout`` keeps standard
        output apart, in ``<name>.out``.
        """
        self._interruption.check()
        log_path = self._logs / f"{name}.log"
        stdout_path = self._logs / f"{name}.out" if separate_stdout else log_path
        log.info("start %s: %s", name, shlex.join(command))
        with log_path.open("ab") as output, stdout_path.open("ab") as stdout:
            try:
                process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, **(environment or {})},
                    preexec_fn=_preparation(os.getpid(), memory_bytes),  # noqa: PLW1509 - no threads
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise ProcessError(f"{name}: {shlex.join(command)}: {error}") from error
        child = Child(name, role, list(command), log_path, stdout_path, process, time.monotonic())
        self.children.append(child)
        return child

    def wait_ready(self, child: Child, ready: Callable[[], bool], timeout_s: float) -> None:
        """Ask ``ready`` until it is true; ProcessError when the process ends or time is up."""

        def ended_or_ready() -> bool:
            return child.poll() is not None or ready()

        in_time = self._interruption.wait_until(ended_or_ready, timeout_s)
        took_s = time.monotonic() - child.started_s
        if child.poll() is not None:
            raise ProcessError(f"{child.name} ended before it was ready: {child.described()}")
        if not in_time:
            raise ProcessError(
                f"{child.name} was not ready within {timeout_s:g} s: {child.described()}"
            )
        log.info("%s is ready after %.2f s (pid %d)", child.name, took_s, child.pid)

    def check_alive(self) -> None:
        """Raise ProcessError naming the first process that has ended by itself."""
        for child in self.children:
            if child.poll() is not None:
                raise ProcessError(f"{child.name} ended by itself: {child.described()}")

    def of_role(self, role: str) -> list[Child]:
        """The children that run for ``role``."""
        return [child for child in self.children if child.role == role]

    def stop(self, child: Child) -> None:
        """SIGTERM, then SIGKILL after the grace period, to it and to what it left."""
        self.stop_many([child])

    def stop_all(self) -> None:
        """Stop every child. Consumers go before providers: the newest first, a role at a time."""
        while self.children:
            role = self.children[-1].role
            self.stop_many([child for child in self.children if child.role == role])

    def stop_many(self, children: list[Child]) -> None:
        """Stop ``children`` together; see ``stop``."""
        descendants = {pid for each in children for pid in cpu.process_tree(each.pid)[1:]}
        for child in children:
            if child.poll() is None:
                _signal(child.pid, signal.SIGCONT)
                _signal(child.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + self._grace_s
        while time.monotonic() < deadline_s and any(each.poll() is None for each in children):
            time.sleep(0.01)
        for child in children:
            if child.poll() is None:
                log.warning("%s ignored SIGTERM for %g s: killed", child.name, self._grace_s)
                descendants.update(cpu.process_tree(child.pid)[1:])
                _signal(child.pid, signal.SIGKILL)
                while child.poll() is None:
                    time.sleep(0.005)
            log.info("%s stopped: return code %s", child.name, child.process.returncode)
            if child in self.children:
                self.children.remove(child)
        for pid in descendants:
            if cpu.session_of(pid) in {each.pid for each in children}:
                log.warning("process %d outlived its parent: killed", pid)
                _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _preparation(parent_pid: int, memory_bytes: int | None) -> Callable[[], None]:
    """Prepare the child before its program runs: only system calls, nothing that takes a lock."""

    def prepare() -> None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # the parent died before the kernel knew
            os._exit(1)
        if memory_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    return prepare


def raise_descriptor_limit() -> int:
    """Allow as many descriptors as the hard limit does; children inherit it. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
