"""Addresses of host names, when most names may be bad: whose lookup hangs holds up no other.

A lookup is a call that cannot be withdrawn and may take ten seconds and more; a loop has a few
threads for all of its own, and a registry may list any number of names. So links have threads
beside them, by the kind of attempt (``dialing``): for those that calls wait for, for those that
were never tried, for the rest. Of each kind ``PLACES`` are looked up at once; one that takes longer
than lookups do gives its place to another, as long as there are fewer than ``THREADS_MAX`` threads.
The newest comes first: the oldest may be given up already.

One lookup serves all who ask for its name meanwhile; one that nobody waits for any more is not
begun. Threads end when they are not needed; a process that ends does not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import time
from typing import Final

PLACES: Final = (16, 8, 4)
THREADS_MAX: Final = (64, 48, 16)
SLOW_S: Final = 0.25
IDLE_S: Final = 5.0


def is_literal(host: str) -> bool:
    """Whether ``host`` is an address itself."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


class _Lookup:
    __slots__ = ("begun_s", "found", "host", "waiting")

    def __init__(self, host: str, found: asyncio.Future[list[str]]) -> None:
        self.host = host
        self.found = found
        self.waiting = 0
        self.begun_s = 0.0


class _Lane:
    """The lookups of one kind; all but ``changed`` under it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.line: list[_Lookup] = []
        self.under_way: set[_Lookup] = set()
        self.idle = 0
        self.threads = 0
        self.timer: asyncio.TimerHandle | None = None


class Resolver:
    """Looks names up for one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._by_host: dict[str, _Lookup] = {}
        self._lanes = tuple(_Lane() for _ in PLACES)

    async def lookup(self, host: str, kind: int) -> list[str]:
        """The addresses of ``host``, the preferred first; raises OSError, or ValueError for what
        cannot be a name."""
        lookup = self._by_host.get(host)
        if lookup is None:
            lookup = _Lookup(host, self._loop.create_future())
            self._by_host[host] = lookup
            lookup.waiting = 1
            self._begin(lookup, kind)
        else:
            lookup.waiting += 1
        try:
            return await asyncio.shield(lookup.found)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting and self._by_host.get(host) is lookup:
                # Nobody wants it, or it is there: who asks later asks anew.
                del self._by_host[host]

    def _begin(self, lookup: _Lookup, kind: int) -> None:
        with self._lanes[kind].changed:
            self._lanes[kind].line.append(lookup)
        self._give_places(kind)

    def _give_places(self, kind: int) -> None:
        # On the loop: as many threads as have a place.
        lane = self._lanes[kind]
        if lane.timer is not None:
            lane.timer.cancel()
            lane.timer = None
        with lane.changed:
            lane.line[:] = [each for each in lane.line if each.waiting]
            slow_s = time.monotonic() - SLOW_S
            free = PLACES[kind] - sum(each.begun_s > slow_s for each in lane.under_way)
            wanted = min(len(lane.line), free)
            lane.changed.notify(wanted)
            more = max(0, min(wanted - lane.idle, THREADS_MAX[kind] - lane.threads))
            lane.threads += more
            if len(lane.line) > wanted:
                lane.timer = self._loop.call_later(SLOW_S, self._give_places, kind)
        for _ in range(more):
            threading.Thread(
                target=self._work, args=(lane,), name=f"dragoman-names-{kind}", daemon=True
            ).start()

    def _work(self, lane: _Lane) -> None:
        while True:
            with lane.changed:
                if not lane.line:
                    lane.idle += 1
                    lane.changed.wait(IDLE_S)
                    lane.idle -= 1
                if not lane.line:
                    lane.threads -= 1
                    return
                lookup = lane.line.pop()
                lookup.begun_s = time.monotonic()
                lane.under_way.add(lookup)
            try:
                found = socket.getaddrinfo(lookup.host, None, type=socket.SOCK_STREAM)
                answer: list[str] | Exception = list(
                    dict.fromkeys(str(each[4][0]) for each in found)
                )
            except Exception as error:
                answer = error
            with lane.changed:
                lane.under_way.discard(lookup)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_settle, lookup, answer)


def _settle(lookup: _Lookup, answer: list[str] | Exception) -> None:
    if lookup.found.done():
        return
    if isinstance(answer, Exception):
        lookup.found.set_exception(answer)
        lookup.found.exception()  # whoever asked may have gone
    else:
        lookup.found.set_result(answer)
