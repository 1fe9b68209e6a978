"""A restart without a gap: the agent that runs passes its listening sockets to the one that comes.

A consumer's agent, once it is ready, offers its sockets (``Offer``); one that is started with
``--takeover`` takes them (``take``), begins to serve on them, says so (``Inherited.ready``), and
then the old one drains. What waits in the sockets' queues is nobody's loss, since they are never
closed. If the new one ends before it is ready, the old one has only gone on.

They meet at an abstract Unix socket, which is named by the address that is listened on: such names
live in the same network namespace as ports, belong to no file that could be left behind, and end
with their process. Anybody may connect to one, so each end asks the kernel whose process the other
is, and has to do only with its own user.

On a connection (``SOCK_SEQPACKET``), each record JSON of one of the types below::

    new -> old   Take
    old -> new   Socket, with one descriptor (SCM_RIGHTS); ``left`` follow
    new -> old   Alive, every ``BEAT_S``, while it reads its registry, which may be away
    new -> old   Ready
    old -> new   Going: the name is free, and it drains

Invariant: one new agent at a time; nothing changes for the old one before ``Ready``. One that says
nothing for ``SILENT_S`` is given up and keeps nobody out: should it be ready after all, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from dragoman.errors import UsageError

log = logging.getLogger("dragoman.takeover")

SUPPORTED: Final = sys.platform == "linux"
VERSION: Final = 2
RECORD_BYTES_MAX: Final = 4096
SOCKETS_MAX: Final = 1024
ANSWER_S: Final = 15.0
BEAT_S: Final = 1.0
SILENT_S: Final = 10.0
REFUSING_MAX: Final = 8
NAME_TRIES: Final = 100
NAME_PAUSE_S: Final = 0.05
_CREDENTIALS: Final = struct.Struct("3i")


class Take(msgspec.Struct, frozen=True, tag="take"):
    """The new agent asks for the sockets."""

    version: int = VERSION


class Socket(msgspec.Struct, frozen=True, tag="socket"):
    """One of them: what it is for, and whether the agents own it (else whoever started them)."""

    kind: Literal["listen", "admin"]
    own: bool
    left: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The old agent's no."""

    why: str


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """The new agent is not ready yet."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The new agent serves."""


class Going(msgspec.Struct, frozen=True, tag="going"):
    """The old agent drains."""


Record = Take | Socket | Refused | Alive | Ready | Going
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder().encode
R = TypeVar("R")


class Handed(NamedTuple):
    """The sockets that an agent listens on."""

    listen: Sequence[socket.socket]
    admin: Sequence[socket.socket]
    own: bool


class Broken(Exception):
    """The other end is gone, silent, or speaks otherwise."""


class Silent(Broken):
    """The other end has said nothing in time."""


class Declined(Broken):
    """The other end says no."""


def name_of(address: str) -> str:
    """The address at which the agent that listens on ``address`` is met, in numbers, as its socket
    has it."""
    return f"\0dragoman-takeover-{address}"


def is_met(address: str) -> bool:
    """Whether an agent that listens on ``address`` could be asked."""
    if not SUPPORTED:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        try:
            sock.connect(name_of(address))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


async def _record(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, within_s: float
) -> tuple[Record, list[int]]:
    """The next record, and the descriptors with it. Raises Broken."""
    arrived = loop.create_future()

    def readable() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(sock.fileno(), readable)
    try:
        async with asyncio.timeout(within_s):
            await arrived
        try:
            data, descriptors, _, _ = socket.recv_fds(sock, RECORD_BYTES_MAX, 8)
        except ConnectionResetError:
            # It closed on something that it had not read: what it said before is still there.
            data, descriptors, _, _ = socket.recv_fds(sock, RECORD_BYTES_MAX, 8)
    except TimeoutError:
        raise Silent("it does not answer in time") from None
    except OSError as error:
        raise Broken(f"the connection broke: {os.strerror(error.errno or 0)}") from None
    finally:
        loop.remove_reader(sock.fileno())
    try:
        if not data:
            raise Broken("it is gone")
        record = _decoder.decode(data)
        if isinstance(record, Refused):
            raise Declined(record.why)
    except msgspec.MsgspecError:
        _close_all(descriptors)
        raise Broken("it speaks otherwise") from None
    except Broken:
        _close_all(descriptors)
        raise
    return record, descriptors


async def _receive(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, kind: type[R], within_s: float
) -> tuple[R, list[int]]:
    """The next record, which must be of ``kind``, and the descriptors with it. Raises Broken."""
    record, descriptors = await _record(loop, sock, within_s)
    if not isinstance(record, kind):
        _close_all(descriptors)
        raise Broken(f"it says {type(record).__name__}, expected {kind.__name__}")
    return record, descriptors


def _send(sock: socket.socket, record: Record, descriptors: Sequence[int] = ()) -> None:
    """Send a record; never waits. Raises Broken."""
    try:
        socket.send_fds(sock, [_encode(record)], list(descriptors))
    except OSError as error:
        raise Broken(f"the connection broke: {os.strerror(error.errno or 0)}") from None


def _close_all(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        os.close(each)


class Inherited:
    """What the old agent, process ``pid``, has passed. ``listen`` and ``admin`` are whose takes
    them; ``ready`` ends the old agent's service, ``close`` leaves it as it is."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        pid: int,
        passed: Sequence[tuple[Socket, socket.socket]],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._beat: asyncio.TimerHandle | None = None
        self.pid = pid
        self.listen = [each for what, each in passed if what.kind == "listen"]
        self.admin = [each for what, each in passed if what.kind == "admin"]
        self.own = all(what.own for what, _ in passed)
        self._say_alive()

    async def ready(self) -> None:
        """Tell the old agent that this one serves, and return when it has let the name go.

        Raises UsageError when it has given this one up: then another may have its place.
        """
        self._fall_silent()
        try:
            with contextlib.suppress(Broken):
                # What it has said before is read all the same.
                _send(self._sock, Ready())
            await _receive(self._loop, self._sock, Going, ANSWER_S)
        except Declined as error:
            raise UsageError(f"--takeover: the agent before, process {self.pid}: {error}") from None
        except Broken as error:
            log.warning("the agent before, process %d, may still serve: %s", self.pid, error)
        finally:
            self._sock.close()

    def close(self) -> None:
        """Want nothing more of the old agent."""
        self._fall_silent()
        self._sock.close()

    def _say_alive(self) -> None:
        with contextlib.suppress(Broken):
            _send(self._sock, Alive())
        self._beat = self._loop.call_later(BEAT_S, self._say_alive)

    def _fall_silent(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None


async def take(address: str) -> Inherited | None:
    """Ask the agent that listens on ``host:port`` for its sockets; None if there is none.

    Raises UsageError when there is one that does not pass them.
    """
    if not SUPPORTED:
        raise UsageError("--takeover: only Linux has what it needs")
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passed: list[tuple[Socket, socket.socket]] = []
    try:
        sock.setblocking(False)
        try:
            sock.connect(name_of(address))
        except (ConnectionRefusedError, FileNotFoundError):
            sock.close()
            return None
        except OSError as error:
            raise Broken(os.strerror(error.errno or 0)) from None
        pid, uid = _peer(sock)
        if uid != os.geteuid():
            raise Broken(f"it is process {pid} of another user ({uid})")
        _send(sock, Take())
        left = 1
        while left:
            what, descriptors = await _receive(loop, sock, Socket, ANSWER_S)
            passed += ((what, socket.socket(fileno=each)) for each in descriptors)
            if len(descriptors) != 1 or len(passed) > SOCKETS_MAX:
                raise Broken("it passes something else than sockets")
            left = what.left
        for _, each in passed:
            each.setblocking(False)
        return Inherited(loop, sock, pid, passed)
    except BaseException as error:
        sock.close()
        for _, each in passed:
            each.close()
        if isinstance(error, Broken):
            raise UsageError(f"--takeover: the agent on {address}: {error}") from None
        raise


class Offer:
    """Passes an agent's sockets to the next one. ``sockets`` gives them when they are asked for;
    ``on_handed(pid)`` is called when process ``pid`` serves on them, and this agent is to drain."""

    def __init__(
        self,
        address: str,
        sockets: Callable[[], Handed],
        on_handed: Callable[[int], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._sockets = sockets
        self._on_handed = on_handed
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Be there to be asked. Says so in the log when it cannot."""
        if not SUPPORTED:
            return
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        for tries_left in reversed(range(NAME_TRIES)):
            try:
                listener.bind(name_of(self._address))
                listener.listen(8)
                break
            except OSError as error:
                # An agent before this one may take a moment to let the name go.
                if not tries_left:
                    listener.close()
                    why = os.strerror(error.errno or 0)
                    log.warning("no later agent can take over: its meeting place: %s", why)
                    return
                try:
                    await asyncio.sleep(NAME_PAUSE_S)
                except BaseException:
                    listener.close()
                    raise
        self._listener = listener
        self._loop.add_reader(listener.fileno(), self._asked, listener)

    def close(self) -> None:
        """Offer nothing more."""
        self._withdraw()
        for task in (self._task, *self._refusing):
            if task is not None:
                task.cancel()

    def _withdraw(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def _asked(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        pid, uid = _peer(sock)
        if uid != os.geteuid():
            log.warning("process %d of another user (%d) asks to take over", pid, uid)
            self._refuse(sock, "it belongs to another user")
        elif self._task is not None and not self._task.done():
            self._refuse(sock, "another agent is taking over from it")
        else:
            self._task = self._loop.create_task(self._hand(sock, pid))

    def _refuse(self, sock: socket.socket, why: str) -> None:
        async def answer() -> None:
            # What it asks is read first: closing on it would make the kernel drop the answer.
            with sock, contextlib.suppress(Broken):
                await _receive(self._loop, sock, Take, ANSWER_S)
                _send(sock, Refused(why))

        if len(self._refusing) >= REFUSING_MAX:
            sock.close()
            return
        task = self._loop.create_task(answer())
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    async def _hand(self, sock: socket.socket, pid: int) -> None:
        try:
            asked, _ = await _receive(self._loop, sock, Take, ANSWER_S)
            if asked.version != VERSION:
                _send(sock, Refused(f"it knows version {VERSION}, not {asked.version}"))
                return
            handed = self._sockets()
            each: list[tuple[Literal["listen", "admin"], socket.socket]] = []
            each += (("listen", one) for one in handed.listen)
            each += (("admin", one) for one in handed.admin)
            if not handed.listen:
                _send(sock, Refused("it does not listen now"))
                return
            log.info("process %d is taking over", pid)
            for i, (kind, one) in enumerate(each):
                what = Socket(kind, handed.own, len(each) - i - 1)
                _send(sock, what, [one.fileno()])
            # It reads its registry first, which may be away: it may come as long as it is there.
            record: Record = Alive()
            try:
                while isinstance(record, Alive):
                    record, descriptors = await _record(self._loop, sock, SILENT_S)
                    _close_all(descriptors)
            except Silent:
                silent = f"it was silent for {SILENT_S:g} s"
                _send(sock, Refused(f"{silent} and has been given up"))
                raise Broken(silent) from None
            if not isinstance(record, Ready):
                raise Broken(f"it says {type(record).__name__}, expected Ready")
            self._withdraw()
            _send(sock, Going())
            self._on_handed(pid)
        except Broken as error:
            if self._listener is None:
                # It said that it serves, and was gone before it was answered.
                self._task = None
                await self.start()
            log.warning("process %d has not taken over: %s", pid, error)
        finally:
            sock.close()
