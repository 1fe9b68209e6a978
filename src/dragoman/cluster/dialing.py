"""Connecting to many servers of which most may be dead: a budget of attempts, and who comes first.

A ``Dialer`` serves the peers of one loop, and the providers that are called without an agent
(``dubbo.upstream.direct``). Each has a ``DialedLink``, which keeps one connection as
``rpc.link.Link`` does, but has a task only while it connects: a registry may list any number of
addresses. An attempt costs the loop some tenths of a millisecond, a failed one as much, so attempts
are started at a bounded rate, and a bounded number at once (a host that swallows packets takes its
three seconds).

Who is waited for by calls, or was connected a moment ago, comes before those that were never tried,
and they before those that have failed. Each kind has a bound of its own, so that none waits for a
worse one. Invariant: a link is in one of the lines, or busy
(connecting or connected), or resting, or stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ssl
from collections.abc import Callable
from itertools import count
from typing import Final

from dragoman.cluster.resolving import Resolver, is_literal
from dragoman.reasons import reason
from dragoman.rpc.address import Address
from dragoman.rpc.backoff import Backoff
from dragoman.rpc.link import CONNECT_TIMEOUT_S

GOOD: Final = 0
NEW: Final = 1
DEAD: Final = 2
# Attempts a second of each kind, how many may be started together after a rest, and how many may
# be under way. Fifty dead ones a second take some hundredths of a loop.
RATES: Final = (400.0, 200.0, 50.0)
BURSTS: Final = (64.0, 32.0, 8.0)
UNDER_WAY_MAX: Final = (256, 64, 32)
# A server that was connected is good for so many attempts.
GOOD_ATTEMPTS: Final = 12
# However often it is registered anew, it is not hurried more often: the backoff begins anew then.
HURRY_S: Final = 0.5
TICK_S: Final = 0.005


class DialedLink:
    """Keeps one connection to ``address`` while started. See ``rpc.link.Link``, which it is like.

    ``needed`` is for calls that wait for it.
    """

    __slots__ = (
        "_address",
        "_backoff",
        "_dialer",
        "_factory",
        "_good",
        "_hurried_s",
        "_on_down",
        "_server_hostname",
        "_state",
        "_task",
        "_tls",
        "_turn",
        "attempts",
        "kind",
        "transport",
    )

    def __init__(
        self,
        dialer: Dialer,
        address: Address,
        factory: Callable[[], asyncio.BaseProtocol],
        on_down: Callable[[str], None],
        backoff: Backoff | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        self._dialer = dialer
        self._address = address
        self._factory = factory
        self._on_down = on_down
        self._backoff = backoff or Backoff()
        self._tls = tls
        self._server_hostname = server_hostname
        self._state = "idle"
        self._good = 0
        self._hurried_s = -HURRY_S
        self._turn = 0
        self._task: asyncio.Task[None] | None = None
        self.kind = NEW
        self.transport: asyncio.BaseTransport | None = None
        self.attempts = 0

    def start(self) -> None:
        """Begin connecting, or again after ``abandon``; returns at once."""
        if self.stopped:
            self._queue(GOOD if self._good else NEW)

    def held(self) -> None:
        """The connection works: the next loss starts with the least delay."""
        self._backoff.reset()
        self._good = GOOD_ATTEMPTS

    def lost(self) -> None:
        """The current connection has ended."""
        self.transport = None
        if self._state == "busy":
            self._rest()

    def hurry(self) -> None:
        """Try again now rather than after the backoff: it has been registered anew."""
        now_s = self._dialer.loop.time()
        if now_s < self._hurried_s + HURRY_S:
            return
        if self._state == "resting" or (self._state == "queued" and self.kind == DEAD):
            self._hurried_s = now_s
            self._backoff.reset()
            self._queue(NEW)

    def need(self) -> None:
        """Calls wait for it."""
        if self._state == "queued" and self.kind == NEW:
            self._queue(GOOD)

    @property
    def stopped(self) -> bool:
        """Whether no connection is kept."""
        return self._state in ("idle", "stopped")

    def abandon(self) -> None:
        """Connect no more; the current connection is left to its protocol."""
        self._turn += 1
        self._state = "stopped"
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """``abandon``, for those who await it."""
        self.abandon()

    def _queue(self, kind: int) -> None:
        self.kind = kind
        self._state = "queued"
        self._turn += 1
        self._dialer.queue(self, self._turn)

    def _rest(self) -> None:
        """Wait for the next attempt."""
        self._state = "resting"
        self._turn += 1
        self._dialer.queue_later(self, self._turn, self._backoff.next_s())

    def due(self, turn: int) -> None:
        """It has rested; called by the dialer."""
        if turn == self._turn and self._state == "resting":
            self._queue(GOOD if self._good else DEAD)

    def waits(self, turn: int) -> bool:
        """Whether it still stands in line in this turn; asked by the dialer."""
        return turn == self._turn and self._state == "queued"

    def dial(self) -> None:
        """Connect now; called by the dialer."""
        self._state = "busy"
        self._good = max(self._good - 1, 0)
        self.attempts += 1
        self._task = self._dialer.loop.create_task(self._connect(self.kind))

    async def _connect(self, kind: int) -> None:
        why = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # The connection may have been lost before this returns.
                self.transport = await self._connected(kind)
        except TimeoutError:
            why = f"no connection within {CONNECT_TIMEOUT_S:g} s"
        except OSError as error:
            why = reason(error)
        except ValueError as error:
            # A host name that cannot be one, or TLS without a name to check.
            why = str(error)
        except Exception as error:
            # A fault of ours or of the loop's: who waits for a connection is to hear of it.
            why = f"{type(error).__name__}: {error}"
        finally:
            self._dialer.ended(kind)
        self._task = None
        if why is not None and self._state == "busy":
            self._rest()
            self._on_down(why)

    async def _connected(self, kind: int) -> asyncio.BaseTransport:
        dialer, address = self._dialer, self._address
        name = self._server_hostname
        if dialer.resolver is None or address.path or is_literal(address.host):
            return await address.connect(dialer.loop, self._factory, self._tls, name)
        if self._tls is not None and name is None:
            name = address.host
        found = await dialer.resolver.lookup(address.host, kind)
        for host in found[:-1]:
            with contextlib.suppress(OSError):
                one = Address(host=host, port=address.port)
                return await one.connect(dialer.loop, self._factory, self._tls, name)
        last = Address(host=found[-1], port=address.port)
        return await last.connect(dialer.loop, self._factory, self._tls, name)


class Dialer:
    """Starts the attempts of all links of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # A simulated network knows names itself.
        simulated = getattr(loop, "virtual_time", False)
        self.resolver = None if simulated else Resolver(loop)
        # By kind: those in line, in their order; who has left it is passed over.
        self._lines: tuple[list[tuple[int, DialedLink, int]], ...] = ([], [], [])
        self._numbers = count()
        self._resting: list[tuple[float, int, DialedLink, int]] = []
        self._tokens = list(BURSTS)
        self._under_way = [0, 0, 0]
        self._counted_s = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def queue(self, link: DialedLink, turn: int) -> None:
        """``link`` stands in line from now on."""
        heapq.heappush(self._lines[link.kind], (next(self._numbers), link, turn))
        self._wake(self.loop.time())

    def queue_later(self, link: DialedLink, turn: int, delay_s: float) -> None:
        """``link`` is to be told when it has rested for so long."""
        due_s = self.loop.time() + delay_s
        heapq.heappush(self._resting, (due_s, next(self._numbers), link, turn))
        self._wake(due_s)

    def ended(self, kind: int) -> None:
        """An attempt has ended."""
        self._under_way[kind] -= 1
        if any(self._lines):
            self._wake(self.loop.time())

    def _wake(self, due_s: float) -> None:
        """Have the lines looked at then, if not earlier."""
        if self._timer is not None:
            if self._due_s <= due_s:
                return
            self._timer.cancel()
        self._due_s = due_s
        self._timer = self.loop.call_later(max(due_s - self.loop.time(), 0.0), self._run)

    def _run(self) -> None:
        self._timer = None
        now_s = self.loop.time()
        passed_s, self._counted_s = now_s - self._counted_s, now_s
        for kind, rate in enumerate(RATES):
            self._tokens[kind] = min(self._tokens[kind] + rate * passed_s, BURSTS[kind])
        while self._resting and self._resting[0][0] <= now_s:
            _, _, link, turn = heapq.heappop(self._resting)
            link.due(turn)
        for kind, line in enumerate(self._lines):
            while line and self._tokens[kind] >= 1 and self._under_way[kind] < UNDER_WAY_MAX[kind]:
                _, link, turn = heapq.heappop(line)
                if link.waits(turn):
                    self._tokens[kind] -= 1
                    self._under_way[kind] += 1
                    link.dial()
        for kind, line in enumerate(self._lines):
            if line and self._under_way[kind] < UNDER_WAY_MAX[kind]:
                # For want of tokens; else the end of an attempt wakes.
                self._wake(now_s + TICK_S)
                return
        if self._resting:
            self._wake(self._resting[0][0])

    def statistics(self) -> dict[str, int]:
        """How many stand in line, rest and connect."""
        return {
            "in_line": sum(map(len, self._lines)),
            "resting": len(self._resting),
            "connecting": sum(self._under_way),
        }
