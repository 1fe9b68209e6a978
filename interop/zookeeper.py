"""A ZooKeeper from Maven's artefacts, for the length of a block."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from dragoman.harness.etcd import free_ports
from interop.java import HOME
from interop.mesh import HOST, wait_until
from interop.programs import Program


@contextmanager
def zookeeper() -> Iterator[str]:
    """Its ``host:port``."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as directory:
        command = ["java", "-Xmx96m", "-XX:+UseSerialGC", "-Dzookeeper.admin.enableServer=false"]
        command += ["-Dzookeeper.4lw.commands.whitelist=srvr", "-Dzookeeper.forceSync=no"]
        # The release that Curator 4 brings, which all clients here speak to.
        command += ["-cp", f"{HOME}/dubbo27/target/lib/*"]
        command += ["org.apache.zookeeper.server.ZooKeeperServerMain", str(port), directory]
        with Program("zookeeper", command) as program:
            wait_until(lambda: _answers(port), "ZooKeeper", program.errors)
            yield f"{HOST}:{port}"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), 1.0) as connection:
            connection.sendall(b"srvr")
            return b"Mode: " in connection.recv(4096)
    except OSError:
        return False
