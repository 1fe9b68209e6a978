"""A contestant's two processes: started, told what to measure, stopped by their ids.

Used by ``run``. The invariant: leaving the ``with`` leaves no process behind, and a process that
fails or hangs ends its measurement with what it said last, never the whole run.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO, Any, TypeVar

import msgspec

from dragoman.bench.rpc.client import Answer, Command
from dragoman.bench.rpc.contestant import BenchError, Cpu, Sample, Work
from dragoman.bench.rpc.server import Ready
from dragoman.harness.cpu import resident_bytes

START_S = 15.0
STOP_S = 5.0

T = TypeVar("T")


class Child:
    """One process that answers lines with lines."""

    def __init__(self, *arguments: str) -> None:
        self._name = arguments[0]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"dragoman.bench.rpc.{arguments[0]}", *arguments[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self.pid = self._process.pid

    def ask(self, question: Any, kind: type[T], timeout_s: float) -> T:
        """Send a line, wait for one. Raises BenchError."""
        assert self._process.stdin
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
        except OSError:
            raise self._ended() from None
        return self.wait(kind, timeout_s)

    def wait(self, kind: type[T], timeout_s: float) -> T:
        """Wait for a line. Raises BenchError."""
        assert self._process.stdout
        end_s = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            left_s = max(0.0, end_s - time.monotonic())
            if not select.select([self._process.stdout], [], [], left_s)[0]:
                raise BenchError(f"the {self._name} did not answer within {timeout_s:.0f} s")
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                raise self._ended()
            line += part
        return msgspec.json.decode(line, type=kind)

    def stop(self) -> None:
        """End the process, by its id."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ended(self) -> BenchError:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return BenchError(f"the {self._name} has ended: {lines[-1] if lines else 'no message'}")


class Pair:
    """The server and the client of one contestant, running while the ``with`` lasts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._children: list[Child] = []

    def __enter__(self) -> Pair:
        try:
            self.server = self._start("server", self._name)
            address = self.server.wait(Ready, START_S).address
            self.client = self._start("client", self._name, address)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    def measure(self, work: Work) -> tuple[Sample, Cpu]:
        """One measurement: what the client saw, and what the server's process used for it.

        Raises BenchError.
        """
        timeout_s = 30 + 10 * work.seconds
        self._place(apart=work.style == "lone")
        self._command(Command("prepare", work), timeout_s)
        before = self.server.ask(None, Cpu, timeout_s)
        sample = self._command(Command("measure"), timeout_s).sample
        after = self.server.ask(None, Cpu, timeout_s)
        self._command(Command("finish"), timeout_s)
        assert sample is not None
        return sample, Cpu(after.user_s - before.user_s, after.system_s - before.system_s)

    def _place(self, *, apart: bool) -> None:
        """Keep the two main threads on cores of their own, or let them run wherever they like.

        One call at a time is answered within 7 us instead of 70 when the scheduler happens to put
        both on one core: rounds of both kinds could not be compared.
        """
        cores = sorted(os.sched_getaffinity(0))
        for index, child in enumerate(self._children):
            own = {cores[index]} if apart and len(cores) > 1 else cores
            with contextlib.suppress(ProcessLookupError):  # asking it will say so
                os.sched_setaffinity(child.pid, own)

    def idle(self, connections: int) -> dict[str, Any]:
        """Memory of ``connections`` that do nothing, in bytes each. Raises BenchError."""
        timeout_s = 30 + connections / 100
        # What the first connection loads and allocates is not each connection's.
        self._command(Command("prepare", Work("idle", connections=1)), timeout_s)
        before = [resident_bytes(child.pid) for child in self._children]
        self._command(Command("prepare", Work("idle", connections=1 + connections)), timeout_s)
        self._command(Command("measure"), timeout_s)
        after = [resident_bytes(child.pid) for child in self._children]
        self._command(Command("finish"), timeout_s)
        each = [round((new - old) / connections) for old, new in zip(before, after, strict=True)]
        return {"connections": connections, "bytes_each": {"server": each[0], "client": each[1]}}

    def stop(self) -> None:
        """End both processes."""
        while self._children:
            self._children.pop().stop()

    def _start(self, *arguments: str) -> Child:
        child = Child(*arguments)
        self._children.append(child)
        return child

    def _command(self, command: Command, timeout_s: float) -> Answer:
        answer = self.client.ask(command, Answer, timeout_s)
        if answer.error:
            raise BenchError(answer.error)
        return answer
