"""The race's network: loopback ports, found free and held until the race is over.

Called by the workflow. The invariant: from ``reserve`` on, nobody else is given these ports by
chance. A bound socket that does not listen holds each one. It is bound without SO_REUSEADDR, so a
port that anybody has is not taken, and given SO_REUSEADDR afterwards, so that the process it is
meant for can bind and listen beside it (both sides must allow it, and servers do); before that
process does, nothing can connect.
"""

from __future__ import annotations

import errno
import logging
import socket

from dragoman.errors import DragomanError

LOG = logging.getLogger(__name__)
HOST = "127.0.0.1"


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
                LOG.info("port %d is taken, %s gets another", port, name)
                continue
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held[name] = held
            break
        return self.ports[name]


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
