"""A real ZooKeeper as a child process: Debian's package, with a configuration of its own.

The only process that is ever signalled is the one started here, by its own pid; port and data stay
the same over a restart.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dragoman.harness.etcd import free_ports

JAR = Path("/usr/share/java/zookeeper.jar")
TICK_MS = 250
START_S = 30.0
SETTINGS = """
tickTime={tick}
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=srvr
"""


class ZookeeperServer:
    """One server on 127.0.0.1 with its data under ``directory``. Sessions last 0.5 s at the least
    and 30 s at the most."""

    def __init__(self, directory: Path) -> None:
        if not JAR.exists() or shutil.which("java") is None:
            pytest.skip("no ZooKeeper here: Debian's package zookeeper is not installed")
        self.directory = directory
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its registry URL."""
        return f"zookeeper://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        settings = self.directory / "zoo.cfg"
        settings.write_text(
            SETTINGS.format(tick=TICK_MS, data=data, port=self.port)
            + f"minSessionTimeout={2 * TICK_MS}\nmaxSessionTimeout=30000\n"
        )
        with (self.directory / "zookeeper.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("java", "-Xmx96m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                    *("-Dzookeeper.forceSync=no", "-Dzookeeper.jmx.log4j.disable=true"),
                    *("-cp", str(JAR), "org.apache.zookeeper.server.ZooKeeperServerMain"),
                    str(settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "JMXDISABLE": "true"},
            )

    def wait_ready(self) -> None:
        """Return once it answers."""
        assert self._process is not None
        until_s = time.monotonic() + START_S
        while not self._answers():
            text = (self.directory / "zookeeper.log").read_text(errors="replace")
            assert self._process.poll() is None, text[-2000:]
            assert time.monotonic() < until_s, text[-2000:]
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"srvr")
                # Before that it takes connections, and ends them again.
                return b"Mode: " in connection.recv(4096)
        except OSError:
            return False

    def pause(self) -> None:
        """SIGSTOP: its connections stay, it does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; the data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Forget everything; only while it does not run."""
        assert self._process is None
        shutil.rmtree(self.directory / "data", ignore_errors=True)
