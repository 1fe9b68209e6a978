"""A listening socket, or one clear line about why there is none. Used by both agents."""

from __future__ import annotations

import errno
import socket

from dragoman.errors import UsageError
from dragoman.agent.config import listen_address


def listening_socket(address: str, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking TCP socket bound to ``host:port`` (0: any free port), to be owned by the caller.

    ``reuse_port`` lets several workers share it (SO_REUSEPORT). Raises UsageError when the address is not
    this machine's or is in use.
    """
    host, port = listen_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror}") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        listener.bind(found[0][4])
    except OSError as error:
        listener.close()
        why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise UsageError(f"cannot listen on {address}: {why}") from None
    return listener
