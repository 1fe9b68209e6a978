"""A Dubbo provider for tests: answers as it is told, and knows what it was asked.

Programs start a ``DubboProvider`` in place of the provider that they call, on a real loop or on a
simulated one. It speaks Dubbo's frames in hessian2, fastjson and fastjson2, with the codec of
``dragoman.wire.dubbo``, and answers heartbeats and ``$echo`` by itself. ``dubbo.server`` serves
declared classes well; this serves anything, and badly if it is told to.

The invariant: a call is in ``calls`` before it is answered, and what a test did wrong (an assertion
of a callable that failed, a value that cannot be written) is raised where the provider is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from dragoman.accepting import Acceptor, listen
from dragoman.dubbo.types.declaration import Declaration, Method
from dragoman.errors import ConnectError, DragomanError, ProtocolError, UsageError
from dragoman.options import number, shown, text, whole
from dragoman.reasons import reason
from dragoman.registry import Registration, format_address
from dragoman.registry.names import EVERY, check_interface
from dragoman.registry.registration import LIMIT_MAX
from dragoman.testing import answers
from dragoman.testing.answering import Answering, check_value
from dragoman.testing.dubbo_connection import ProviderConnection
from dragoman.testing.received import SPOKEN, ReceivedCall, read_call, spoken_name
from dragoman.wire.dubbo.event import encode_readonly
from dragoman.wire.dubbo.frame import DubboFrame, Status

HOST: Final = "127.0.0.1"
_BACKLOG: Final = 128
_NOTHING: Final = object()


class DubboProvider:
    """Serves ``service`` on ``host`` and ``port`` (0: any free one) while it is in ``async with``.

    ``service`` is the name of a Java interface, or a class with ``@dubbo.service``, whose
    annotations then say how arguments and results travel; ``*`` is any interface, version and
    group. ``methods`` are answers by the names of methods in Java, one each, as for ``answer``.

    - ``version``, ``group``: of the service; a declared class's own unless they are given.
    - ``limit``: calls at work at once; one beyond it is answered with status 100 (None: no bound).
    - ``serializations``: what it reads, of ``hessian2``, ``fastjson`` and ``fastjson2``; a request
      in another is refused with status 40.

    ``calls`` are the calls that came, the oldest first, ``echoes`` those of ``$echo``, which is
    answered with its argument. ``heartbeats`` and ``connected`` count heartbeats and connections.
    Raises UsageError for what is out of range, ConnectError when the address cannot be had.
    """

    def __init__(
        self,
        service: str | type = EVERY,
        methods: Mapping[str, object] | None = None,
        *,
        host: str = HOST,
        port: int = 0,
        version: str | None = None,
        group: str | None = None,
        limit: int | None = None,
        serializations: tuple[str, ...] = tuple(SPOKEN),
    ) -> None:
        self._declaration = None if isinstance(service, str) else Declaration.of(service)
        if self._declaration is not None:
            self.interface = self._declaration.interface
            version = self._declaration.version if version is None else version
            group = self._declaration.group if group is None else group
        else:
            self.interface = str(service)
            if service != EVERY:
                check_interface(self.interface)
        self.version = text("version", version or "")
        self.group = text("group", group or "")
        self.limit = limit if limit is None else whole("limit", limit, 1, LIMIT_MAX)
        self.serializations = _spoken(serializations)
        self.host = text("host", host, empty=False)
        self.port = whole("port", port, 0, 65535)
        self.calls: list[ReceivedCall] = []
        self.echoes: list[ReceivedCall] = []
        self.heartbeats = 0
        self.connected = 0
        self.silent = False
        self._answers: dict[str, deque[object]] = {}
        self._connections: set[ProviderConnection] = set()
        self._listener: Acceptor | asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []
        # Of those who wait for a call, each of its own loop.
        self._waiting: set[asyncio.Event] = set()
        self.in_progress = 0
        methods = {} if methods is None else methods
        if not isinstance(methods, Mapping):
            raise UsageError(f"methods: expected answers by name, not {shown(methods)}")
        for name, one in methods.items():
            self.answer(name, one)

    # What a test says.

    def answer(self, method: str, *given: object) -> None:
        """Answer calls of ``method`` (its name in Java; ``*``: any other) with ``given``: the first
        call with the first of them, and so on; the last is for all calls that follow.

        Each is a value, an exception, which is thrown (a JavaError as its class), a callable, which
        is called with the arguments, may be a coroutine function, and returns or raises any of
        these, or one of ``dragoman.testing.answers``. What was said of the method before is
        forgotten. Raises UsageError for a value that cannot be written, and for a method that the
        declared class does not have.
        """
        text("method", method, empty=False)
        if not given:
            raise UsageError(f"{method}: expected at least one answer")
        declared = self._methods_of(method)
        for each in given:
            value = each
            while isinstance(value, answers.After | answers.Attached):
                value = value.answer
            if not (isinstance(value, BaseException | answers.Answer) or callable(value)):
                check_value(method, value, declared)
        self._answers[method] = deque(given)

    def calls_of(self, method: str) -> list[ReceivedCall]:
        """The calls of ``method`` that came, the oldest first."""
        return [call for call in self.calls if call.method == method]

    async def called(
        self, method: str = EVERY, count: int = 1, *, timeout_s: float = 5.0
    ) -> list[ReceivedCall]:
        """Return the calls of ``method`` (``*``: all) once there are ``count``. Raises
        AssertionError, which says how many there were, after the time."""
        whole("count", count, 0, 1 << 30)
        number("timeout_s", timeout_s, 0, answers.DELAY_S_MAX)

        def come() -> list[ReceivedCall]:
            return list(self.calls) if method == EVERY else self.calls_of(method)

        came = asyncio.Event()
        self._waiting.add(came)
        try:
            async with asyncio.timeout(timeout_s):
                while len(come()) < count:
                    came.clear()
                    await came.wait()
        except TimeoutError:
            raise AssertionError(
                f"{len(come())} calls of {method} within {timeout_s:g} s, expected {count}"
            ) from None
        finally:
            self._waiting.discard(came)
        return come()

    def announce_stop(self) -> None:
        """Tell every peer that it is about to stop: one that heard of it sends nothing new."""
        for connection in self._connections:
            connection.write(encode_readonly(0))

    def drop_connections(self) -> None:
        """Break every connection; new ones are accepted."""
        for connection in list(self._connections):
            connection.transport.abort()

    def fall_silent(self) -> None:
        """Write nothing from now on, no reply and no heartbeat, as a process that was stopped."""
        self.silent = True

    def speak(self) -> None:
        """Write what was held back since ``fall_silent``, and everything from now on."""
        self.silent = False
        for connection in self._connections:
            connection.flush()

    @property
    def address(self) -> str:
        """``host:port``, once it listens."""
        return format_address(self.host, self.port)

    @property
    def url(self) -> str:
        """``dubbo://host:port``, once it listens: what ``dubbo.Client`` and registries take."""
        return f"dubbo://{self.address}"

    def registration(self, **fields: Any) -> Registration:
        """What a registry is to list it as, ``fields`` in place of its own. Raises UsageError."""
        said: dict[str, Any] = {
            "interface": self.interface,
            "host": self.host,
            "port": self.port,
            "protocol": "dubbo",
            "serialization": self.serializations[0],
            "version": self.version,
            "group": self.group,
        }
        if self.limit is not None:
            said["limit"] = self.limit
        unknown = sorted(set(fields) - set(Registration.__struct_fields__))
        if unknown:
            raise UsageError(f"registration: no field {unknown[0]!r}")
        said |= fields
        if said["interface"] == EVERY:
            raise UsageError("registration: expected an interface: this provider serves any")
        return Registration(**said)

    async def start(self) -> DubboProvider:
        """Listen, on the same port as before if it was stopped. Raises ConnectError."""
        if self._listener is not None:
            raise UsageError(f"the provider at {self.address} has been started already")
        loop = asyncio.get_running_loop()
        try:
            self._listener = await listen(
                loop, lambda: ProviderConnection(self), self.host, self.port, backlog=_BACKLOG
            )
        except OSError as error:
            raise ConnectError(f"cannot listen on {self.address}: {reason(error)}") from None
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no longer, and break every connection. ``start`` has it back."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self.drop_connections()
        # A callable of the test's may be what stops it.
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> DubboProvider:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        faults = list(self._faults)
        # It may be entered again, which is not to fail for what went wrong before.
        self._faults.clear()
        if kind is None and faults:
            raise faults[0]

    def __repr__(self) -> str:
        state = "stopped" if self._listener is None else f"at {self.address}"
        return f"<DubboProvider of {self.interface}, {state}, {len(self.calls)} calls>"

    # What its connections say.

    def take(self, connection: ProviderConnection, frame: DubboFrame) -> None:
        """Record a request, and answer it."""
        try:
            name = spoken_name(frame.serialization)
            if name not in self.serializations:
                raise ProtocolError(f"serialization {name} is not spoken here")
            received = read_call(
                frame,
                self._declaration,
                connection=connection.number,
                at_s=asyncio.get_running_loop().time(),
            )
        except (DragomanError, UnicodeError, RecursionError) as error:
            if frame.two_way:
                message = f"Fail to decode request due to: {error}"
                connection.refuse(frame, Status.BAD_REQUEST, message)
            return
        call = received.call
        (self.echoes if received.is_echo else self.calls).append(call)
        for came in self._waiting:
            came.set()
        answering = Answering(connection, frame, received, self._faults.append)
        if not self._serves(call):
            answering.refuse(
                Status.SERVICE_NOT_FOUND,
                f"Not found exported service: {call.interface} in [{self.interface}]",
            )
            return
        if self.limit is not None and self.in_progress >= self.limit:
            answering.refuse(
                Status.POOL_EXHAUSTED, f"Thread pool is EXHAUSTED! Pool Size: {self.limit}"
            )
            return
        answer = self._answer_for(call.method)
        if answer is _NOTHING and received.is_echo:
            answer = call.arguments[0]
        if answer is _NOTHING or self._declares_otherwise(call):
            answering.refuse(
                Status.SERVICE_ERROR,
                f"Failed to invoke remote proxy method {call.method}, cause: Not found method "
                f'"{call.method}" in class {call.interface}.',
            )
            return
        self.in_progress += 1
        task = asyncio.get_running_loop().create_task(answering.run(answer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.in_progress -= 1
        self._tasks.discard(task)

    def add(self, connection: ProviderConnection) -> int:
        """A peer has connected; the connection's number."""
        self._connections.add(connection)
        self.connected += 1
        return self.connected

    def discard(self, connection: ProviderConnection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)

    def _serves(self, call: ReceivedCall) -> bool:
        version = "" if call.version == "0.0.0" else call.version
        return self.interface == EVERY or (call.interface, version, call.group) == (
            self.interface,
            self.version,
            self.group,
        )

    def _declares_otherwise(self, call: ReceivedCall) -> bool:
        """Whether no declared method of that name takes so many arguments."""
        named = [] if self._declaration is None else self._declaration.methods
        found = [each for each in named if each.name == call.method]
        count = len(call.arguments)
        return bool(found) and not any(
            each.least <= count <= len(each.parameters) for each in found
        )

    def _answer_for(self, method: str) -> object:
        """The next answer that was said for a method."""
        given = self._answers.get(method)
        if given is None and not method.startswith("$"):
            given = self._answers.get(EVERY)
        if given is None:
            return _NOTHING
        return given.popleft() if len(given) > 1 else given[0]

    def _methods_of(self, name: str) -> list[Method]:
        """The declared methods of a name; raises UsageError where there is none."""
        if self._declaration is None or name == EVERY or name.startswith("$"):
            return []
        methods = self._declaration.methods
        found = [each for each in methods if each.name == name]
        if not found:
            known = ", ".join(sorted({each.name for each in methods}))
            raise UsageError(f"{self.interface} has no method {name!r}, but {known}")
        return found


def _spoken(serializations: Any) -> tuple[str, ...]:
    """What a provider reads; raises UsageError."""
    if not isinstance(serializations, list | tuple) or not all(
        isinstance(each, str) and each in SPOKEN for each in serializations
    ):
        raise UsageError(
            f"serializations: expected some of {', '.join(SPOKEN)}, not {shown(serializations)}"
        )
    if not serializations:
        raise UsageError("serializations: expected at least one")
    return tuple(serializations)
