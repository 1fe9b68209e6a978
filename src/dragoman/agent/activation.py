"""Listening sockets that whoever starts an agent has opened: systemd's socket activation.

See sd_listen_fds(3): descriptors from 3 on, ``LISTEN_FDS`` of them, for the process ``LISTEN_PID``;
``LISTEN_FDNAMES`` names them. Those called ``admin`` are for the admin pages, all others for what
``--listen`` says. Such a socket outlives the agent: between two agents clients wait in its queue.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from dragoman.errors import UsageError

FIRST_DESCRIPTOR: Final = 3
ADMIN_NAME: Final = "admin"
VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def activated(
    environment: MutableMapping[str, str],
) -> tuple[list[socket.socket], list[socket.socket]]:
    """The sockets for requests and those for admin pages that this process was given.

    The variables are taken out of ``environment``: they are not for the processes that this one
    starts. Raises UsageError for what is no listening TCP socket.
    """
    count, pid, names = (environment.pop(name, "") for name in VARIABLES)
    if not count or pid != str(os.getpid()):
        return [], []
    if not (count.isascii() and count.isdigit() and len(count) < 5):
        raise UsageError(f"LISTEN_FDS {count!r}: expected a whole number")
    listen: list[socket.socket] = []
    admin: list[socket.socket] = []
    called = names.split(":")
    for i in range(int(count)):
        sock = _listening(FIRST_DESCRIPTOR + i)
        is_admin = i < len(called) and called[i] == ADMIN_NAME
        (admin if is_admin else listen).append(sock)
    return listen, admin


def _listening(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
        if (
            sock.family in (socket.AF_INET, socket.AF_INET6)
            and sock.type == socket.SOCK_STREAM
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            sock.setblocking(False)
            os.set_inheritable(descriptor, False)
            return sock
    except OSError:
        pass
    raise UsageError(f"LISTEN_FDS: descriptor {descriptor}: expected a listening TCP socket")
