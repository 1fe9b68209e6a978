"""ZooKeeper on the event loop: the kazoo client behind futures and callbacks of one loop.

kazoo has threads of its own; nothing of them is seen outside this module. Made by
``zookeeper.ZookeeperRegistry``. Invariants: every callback and every future is dealt with on the
loop; kazoo's exceptions leave as RegistryError; after ``close`` nothing is called any more.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL

from dragoman.errors import RegistryError

log = logging.getLogger("dragoman.registry")

# What kazoo logs says nothing that is not said here, and names secrets: its logger is in
# nobody's tree, where no configuration of logging reaches it.
_silent = logging.Logger("kazoo", logging.CRITICAL + 1)

RECONNECT_LEAST_S: Final = 0.1
RECONNECT_MOST_S: Final = 0.7
CLOSE_TIMEOUT_S: Final = 3.0


class NoNode(RegistryError):
    """There is no node of that path."""


class NodeExists(RegistryError):
    """There is a node of that path already."""


class ZookeeperClient:
    """A session with an ensemble, kept and renewed. ``hosts`` are ``host:port``.

    ``on_connected(new_session)`` is called whenever the session stands again, ``on_lost()`` when
    the connection is gone; the session may still live then, or be over.
    """

    def __init__(
        self,
        hosts: list[str],
        *,
        user: str,
        password: str,
        session_timeout_s: float,
        request_timeout_s: float,
        on_connected: Callable[[bool], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._request_timeout_s = request_timeout_s
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._closed = False
        self._session_id = 0
        self.connected = False
        self.errors_total = 0
        self.sessions_lost_total = 0
        self.last_error = f"ZooKeeper at {','.join(hosts)} has not answered"
        self._hosts = hosts
        self._credentials = (user, password)
        self._session_timeout_s = session_timeout_s
        self._replacing: asyncio.TimerHandle | None = None
        self._kazoo = self._connect()
        self._unanswered = self._loop.call_later(request_timeout_s, self._tell_unanswered)

    def _tell_unanswered(self) -> None:
        """kazoo tries for ever, and says nothing of it."""
        if not self._session_id:
            log.warning("no list yet: %s", self.last_error)

    def _connect(self) -> KazooClient:
        user, password = self._credentials
        kazoo = KazooClient(
            hosts=",".join(self._hosts),
            timeout=self._session_timeout_s,
            auth_data=[("digest", f"{user}:{password}")] if user else [],
            default_acl=CREATOR_ALL_ACL if user else None,
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=RECONNECT_LEAST_S,
                backoff=2,
                max_jitter=0.3,
                max_delay=RECONNECT_MOST_S,
            ),
            logger=_silent,
        )

        def state_changed(state: str) -> None:
            # In one of kazoo's threads.
            client = kazoo.client_id
            self._soon(self._take_state, kazoo, state, client[0] if client else 0)

        kazoo.add_listener(state_changed)
        kazoo.start_async()
        return kazoo

    @property
    def session_id(self) -> int:
        """The session's id: what owns its ephemeral nodes; 0 before the first."""
        return self._session_id

    def _soon(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the loop is closed: nobody is left to tell

    def _take_state(self, kazoo: KazooClient, state: str, session: int) -> None:
        if self._closed or kazoo is not self._kazoo:
            return
        if state == KazooState.CONNECTED:
            if self._replacing is not None:
                self._replacing.cancel()
                self._replacing = None
            renewed = session != self._session_id
            if renewed and self._session_id:
                self.sessions_lost_total += 1
                log.warning("the ZooKeeper session was lost: there is a new one")
            self._session_id = session
            self.connected = True
            self._on_connected(renewed)
        elif self.connected:
            self.connected = False
            self.last_error = "the connection to ZooKeeper is lost"
            log.warning("%s: the last lists serve on", self.last_error)
            self._on_lost()
            self._replacing = self._loop.call_later(self._session_timeout_s, self._replace)

    def _replace(self) -> None:
        """Begin anew: a server whose data are older than what this session has seen (they were
        lost, and brought back from somewhere) refuses it for ever."""
        self._replacing = None
        if not self._closed:
            self._retire(self._kazoo)
            self._kazoo = self._connect()

    async def children(self, path: str, on_change: Callable[[], None] | None = None) -> list[str]:
        """The names of a node's children; ``on_change`` is called once, after the next change,
        however often the same one was given.

        Raises NoNode, and RegistryError when ZooKeeper does not answer.
        """
        found: list[str] = await self._ask(
            self._kazoo.get_children_async, path, watch=self._watcher(on_change)
        )
        return found

    async def exists(self, path: str, on_change: Callable[[], None] | None = None) -> int | None:
        """The session that owns a node, 0 for one that is not ephemeral; None if there is none."""
        found = await self._ask(self._kazoo.exists_async, path, watch=self._watcher(on_change))
        return None if found is None else found.ephemeralOwner

    async def data(self, path: str) -> bytes:
        """What a node holds. Raises NoNode."""
        found: tuple[bytes, Any] = await self._ask(self._kazoo.get_async, path)
        return found[0]

    async def create(self, path: str, *, ephemeral: bool) -> None:
        """Make a node, and what is above it. Raises NodeExists."""
        await self._ask(self._kazoo.create_async, path, b"", ephemeral=ephemeral, makepath=True)

    async def put(self, path: str, data: bytes) -> None:
        """Have a node that stays hold ``data``; what is above it is made."""
        try:
            await self._ask(self._kazoo.create_async, path, data, makepath=True)
        except NodeExists:
            await self._ask(self._kazoo.set_async, path, data)

    async def delete(self, path: str) -> None:
        """Delete a node. Raises NoNode."""
        await self._ask(self._kazoo.delete_async, path)

    async def close(self) -> None:
        """End the session, and with it its ephemeral nodes."""
        if self._closed:
            return
        self._closed = True
        self._unanswered.cancel()
        # Without a connection there is no session that could be ended, only one that runs out.
        in_session, self.connected = self.connected, False
        if self._replacing is not None:
            self._replacing.cancel()
        stopped = self._retire(self._kazoo)
        if not in_session:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(stopped)

    def _retire(self, kazoo: KazooClient) -> asyncio.Future[None]:
        """Stop one of kazoo's clients in a thread of its own: it may take longer than anybody
        wants to wait."""
        stopped: asyncio.Future[None] = self._loop.create_future()

        def stop() -> None:
            try:
                kazoo.stop()
                kazoo.close()
            except Exception as error:
                log.info("the ZooKeeper session ended badly: %s", type(error).__name__)
            self._soon(_settle, stopped)

        threading.Thread(target=stop, daemon=True).start()
        return stopped

    def _watcher(self, on_change: Callable[[], None] | None) -> _Watcher | None:
        return None if on_change is None else _Watcher(self, on_change)

    def _fire_soon(self, on_change: Callable[[], None]) -> None:
        """In one of kazoo's threads: something has changed."""
        self._soon(self._fire, on_change)

    def _fire(self, on_change: Callable[[], None]) -> None:
        if not self._closed:
            on_change()

    async def _ask(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call one of kazoo's asynchronous functions and wait for what it brings."""
        if not self.connected:
            self.errors_total += 1
            raise RegistryError(self.last_error)
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

        def finished(result: Any) -> None:
            # In kazoo's thread.
            self._soon(settle, result.value, result.exception)

        try:
            function(*arguments, **options).rawlink(finished)
            async with asyncio.timeout(self._request_timeout_s):
                return await future
        except NoNodeError:
            raise NoNode(f"{arguments[0]}: there is no such node") from None
        except NodeExistsError:
            raise NodeExists(f"{arguments[0]}: there is such a node already") from None
        except TimeoutError:
            why = f"ZooKeeper did not answer within {self._request_timeout_s:g} s"
        except ValueError:
            # Of what somebody else has registered.
            why = f"ZooKeeper: {arguments[0]}: a path that can be none"
        except KazooException as error:
            why = f"ZooKeeper: {_refusal(error)}"
        self.errors_total += 1
        self.last_error = why
        raise RegistryError(why)


def _refusal(error: KazooException) -> str:
    """Why ZooKeeper refused; kazoo's exceptions are its codes, and most say no more."""
    match type(error).__name__:
        case "NoAuthError" | "AuthFailedError":
            return "access is denied: user or password is wrong, or this is another's"
        case "ConnectionLoss" | "ConnectionClosedError" | "OperationTimeoutError":
            return "the connection was lost"
        case "SessionExpiredError" | "SessionMovedError":
            return "the session has ended"
        case other:
            return f"it refuses ({other})"


class _Watcher:
    """What kazoo calls at a node's next change. It keeps a set of them for each node until then:
    who looks again and again at a node that does not change is to be in it once."""

    __slots__ = ("_client", "_on_change")

    def __init__(self, client: ZookeeperClient, on_change: Callable[[], None]) -> None:
        self._client = client
        self._on_change = on_change

    def __call__(self, event: object) -> None:
        self._client._fire_soon(self._on_change)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Watcher) and self._on_change == other._on_change

    def __hash__(self) -> int:
        return hash(self._on_change)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
