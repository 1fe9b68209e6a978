"""Loopback ports, found free and held until the processes are started that they are meant for.

Called by the race's workflow. The invariant: from ``reserve`` to ``give`` nobody else gets a port,
whatever options it sets. A bound socket that does not listen holds each one, without SO_REUSEADDR:
the system lets two sockets share an address only where both allow it. ``give`` allows it, right
before the process that the port is meant for is started; from then on the system gives the port to
nobody by chance, but a server that asks for this very number could be quicker. So who has started
its processes asks ``lost`` which ports others listen on, and begins again with other ports.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from dragoman.errors import DragomanError

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
# A state of proc(5)'s net/tcp.
_LISTENING = "0A"


class NetworkError(DragomanError):
    """No port could be had."""


class Network:
    """Context manager that holds ports of 127.0.0.1."""

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held.values():
            held.close()
        self._held.clear()

    @property
    def ports(self) -> dict[str, int]:
        """The ports by the names they were reserved under."""
        return {name: held.getsockname()[1] for name, held in self._held.items()}

    def reserve(self, name: str, preferred: int = 0) -> int:
        """Hold ``preferred`` or, if somebody has it, any free port; returns it.

        Raises NetworkError when none is free.
        """
        for port in (preferred, 0) if preferred else (0,):
            held = socket.socket()
            try:
                held.bind((HOST, port))
            except OSError as error:
                held.close()
                if port == 0 or error.errno != errno.EADDRINUSE:
                    raise NetworkError(f"{HOST}:{port} for {name}: {error.strerror}") from error
                log.info("port %d is taken, %s gets another", port, name)
                continue
            self._held[name] = held
            break
        return self.ports[name]

    def give(self, *names: str) -> None:
        """Let the process that is started next listen on these ports."""
        for name in names:
            self._held[name].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def lend(self, name: str) -> int:
        """Reserve any port and give it away at once; returns it."""
        port = self.reserve(name)
        self.give(name)
        return port

    def lost(self, pids: Iterable[int]) -> dict[str, int]:
        """The ports on which somebody listens who is none of these processes."""
        ports = set(self.ports.values())
        others = _listeners(ports)
        if others:
            own = {inode for pid in pids for inode in _sockets(pid)}
            # Once more: what was of a process that has ended meanwhile is nobody's.
            others = {each: port for each, port in _listeners(ports).items() if each not in own}
        taken = set(others.values())
        return {name: port for name, port in self.ports.items() if port in taken}


def _listeners(ports: Collection[int]) -> dict[int, int]:
    """Inode and port of each socket that listens on one of the ports, at any address."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # no IPv6, or a system that is not Linux
            continue
        for line in lines:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == _LISTENING and port in ports:
                found[int(fields[9])] = port
    return found


def _sockets(pid: int) -> Iterable[int]:
    """The inodes of the sockets that a process has open."""
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                kind, _, inode = os.readlink(entry.path).partition(":[")
            except OSError:
                continue
            if kind == "socket":
                yield int(inode.rstrip("]"))
    except OSError:
        return


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
