"""Accepting connections, and not accepting while there are no descriptors for them.

An event loop's own server accepts whatever happens: where descriptors have run out, libuv closes
the connections that wait, unanswered, and asyncio tries again and again. An ``Acceptor`` leaves
them in the kernel's queue until there is room, and keeps some descriptors back for what the
connections need beside themselves. Everything of dragoman that listens for others listens by it:
agents, ``rpc.serve``, the SDK's server.

Invariants: of the process's descriptors ``reserve()`` are never given to a connection; while
accepting pauses the loop sleeps but for a look ``PAUSE_S`` later; a connection that was accepted is
its protocol's or closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
import stat
from collections.abc import Callable, Sequence
from typing import Any, Final

from dragoman.forking import opened

log = logging.getLogger("dragoman.accepting")

Factory = Callable[[], asyncio.BaseProtocol]

# Connections taken before the loop turns to those that it has.
ACCEPTS_A_TICK: Final = 64
PAUSE_S: Final = 0.05
# How often a pause is told, at most.
TOLD_S: Final = 10.0
RESERVED_MAX: Final = 64
# So often another free port is looked for that a host's families can share.
PORT_ATTEMPTS: Final = 20
# How long a TLS handshake may take.
TLS_HANDSHAKE_S: Final = 5.0

_OUT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def reserve(allowed: int) -> int:
    """How many of ``allowed`` descriptors are kept from connections."""
    return min(RESERVED_MAX, allowed // 8)


def has_room(sock: socket.socket) -> bool:
    """Whether the process has a descriptor for one more connection; ``sock`` is any open one."""
    try:
        # The lowest that is free: all below it are in use.
        free = os.dup(sock.fileno())
    except OSError:
        return False
    os.close(free)
    return free < _bound()


def _bound() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 31 if soft == resource.RLIM_INFINITY else soft - reserve(soft)


class Acceptor:
    """Accepts on listening, non-blocking ``sockets``, which it owns, with protocols of ``factory``.

    ``start`` begins; ``close`` ends it. ``a_tick``: how many connections it takes at a time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        factory: Factory,
        *,
        tls: ssl.SSLContext | None = None,
        a_tick: int = ACCEPTS_A_TICK,
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._a_tick = a_tick
        self._options: dict[str, Any] = {}
        if tls is not None:
            self._options = {"ssl": tls, "ssl_handshake_timeout": TLS_HANDSHAKE_S}
        self._opening: set[asyncio.Task[Any]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._told_s = -TOLD_S
        self._told = False
        self.sockets = list(sockets)

    def start(self) -> None:
        """Accept from now on."""
        for sock in self.sockets:
            opened(sock.fileno())
            if sock.family != getattr(socket, "AF_UNIX", None):
                # What is accepted has it too.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._loop.add_reader(sock.fileno(), self._readable, sock)

    def close(self, *, rest: bool = False) -> None:
        """Listen no longer. With ``rest`` what waits in the kernel's queue is accepted first, for
        closing the last of a socket's descriptors resets it. May be called twice."""
        if rest and self._again is None:
            for sock in self.sockets:
                self._take(sock, 1 << 20)
        self._stop()
        sockets, self.sockets = self.sockets, []
        for sock in sockets:
            sock.close()

    @property
    def paused(self) -> bool:
        """Whether it waits for descriptors."""
        return self._again is not None

    def _stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for sock in self.sockets:
            self._loop.remove_reader(sock.fileno())

    def _readable(self, sock: socket.socket) -> None:
        if not self._take(sock, self._a_tick):
            self._pause()

    def _take(self, sock: socket.socket, most: int) -> bool:
        """Accept what waits, ``most`` of it; False when descriptors have run out."""
        bound = _bound()
        for _ in range(most):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                return True
            except OSError as error:
                if error.errno in _OUT:
                    return False
                continue  # that client has left already
            self._open(connection)
            if connection.fileno() >= bound:
                return False
        return True

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = self._loop.create_task(
            self._loop.connect_accepted_socket(self._factory, connection, **self._options)
        )
        self._opening.add(task)
        task.add_done_callback(lambda task: self._opened(task, connection))

    def _opened(self, task: asyncio.Task[Any], connection: socket.socket) -> None:
        self._opening.discard(task)
        if task.cancelled() or task.exception() is not None:
            # It left, or its handshake failed: nobody's but its own concern.
            if not task.cancelled():
                log.debug("a connection came to nothing: %s", task.exception())
            with contextlib.suppress(OSError):
                connection.close()

    def _pause(self) -> None:
        self._stop()
        self._again = self._loop.call_later(PAUSE_S, self._look)
        self._tell_pause()

    def _room(self) -> bool:
        """Whether a pause may end."""
        return has_room(self.sockets[0])

    def _tell_pause(self) -> None:
        now_s = self._loop.time()
        if now_s - self._told_s >= TOLD_S:
            self._told_s = now_s
            self._told = True
            log.warning("accepting pauses: no file descriptors are left for more connections")

    def _look(self) -> None:
        if not self.sockets:
            return
        if not self._room():
            self._again = self._loop.call_later(PAUSE_S, self._look)
            return
        self._again = None
        if self._told:
            self._told = False
            log.info("accepting goes on")
        self.start()


async def listen(
    loop: asyncio.AbstractEventLoop,
    factory: Factory,
    host: str,
    port: int,
    *,
    backlog: int,
    tls: ssl.SSLContext | None = None,
    reuse_port: bool = False,
) -> Acceptor | asyncio.Server:
    """Accept on ``host`` (empty or ``::``: all addresses of both families) and ``port`` (0: any
    free one, the same for every address of the host). Raises OSError."""
    if host == "::":
        host = ""
    if getattr(loop, "virtual_time", False):
        # Simulated: there are no descriptors.
        return await loop.create_server(factory, host or None, port)
    found = await loop.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for attempt in range(PORT_ATTEMPTS):
        try:
            return _accepting(loop, _bound_to(found, backlog, reuse_port), factory, tls)
        except OSError as error:
            # The port that one family had free may be taken in the other.
            if port or error.errno != errno.EADDRINUSE or attempt == PORT_ATTEMPTS - 1:
                raise
    raise AssertionError


def _bound_to(
    found: Sequence[tuple[Any, ...]], backlog: int, reuse_port: bool
) -> list[socket.socket]:
    """Listening sockets, one for each address, all on one port. Raises OSError."""
    sockets: list[socket.socket] = []
    port = 0
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                # A machine without IPv6, whose names have addresses of it all the same.
                if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue
                raise
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], address[1] or port, *address[2:]))
            port = port or sock.getsockname()[1]
        for sock in sockets:
            sock.listen(backlog)
            sock.setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def listen_unix(
    loop: asyncio.AbstractEventLoop,
    factory: Factory,
    path: str,
    *,
    backlog: int,
    tls: ssl.SSLContext | None = None,
) -> Acceptor:
    """Accept on a Unix socket at ``path``, in the place of one that nobody listens on any more.
    Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            if _answers(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            os.remove(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return _accepting(loop, [sock], factory, tls)


def _answers(path: str) -> bool:
    """Whether somebody listens on the Unix socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            pass  # its queue is full
    return True


def _accepting(
    loop: asyncio.AbstractEventLoop,
    sockets: list[socket.socket],
    factory: Factory,
    tls: ssl.SSLContext | None,
) -> Acceptor:
    acceptor = Acceptor(loop, sockets, factory, tls=tls)
    acceptor.start()
    return acceptor
