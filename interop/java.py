"""The Java programs of ``interop/java``: built with Maven, started on free ports, stopped by pid.

Used by the recorder, the matrix and ``tests/interop``. The invariant: only processes that were
started here are signalled, and none outlives its ``JavaProgram``.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HOME = Path(__file__).parent / "java"
RELEASES = {"2.6": "dubbo26", "2.7": "dubbo27", "3.3": "dubbo33"}
# What the older releases reach into; they are from before Java 9 closed it.
OPENED = ["io", "lang", "lang.invoke", "lang.reflect", "math", "net", "text", "time"]
OPENED += ["util", "util.concurrent"]
BUILD_S = 900
# The host of loopback addresses: Dubbo puts the machine's own address in place of 127.0.0.1.
LOOPBACK = "dragoman.test"
_PRCTL = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class JavaMissing(RuntimeError):
    """Java, Maven or an artefact is not to be had; the text says which, plainly."""


def build() -> None:
    """Build the programs where that has not been done. JavaMissing when it cannot be."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise JavaMissing(f"no {program} on PATH")
    stamp = HOME / "target" / ".built"
    sources = [each for end in ("java", "xml", "allowlist") for each in HOME.rglob(f"*.{end}")]
    newest = max(each.stat().st_mtime for each in sources if "target" not in each.parts)
    if stamp.exists() and stamp.stat().st_mtime >= newest:
        return
    said = ""
    # First without the network: where all artefacts are there, that is faster and always works.
    for offline in (["-o"], []):
        run = subprocess.run(
            ["mvn", "-q", "-B", *offline, "package"],
            cwd=HOME,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
        if run.returncode == 0:
            stamp.parent.mkdir(exist_ok=True)
            stamp.touch()
            return
        said = run.stdout + run.stderr
    if "Could not resolve" in said or "could not be resolved" in said:
        lines = [line for line in said.splitlines() if "ERROR" in line]
        raise JavaMissing(f"Maven's artefacts are not to be had: {lines[0] if lines else said}")
    raise RuntimeError(f"the Java programs do not build:\n{said}")


class JavaProgram:
    """``org.dragoman.interop.NAME`` of a release of Dubbo, with settings ``name=value``.

    Ready when it has printed a line that begins with "ready"; ``lines`` are all that it printed.
    """

    def __init__(self, release: str, name: str, **settings: object) -> None:
        folder = HOME / RELEASES[release]
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        for package in OPENED:
            command += ["--add-opens", f"java.base/java.{package}=ALL-UNNAMED"]
        command += [f"-Djdk.net.hosts.file={HOME / 'hosts'}"]
        command += ["-cp", f"{folder}/target/classes:{folder}/target/lib/*"]
        command += [f"org.dragoman.interop.{name}"]
        command += [f"{key}={value}" for key, value in settings.items()]
        self.name = f"{name} {release}"
        self.lines: list[str] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
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

    def wait_line(self, start: str, timeout_s: float = 60.0) -> str:
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

    def wait_ready(self) -> JavaProgram:
        """Return when it serves, or begins to call."""
        self.wait_line("ready")
        return self

    def wait_end(self, timeout_s: float = 120.0) -> list[dict[str, Any]]:
        """Wait for its end; the lines of JSON that it printed."""
        self.process.wait(timeout_s)
        self._reader.join(5)
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def errors(self) -> str:
        """The end of what it has said to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def terminate(self) -> None:
        """SIGTERM: a graceful end begins."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)

    def __enter__(self) -> JavaProgram:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._errors.close()


def maven_present() -> str | None:
    """Why the Java programs cannot be run, or None."""
    try:
        build()
    except JavaMissing as missing:
        return str(missing)
    return None


def environment() -> str:
    """Java's version, as it says."""
    run = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = run.stderr.splitlines()
    return found[0] if found else os.environ.get("JAVA_HOME", "unknown")
