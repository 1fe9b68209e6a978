"""Listening sockets of the agents, or one clear line about why there is none.

Workers that share a port bind it with SO_REUSEPORT. Their supervisor *reserves* it first: it makes
sure that nobody else listens there, then binds a socket that never listens, so that the port stays
ours while workers come and go. The invariant: two agents never share a port by accident.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from dragoman.agent.config import listen_address
from dragoman.errors import UsageError
from dragoman.reasons import reason
from dragoman.registry import format_address

# More than 8,000 clients may connect at once; the kernel cuts it to net.core.somaxconn.
BACKLOG: Final = 16384


def listening_socket(address: str, *, reuse_port: bool = False) -> socket.socket:
    """A non-blocking TCP socket listening on ``host:port`` (0: any free port), owned by the caller.

    ``reuse_port`` lets several workers share it (SO_REUSEPORT). Raises UsageError when the address
    is not this machine's or is in use.
    """
    return _bound(*listen_address(address), reuse_port=reuse_port, listening=True)


def reserve(address: str) -> socket.socket:
    """A socket that holds ``host:port`` (0: any free port) for workers that bind it themselves.

    Raises UsageError when somebody listens there already, or it cannot be listened on at all.
    """
    host, port = listen_address(address)
    # Without SO_REUSEPORT this fails even beside a listener that would share.
    with _bound(host, port, reuse_port=False, listening=True) as probe:
        port = probe.getsockname()[1]
    return _bound(host, port, reuse_port=True, listening=False)


def held(address: str) -> socket.socket:
    """A socket that shares ``host:port`` with others of ours, and does not listen yet."""
    return _bound(*listen_address(address), reuse_port=True, listening=False)


def shares_port(sock: socket.socket) -> bool:
    """Whether others may listen on the port of ``sock`` beside it."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def bound_address(sock: socket.socket) -> str:
    """The address of ``sock``: ``host:port`` in numbers."""
    return format_address(*sock.getsockname()[:2])


def resolved(address: str) -> str:
    """``host:port`` in numbers, as the socket that listens there has it. Raises UsageError."""
    host, port = listen_address(address)
    return format_address(*_found(host, port)[:2])


def is_free(address: str) -> bool:
    """Whether nobody listens on ``host:port`` now. Raises UsageError for a host that is unknown."""
    host, port = listen_address(address)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(_found(host, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def is_at(sock: socket.socket, address: str) -> bool:
    """Whether ``sock`` listens on ``host:port``."""
    host, port = listen_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(port) and sock.getsockname()[:2] in [each[4][:2] for each in found]


def bound_socket(host: str, port: int) -> socket.socket:
    """A non-blocking socket listening on ``host:port``. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)[0][4]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def explain(error: OSError) -> str:
    """Why an address cannot be listened on, in a few words."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EACCES:
        return "not permitted to listen on this port"
    return reason(error)


def _found(host: str, port: int) -> Any:
    """The address to bind for ``host``, which may be a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {reason(error)}") from None


def _bound(host: str, port: int, *, reuse_port: bool, listening: bool) -> socket.socket:
    found = _found(host, port)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(found)
        if listening:
            # Linux lets two sockets with SO_REUSEADDR bind one port; only listening tells them
            # apart.
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on {host}:{port}: {explain(error)}") from None
    return sock
