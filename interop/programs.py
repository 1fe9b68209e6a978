"""Programs as children: started, waited for, stopped by pid.

Used by all of ``interop``. The invariant: only processes that were started here are signalled, and
none outlives its ``Program``, nor this process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

READY_S = 60.0
_PRCTL = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parent.parent


def _die_with_parent() -> None:
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Program:
    """A child; ``lines`` are all that it printed to standard output."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str] | None = None):
        self.name = name
        self.lines: list[str] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - only a system call
        )
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def wait_line(self, start: str, timeout_s: float = READY_S) -> str:
        """The first line that begins with ``start``, waited for."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self.lines:
                    if line.startswith(start):
                        return line
                left_s = until - time.monotonic()
                if self._ended or left_s < 0:
                    raise AssertionError(f"{self.name} printed no {start!r}: {self.errors()}")
                self._changed.wait(left_s)

    def wait_end(self, timeout_s: float = 120.0) -> list[str]:
        """Wait for its end; all that it printed."""
        self.process.wait(timeout_s)
        self._reader.join(5)
        return self.lines

    def errors(self) -> str:
        """The end of what it has said to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self) -> None:
        """SIGTERM: a graceful end begins."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


def python_program(name: str, module: str, *arguments: str) -> Program:
    """``python -m MODULE ARGUMENTS`` of this source tree."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return Program(name, [sys.executable, "-m", module, *arguments], {"PYTHONPATH": path})


def dragoman(name: str, *arguments: str) -> Program:
    """``dragoman ARGUMENTS`` of this source tree."""
    return python_program(name, "dragoman", *arguments)
